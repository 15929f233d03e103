"""Sentences on disk, read by row: an Arrow file that is memory-mapped.

Parquet, the form in which a prepared index brings its sentences, is compressed in large groups: reading
one row means to unpack a hundred thousand. So it is rewritten once, as an uncompressed Arrow file, which
the system maps into memory; a row then costs a page or two, and the table's size costs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

BATCH_ROWS = 16_384
TEXT, TITLE, URL = "text", "title", "url"
TEXT_COLUMNS = ("text_snippet", "text", "sentence")
TITLE_COLUMNS = ("title", "article_title", "wiki_title")
URL_COLUMNS = ("url", "wiki_url")


class TableUnusable(ValueError):
    """A file that holds no sentence table."""


@dataclass(frozen=True, slots=True)
class SentenceRow:
    """A sentence, and the article that it stands in where the table says so."""

    text: str
    title: str | None
    url: str | None

    def same_article(self, other: SentenceRow) -> bool:
        """Return whether two sentences stand in one article; a table without articles is one."""
        return self.title == other.title and self.url == other.url


class SentenceTable:
    """The rows of a table made by `convert`. Safe for many threads; it never changes."""

    def __init__(self, path: Path) -> None:
        """Map a table.

        Raises:
            TableUnusable: there is none at `path`, or it is damaged.
        """
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise TableUnusable(f"{path.name} is no sentence table") from error
        self._names = frozenset(reader.schema.names)
        self._rows = sum(batch.num_rows for batch in self._batches)

    def __len__(self) -> int:
        return self._rows

    def row(self, number: int) -> SentenceRow:
        """Return a row; raises IndexError outside `0 .. len - 1`."""
        if not 0 <= number < self._rows:
            raise IndexError(number)
        batch = self._batches[number // BATCH_ROWS]
        values = {name: batch.column(name)[number % BATCH_ROWS].as_py() for name in self._names}
        return SentenceRow(values[TEXT] or "", values.get(TITLE), values.get(URL))


def convert(source: Path, target: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Write a Parquet table of sentences as a table to be mapped, and return its number of rows.

    Args:
        source: has a column of `TEXT_COLUMNS`, and one of `TITLE_COLUMNS` and `URL_COLUMNS` if any.
        target: replaced in one step, when all is written.
        progress: called with (done, total) rows.

    Raises:
        TableUnusable: no Parquet, no column with text, or one that is not text.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        with pq.ParquetFile(source) as table:
            columns = _columns(table.schema_arrow.names)
            schema = pa.schema([(name, pa.large_string()) for name in columns])
            done, total = 0, table.metadata.num_rows
            with pa.ipc.new_file(str(partial), schema) as writer:
                for rows in _even_batches(table, list(columns.values())):
                    renamed = rows.rename_columns(list(columns))
                    writer.write_table(renamed.cast(schema), max_chunksize=BATCH_ROWS)
                    done += rows.num_rows
                    if progress:
                        progress(done, total)
    except pa.ArrowException as error:
        raise TableUnusable(f"{source.name} cannot be read as a table of sentences") from error
    partial.replace(target)
    return done


def _even_batches(table: pq.ParquetFile, columns: list[str]) -> Iterator[pa.Table]:
    """Yield tables of `BATCH_ROWS` rows, the last one shorter: a row's batch is found by division."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns):
        waiting.append(batch)
        count += batch.num_rows
        while count >= BATCH_ROWS:
            joined = pa.Table.from_batches(waiting)
            yield joined.slice(0, BATCH_ROWS).select(columns).combine_chunks()
            rest = joined.slice(BATCH_ROWS)
            waiting, count = rest.to_batches(), rest.num_rows
    if count:
        yield pa.Table.from_batches(waiting).select(columns).combine_chunks()


def _columns(names: Sequence[str]) -> dict[str, str]:
    """Return our column names and theirs, in that order: text, then title and url where there are such."""
    found = {}
    for ours, theirs in ((TEXT, TEXT_COLUMNS), (TITLE, TITLE_COLUMNS), (URL, URL_COLUMNS)):
        if name := next((name for name in theirs if name in names), None):
            found[ours] = name
    if TEXT not in found:
        raise TableUnusable(f"the table has no column {' or '.join(TEXT_COLUMNS)}")
    return found
