"""HTML pages to blocks: what a reader of the page sees, without scripts, menus and hidden elements."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from openchatkit.retrieval.blocks import Block, Parsed, UnreadableDocument, iso_date, one_line, table_rows
from openchatkit.retrieval.filings import filing_labels, narrow_rows

MAX_HTML_DEPTH = 10_000
"""Elements open at once. The parser's time grows with their square, and no real page has so many."""

_BLANK = re.compile(r"\s+")
_DROPPED = (
    "script,style,noscript,template,svg,math,iframe,object,embed,canvas,audio,video,form,button,select,nav,"
    "footer,[hidden],[aria-hidden=true]"
)
_BLOCKS = (
    "p,div,li,dt,dd,tr,caption,blockquote,pre,section,article,main,header,aside,figure,figcaption,ul,ol,dl,"
    "table,address,center,hr,br + br"
)
_HEADINGS = "h1,h2,h3,h4,h5,h6"
# Tags that nest. The others have no end tag, or a parser closes them by itself.
_TAG = re.compile(
    r"<(/?)(?!(?:area|base|br|col|dd|dt|embed|hr|img|input|li|link|meta|option|p|param|source|tbody|td|tfoot|th"
    r"|thead|tr|track|wbr)[\s/>])[a-z]",
    re.IGNORECASE,
)
_INVISIBLE_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_DATE_METAS = (
    'meta[property="article:published_time"],meta[name="date"],meta[name="DC.date"],meta[name="dcterms.date"],'
    'meta[name="dc.date"],meta[itemprop="datePublished"],meta[name="article:published_time"]'
)
_MARK = "\x1e"
"""Record separator: no text holds it, `decode` has turned all control characters into blanks."""


def read_html(text: str) -> Parsed:
    """Read a page: title, headings, paragraphs, list items, tables row by row, the date of its metas.

    Raises:
        UnreadableDocument: the page cannot be parsed.
    """
    if _depth(text) > MAX_HTML_DEPTH:
        raise UnreadableDocument("nested too deep")
    try:
        return _read_html(LexborHTMLParser(text), text)
    except (SelectolaxError, ValueError, RuntimeError) as error:
        raise UnreadableDocument("broken HTML") from error


def _depth(text: str) -> int:
    """Return an upper bound of how deep elements are nested: tags opened and not closed."""
    depth = most = 0
    for match in _TAG.finditer(text):
        depth += -1 if match.group(1) else 1
        most = max(most, depth)
    return most


def _read_html(page: LexborHTMLParser, text: str) -> Parsed:
    body = page.body
    if body is None:
        return Parsed(())
    title_node, first = page.css_first("title"), page.css_first("h1")
    title = next(
        (one_line(node.text()) for node in (title_node, first) if node and node.text().strip()), None
    )
    labels = filing_labels(page, text)
    date = _html_date(page) or labels.get("date")
    link = page.css_first('link[rel="canonical"]')
    for node in page.css(_DROPPED):
        node.decompose()
    for node in page.css("[style]"):
        if node.parent and _INVISIBLE_STYLE.search(node.attributes.get("style") or ""):
            node.decompose()
    _flatten_tables(page)
    for node in page.css(_HEADINGS):
        node.insert_before(f"{_MARK}h ")
        node.insert_after(_MARK)
    for node in page.css(_BLOCKS):
        node.insert_before(_MARK)
        node.insert_after(_MARK)
    url = link.attributes.get("href") if link else None
    blocks = tuple(_html_blocks(body.text(deep=True), title))
    return Parsed(blocks, title=labels.get("title") or title, date=date, url=url, metadata=labels)


def _html_date(page: LexborHTMLParser) -> str | None:
    for node in page.css(_DATE_METAS):
        if date := iso_date(node.attributes.get("content") or ""):
            return date
    time = page.css_first("time[datetime]")
    return iso_date(time.attributes.get("datetime") or "") if time else None


def _flatten_tables(page: LexborHTMLParser) -> None:
    """Put the rows of each table that holds no other as marked lines in its place."""
    for table in page.css("table:not(:has(table))"):
        rows = narrow_rows([[cell.text() for cell in row.css("td,th")] for row in table.css("tr")])
        lines = "".join(f"{_MARK}r {row}{_MARK}" for row in table_rows(rows))
        table.replace_with(lines or " ")


def _html_blocks(text: str, title: str | None) -> Iterator[Block]:
    heading: str | None = None
    for piece in text.split(_MARK):
        kind, rest = piece[:2], piece[2:]
        flat = _BLANK.sub(" ", rest if kind in {"h ", "r "} else piece).strip()
        if not flat:
            continue
        if kind == "h ":
            heading = None if flat == title else one_line(flat)
        else:
            yield Block(flat, heading, whole=kind == "r ")
