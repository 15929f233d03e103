"""Words in common between a question and a sentence: an index by BM25 (Tantivy), and rarities.

A sentence embedding blurs what sets two sentences of annual reports apart: the company, the year, the
name of a product. The index finds the sentences with the question's rare words; how much of the
question's weight in rare words a candidate holds (`coverage`) then goes into its score.

The index is a folder of files that are mapped into memory. What it holds of a sentence are its own
words, those of its title, company and heading, and those of the sentence that it leans on.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import tantivy

from openchatkit.ports import Filters
from openchatkit.retrieval.document_table import Found
from openchatkit.retrieval.manifest import IndexUnusable

TITLE_WEIGHT = 0.7
"""Of a word that stands in the title or the heading only."""
LEANING_WEIGHT = 0.5
"""Of a word that stands only in the sentence that this one leans on."""
MAX_QUESTION_TERMS = 64
"""The rarest ones of a longer question."""
WRITER_BYTES = 1_000_000_000
"""Most memory for what is not written yet. Within it all rows make one segment."""

_WORD = re.compile(r"[^\W_]+(?:[.,'’&-][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s?$")
_ENDINGS = ("ing", "ie", "ied", "edly", "ed", "ly", "er", "ion", "e", "y")
_STOP_WORDS = frozenset(
    re.split(
        r"\s+",
        """a an the of in on at to for from by with and or is are was were be been being do does did has have
        had how what which who whom whose when where why much many long it its his her this that these those
        as than then there into over out up will would can could should may might not no i you we they he she
        me my your our say tell about any some all""",
    )
)
# What finance writes both ways.
_ABBREVIATIONS: Mapping[str, tuple[str, ...]] = {
    "ceo": ("chief", "executive"),
    "cfo": ("chief", "financial"),
    "coo": ("chief", "operating"),
    "r&d": ("research", "development"),
    "ipo": ("public", "offering"),
    "capex": ("capital", "expenditure"),
}
_FIELD = "terms"
_LABELS = ("company", "kind", "source")


def terms(text: str) -> set[str]:
    """Return the words of a text that mean something, lower case, without their endings."""
    return set(_term_list(text))


def _term_list(text: str) -> list[str]:
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        found += _terms_of(word)
    return found


@lru_cache(65_536)
def _terms_of(word: str) -> tuple[str, ...]:
    word = _POSSESSIVE.sub("", word)
    if not word or word in _STOP_WORDS:
        return ()
    parts = [part for part in word.split("-") if part] if "-" in word else []
    return (_stem(word), *map(_stem, _ABBREVIATIONS.get(word, ())), *map(_stem, parts))


def _stem(word: str) -> str:
    if word[0].isdigit():
        return word
    # The plural goes first: `acquisitions` and `acquisition` are to end alike.
    for endings in (("s",), _ENDINGS):
        ending = next((e for e in endings if word.endswith(e) and len(word) - len(e) >= 3), "")
        word = word[: len(word) - len(ending)]
    return word


def _about(found: Found) -> str:
    return f"{found.document.title} {found.document.company or ''} {found.sentence.place or ''}"


def weighed_terms(found: Found) -> dict[str, float]:
    """Return what a sentence can be found by, and how much each word counts there."""
    weights = dict.fromkeys(terms(_about(found)), TITLE_WEIGHT)
    for term in terms(found.before or ""):
        weights.setdefault(term, LEANING_WEIGHT)
    return weights | dict.fromkeys(terms(found.sentence.text), 1.0)


def coverage(found: Found, rarities: Mapping[str, float]) -> float:
    """Return the share of a question's weight in words that a sentence holds, in [0, 1].

    Args:
        found: the sentence.
        rarities: of the question's words (`LexicalIndex.rarities`).
    """
    total = sum(rarities.values())
    if not total:
        return 0.0
    weights = weighed_terms(found)
    return sum(rarity * weights.get(term, 0.0) for term, rarity in rarities.items()) / total


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field(_FIELD, tokenizer_name="whitespace", index_option="freq")
    builder.add_unsigned_field("row", indexed=False, fast=True)
    builder.add_unsigned_field("date", indexed=True, fast=True)
    for label in _LABELS:
        builder.add_text_field(label, tokenizer_name="raw", index_option="basic")
    schema: tantivy.Schema = builder.build()
    return schema


class LexicalIndex:
    """A folder's index of words. One object serves many threads."""

    def __init__(self, folder: Path) -> None:
        """Open an index.

        Raises:
            IndexUnusable: the folder holds none.
        """
        # Tantivy writes a lock file beside what it reads, and an index may lie on a read-only disk.
        links = Path(tempfile.mkdtemp(prefix="openchatkit-words-"))
        weakref.finalize(self, shutil.rmtree, links, ignore_errors=True)
        try:
            for path in folder.iterdir():
                (links / path.name).symlink_to(path.resolve())
            self._index = tantivy.Index.open(str(links))
            self._schema = self._index.schema
            self._searcher = self._index.searcher()
        except (ValueError, OSError) as error:
            raise IndexUnusable("a damaged index of words") from error
        self.rows = int(self._searcher.num_docs)

    @staticmethod
    def build(folder: Path, batches: Iterable[Sequence[Found]]) -> None:
        """Write the index of all rows, in their order, into a new folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # One thread and one segment: the same rows give the same bytes.
        writer = tantivy.Index(_schema(), path=str(folder)).writer(WRITER_BYTES, 1)
        for batch in batches:
            for found in batch:
                writer.add_document(_entry(found))
        writer.commit()
        writer.wait_merging_threads()
        _name_segments(folder)

    def rarities(self, question: str) -> dict[str, float]:
        """Return how much each word of a question says. Words that stand in no row are left out."""
        found = {}
        for term in sorted(terms(question)):
            held = self._searcher.doc_freq(_FIELD, term)
            if held:
                found[term] = math.log(1 + (self.rows - held + 0.5) / (held + 0.5))
        if len(found) > MAX_QUESTION_TERMS:
            rarest = sorted(found, key=lambda term: -found[term])[:MAX_QUESTION_TERMS]
            found = {term: found[term] for term in sorted(rarest)}
        return found

    def search(self, words: Iterable[str], k: int, filters: Filters | None = None) -> list[tuple[int, float]]:
        """Return rows and their BM25 scores, best first, of those with at least one of some words."""
        term_queries = [
            (tantivy.Occur.Should, tantivy.Query.term_query(self._schema, _FIELD, word, "freq"))
            for word in words
        ]
        if not term_queries or k < 1:
            return []
        query = tantivy.Query.boolean_query(term_queries)
        if filters is not None and filters.any():
            conditions = [(tantivy.Occur.Must, part) for part in self._conditions(filters)]
            query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), *conditions])
        hits = self._searcher.search(query, k, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        return [(int(row or 0), float(score)) for row, (score, _) in zip(rows, hits, strict=True)]

    def _conditions(self, filters: Filters) -> list[tantivy.Query]:
        conditions = []
        if filters.date_from is not None or filters.date_to is not None:
            lower, upper = _day(filters.date_from) or 1, _day(filters.date_to) or 99_999_999
            kind = tantivy.FieldType.Unsigned
            conditions.append(tantivy.Query.range_query(self._schema, "date", kind, lower, upper))
        for label in _LABELS:
            wanted = getattr(filters, label)
            if wanted:
                any_of = [
                    (
                        tantivy.Occur.Should,
                        tantivy.Query.term_query(self._schema, label, value.casefold(), "basic"),
                    )
                    for value in wanted
                ]
                conditions.append(tantivy.Query.boolean_query(any_of))
        # They choose, and add nothing to a score.
        return [tantivy.Query.const_score_query(condition, 0.0) for condition in conditions]


def _entry(found: Found) -> tantivy.Document:
    counted = Counter(_term_list(found.sentence.text))
    words = [term for term, count in counted.items() for _ in range(count)]
    words += [
        term
        for term in dict.fromkeys(_term_list(f"{_about(found)} {found.before or ''}"))
        if term not in counted
    ]
    entry = tantivy.Document()
    entry.add_text(_FIELD, " ".join(words))
    entry.add_unsigned("row", found.row)
    if day := _day(found.document.date):
        entry.add_unsigned("date", day)
    for label in _LABELS:
        if value := getattr(found.document, label):
            entry.add_text(label, value.casefold())
    return entry


def _day(date: str | None) -> int:
    return int(date.replace("-", "")) if date else 0


def _name_segments(folder: Path) -> None:
    """Give the segments names that do not change from build to build; Tantivy's are random."""
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    for number, segment in enumerate(meta["segments"]):
        old, new = segment["segment_id"].replace("-", ""), f"{number:032x}"
        for path in sorted(folder.glob(f"{old}.*")):
            path.rename(path.with_name(path.name.replace(old, new)))
        segment["segment_id"] = f"{new[:8]}-{new[8:12]}-{new[12:16]}-{new[16:20]}-{new[20:]}"
    (folder / "meta.json").unlink()  # it is for its owner's eyes only; the new one is as the others
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), "utf-8")
    for path in folder.glob(".*"):
        path.unlink()
