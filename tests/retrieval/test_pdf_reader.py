from __future__ import annotations

from pathlib import Path

import pytest

from openchatkit.retrieval.blocks import Block, UnreadableDocument
from openchatkit.retrieval.pdf_reader import read_pdf
from tests.retrieval.pdfs import REPORT, pdf


def test_pages_headings_paragraphs_and_tables_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "orla.pdf"
    path.write_bytes(pdf(REPORT, title="Orla: report 2025"))
    parsed = read_pdf(path)
    assert (parsed.title, parsed.date) == ("Orla: report 2025", "2026-03-12")
    assert parsed.blocks == (
        Block("Orla Freight carried 9 million tonnes. Revenue rose.", "Results", page=1),
        Block("Revenue (EUR million): 2025 412; 2024 388", "Results", whole=True, page=1),
        Block("Net debt fell to 64.", "Results", page=2),
        Block("Orla employs 6,100 people.", "People", page=2),
    )


def test_without_a_title_the_first_heading_is_one(tmp_path: Path) -> None:
    path = tmp_path / "orla.pdf"
    path.write_bytes(
        pdf([[(50, 700, 14, "Results"), *[(50, 600 - 12 * n, 10, f"Row {n}.") for n in range(5)]]])
    )
    assert read_pdf(path).title == "Results"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4 nothing", "broken PDF"),
        (b"", "broken PDF"),
        (pdf(REPORT)[:300], "broken PDF"),
        (pdf([[]]), "no text"),
        (pdf([]), "broken PDF"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    with pytest.raises(UnreadableDocument, match=reason):
        read_pdf(path)


def test_a_file_under_a_password_is_named_so(tmp_path: Path) -> None:
    # What the password is for does not matter: there is an encryption dictionary and no password fits.
    locked = (
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <" + b"00" * 32 + b"> /U <" + b"11" * 32 + b"> /P -4 >> "
        b"/ID [<" + b"22" * 16 + b"><" + b"22" * 16 + b">] /Root"
    )
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(REPORT).replace(b"/Root", locked))
    with pytest.raises(UnreadableDocument, match="encrypted"):
        read_pdf(path)
