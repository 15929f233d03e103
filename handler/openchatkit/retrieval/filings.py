"""What is special about a filing as EDGAR gives it: labels in inline XBRL, tables full of empty cells.

The names are those of the SEC's `dei` taxonomy and of the header of a full submission.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from selectolax.lexbor import LexborHTMLParser

from openchatkit.retrieval.blocks import iso_date, one_line

HEAD_CHARACTERS = 8_192
"""Where the header of a submission stands."""

_FACTS = {
    "dei:EntityRegistrantName": "company",
    "dei:DocumentType": "kind",
    "dei:DocumentPeriodEndDate": "period",
    "dei:TradingSymbol": "ticker",
}
_HEADER = {
    re.compile(r"^\s*COMPANY CONFORMED NAME:[ \t]*(\S.*)$", re.MULTILINE): "company",
    re.compile(r"^\s*CONFORMED SUBMISSION TYPE:[ \t]*(\S.*)$", re.MULTILINE): "kind",
    re.compile(r"^<TYPE>(\S{1,20})\s*$", re.MULTILINE): "kind",
    re.compile(r"^\s*CONFORMED PERIOD OF REPORT:[ \t]*(\d{8})\s*$", re.MULTILINE): "period",
    re.compile(r"^\s*FILED AS OF DATE:[ \t]*(\d{8})\s*$", re.MULTILINE): "filed",
}
_LONG_DATE = re.compile(r"\b([A-Z][a-z]{2,8})\.? (\d{1,2}), ?(\d{4})\b")
_MONTHS = {
    name: n
    for n, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_OPENING = frozenset({"$", "€", "£", "¥", "(", "($", "$(", "€(", "£("})
_CLOSING = frozenset({")", "%", ")%", "pts", "x"})


def filing_labels(page: LexborHTMLParser, text: str) -> dict[str, str]:
    """Return a filing's company, kind, period, date and title; empty for any other page."""
    labels: dict[str, str] = {}
    head = text[:HEAD_CHARACTERS]
    for pattern, name in _HEADER.items():
        if match := pattern.search(head):
            labels.setdefault(name, one_line(match.group(1)))
    if "dei:" in text:
        for node in page.css("[name]"):
            fact = _FACTS.get(node.attributes.get("name") or "")
            if fact and (node.tag or "").startswith("ix:") and (value := one_line(node.text())):
                labels.setdefault(fact, value)
    if not {"company", "kind"} <= labels.keys():
        return {}
    for name in ("period", "filed"):
        if name in labels:
            labels[name] = _calendar(labels[name]) or labels[name]
    date = iso_date(labels.get("filed", "")) or iso_date(labels.get("period", ""))
    period = f" ({labels['period']})" if "period" in labels else ""
    title = {"title": f"{labels['company']} {labels['kind']}{period}"}
    return labels | title | ({"date": date} if date else {})


def _calendar(value: str) -> str | None:
    """`20251231` or `December 31, 2025` as ISO 8601."""
    if re.fullmatch(r"\d{8}", value):
        return iso_date(f"{value[:4]}-{value[4:6]}-{value[6:]}")
    match = _LONG_DATE.search(value)
    month = _MONTHS.get(match.group(1)[:3].lower()) if match else None
    return iso_date(f"{match.group(3)}-{month:02}-{int(match.group(2)):02}") if match and month else None


def narrow_rows(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return a table's rows with signs joined to their amounts and without the cells that hold them apart.

    `["Revenue", "", "$", "412", "", "(", "3", ")"]` gives `["Revenue", "$412", "(3)"]`. An ordinary
    table, in which an empty cell means something, is returned as it is.
    """
    flat = [[one_line(cell, 400) for cell in row] for row in rows]
    cells = [cell for row in flat for cell in row]
    signs = any(cell in _OPENING or cell in _CLOSING for cell in cells)
    return [_narrow(row) for row in flat] if signs or cells.count("") * 2 > len(cells) else flat


def _narrow(row: Sequence[str]) -> list[str]:
    narrow = list(row[:1])
    opening = ""
    for cell in row[1:]:
        if cell in _OPENING:
            opening += cell
        elif cell in _CLOSING and len(narrow) > 1:
            narrow[-1] += cell
        elif cell:
            narrow.append(opening + cell)
            opening = ""
    return narrow
