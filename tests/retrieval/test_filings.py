from __future__ import annotations

from openchatkit.retrieval.filings import narrow_rows
from openchatkit.retrieval.html_reader import read_html
from openchatkit.retrieval.markdown_reader import read_text

FILING = """<?xml version='1.0' encoding='ASCII'?>
<html xmlns:ix="http://www.xbrl.org/2013/inlineXBRL"><head><title>orla-20251231</title></head><body>
<div style="display:none"><ix:header><ix:hidden><ix:nonNumeric name="dei:AmendmentFlag">secret</ix:nonNumeric>
</ix:hidden></ix:header></div>
<p>Form <ix:nonNumeric name="dei:DocumentType" contextRef="c">10-K</ix:nonNumeric></p>
<p><ix:nonNumeric name="dei:EntityRegistrantName" contextRef="c">ORLA FREIGHT INC</ix:nonNumeric></p>
<p>For the year ended <ix:nonNumeric name="dei:DocumentPeriodEndDate" contextRef="c">December 31, 2025
</ix:nonNumeric></p>
<div><span style="font-weight:700">Revenue</span> rose because of <ix:nonFraction>9</ix:nonFraction> ships.
</div>
<table><tr><td colspan="3"></td><td colspan="3">2025</td><td></td><td colspan="3">2024</td></tr>
<tr><td colspan="3">Revenue</td><td>$</td><td><ix:nonFraction>412</ix:nonFraction></td><td></td><td></td>
<td>$</td><td>388</td><td></td></tr>
<tr><td colspan="3">Net loss</td><td></td><td>(31</td><td>)</td><td></td><td></td><td>(29</td><td>)</td></tr>
</table></body></html>"""


def test_a_filing_says_whose_it_is_and_keeps_its_tables() -> None:
    parsed = read_html(FILING)
    assert parsed.title == "ORLA FREIGHT INC 10-K (2025-12-31)"
    assert parsed.date == "2025-12-31"
    assert {
        "company": "ORLA FREIGHT INC",
        "kind": "10-K",
        "period": "2025-12-31",
    }.items() <= parsed.metadata.items()
    texts = [block.text for block in parsed.blocks]
    assert "Revenue rose because of 9 ships." in texts
    assert "Revenue: 2025 $412; 2024 $388" in texts
    assert "Net loss: 2025 (31); 2024 (29)" in texts
    assert "secret" not in " ".join(texts)


def test_the_header_of_a_submission_gives_the_date_of_filing() -> None:
    header = (
        "CONFORMED SUBMISSION TYPE:\t8-K\nFILED AS OF DATE:\t\t20260203\n"
        "\t\tCOMPANY CONFORMED NAME:\t\t\tORLA FREIGHT INC\n<DOCUMENT>\n<TYPE>8-K\n<TEXT>\n"
    )
    parsed = read_html(f"{header}<html><body><p>A fire.</p></body></html>")
    assert (parsed.date, parsed.metadata["kind"]) == ("2026-02-03", "8-K")


def test_other_pages_have_no_labels() -> None:
    assert read_html("<p>dei: 10-K</p>").metadata == {}
    assert read_text("x").metadata == {}


def test_an_ordinary_table_stays_as_it_is() -> None:
    rows = [["", "2025", "2024"], ["Revenue", "", "412"]]
    assert narrow_rows(rows) == rows
    assert narrow_rows([["Revenue", "", "$", "412", "", "(", "3", ")", "5", "%"]]) == [
        ["Revenue", "$412", "(3)", "5%"]
    ]
