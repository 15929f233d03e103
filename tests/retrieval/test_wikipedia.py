"""The search against the published algorithm, written down here as OpenChatKit describes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import pytest

from openchatkit.ports import Embedding, Query
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.faiss_files import FlatRows, keeps_vectors, map_index
from openchatkit.retrieval.sentence_table import SentenceTable, convert
from openchatkit.retrieval.wikipedia import WikipediaIndex, WikipediaSource
from openchatkit.retrieval.wikipedia_prepare import PreparedWikipedia
from tests.retrieval.wikipedia_corpus import Corpus, index_bytes, make_corpus, parquet

QUESTIONS = (
    "What was the revenue in 2025?",
    "Who is the chief executive?",
    "Why did the margin fall?",
    "Which factory was closed?",
    "How many customers are there?",
    "What does the board propose as a dividend?",
    "Where was the fire?",
    "quarterly results of the airline",
)


@pytest.fixture(scope="module")
def corpus(encoder: SentenceEncoder) -> Corpus:
    return make_corpus(encoder)


@pytest.fixture(scope="module")
def prepared(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> PreparedWikipedia:
    return prepare(tmp_path_factory.mktemp("wikipedia"), corpus, corpus.vectors)


def prepare(
    folder: Path, corpus: Corpus, index: faiss.Index, titles: list[str] | None = None
) -> PreparedWikipedia:
    (folder / "knn.index").write_bytes(index_bytes(index))
    (folder / "in.parquet").write_bytes(parquet(corpus.texts, titles or corpus.titles))
    convert(folder / "in.parquet", folder / "sentences.arrow")
    return PreparedWikipedia(folder / "knn.index", folder / "sentences.arrow")


def published(
    corpus: Corpus, encoder: SentenceEncoder, question: str, k: int, w: int, w_th: float
) -> list[str]:
    """The algorithm as it is published, each article by itself and the table not a ring."""

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    _, hits = corpus.vectors.search(encoder.pool([question]), k)
    found = []
    for hit in hits[0].tolist():
        text, vector = corpus.texts[hit], encoder.pool([corpus.texts[hit]])[0]
        for step in (-1, 1):
            for row in range(hit + step, hit + step * (w + 1), step):
                if not 0 <= row < len(corpus.texts) or corpus.titles[row] != corpus.titles[hit]:
                    break
                if cosine(encoder.pool([corpus.texts[row]])[0], vector) <= w_th:
                    break
                text = f"{text} {corpus.texts[row]}" if step > 0 else f"{corpus.texts[row]} {text}"
        found.append(text)
    return found


@pytest.mark.parametrize(("k", "w", "w_th"), [(1, 5, 0.5), (1, 0, 0.5), (3, 2, 0.3), (1, 5, -1.0)])
def test_finds_what_the_published_algorithm_finds(
    corpus: Corpus, prepared: PreparedWikipedia, encoder: SentenceEncoder, k: int, w: int, w_th: float
) -> None:
    index = WikipediaIndex.load(prepared, encoder)
    longer = 0
    for question in QUESTIONS:
        expected = published(corpus, encoder, question, k, w, w_th)
        found = [passage.text for passage in index.search(question, k=k, w=w, w_th=w_th)]
        # A sentence that an earlier passage holds already is not given a second time.
        assert found[0] == expected[0]
        assert set(found) <= set(expected)
        assert len(found) + sum(any(text in other for other in found) for text in expected) >= len(expected)
        longer += len(found[0]) > max(map(len, corpus.texts))
    assert w == 0 or longer or w_th > 0  # a wide window really widens


def test_stored_vectors_are_not_embedded_again(
    corpus: Corpus, prepared: PreparedWikipedia, encoder: SentenceEncoder
) -> None:
    counting = Counting(encoder)
    index = WikipediaIndex.load(prepared, counting)
    counting.texts = 0
    index.search(QUESTIONS[0], k=3, w=5, w_th=0.2)
    assert counting.texts == 1  # the question


class Counting:
    """An encoder that counts what it is given."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self.texts = 0

    def pool(self, texts: Sequence[str]) -> Embedding:
        self.texts += len(texts)
        return self.encoder.pool(texts)


@pytest.mark.parametrize(
    "factory", ["HNSW16,Flat", "SQ8", "HNSW16,SQ8", "IVF4,Flat", "IVF4,PQ48x4", "PCA64,IVF4,SQ8"]
)
def test_other_kinds_of_index(corpus: Corpus, encoder: SentenceEncoder, tmp_path: Path, factory: str) -> None:
    flat = corpus.vectors.reconstruct_n(0, corpus.vectors.ntotal)
    index = faiss.index_factory(encoder.dimension, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(flat)
    index.add(flat)
    assert keeps_vectors(index) == ("IVF" not in factory)
    nprobe = 4 if "IVF" in factory else None
    wikipedia = WikipediaIndex.load(prepare(tmp_path, corpus, index), encoder, nprobe=nprobe)
    same = 0
    questions = QUESTIONS[:3]  # an index without whole vectors has all neighbours embedded anew
    for question in questions:
        [passage] = wikipedia.search(question)
        same += passage.text == published(corpus, encoder, question, 1, 5, 0.5)[0]
    assert same >= (1 if "PQ" in factory else 3)


def test_a_passage_stays_in_its_article(corpus: Corpus, encoder: SentenceEncoder, tmp_path: Path) -> None:
    titles = [f"Article {number // 2}" for number in range(len(corpus.texts))]
    index = WikipediaIndex.load(prepare(tmp_path, corpus, corpus.vectors, titles), encoder)
    for question in QUESTIONS:
        for passage in index.search(question, k=10, w=5, w_th=-1.0):
            first = corpus.texts.index(passage.text[:20]) if passage.text[:20] in corpus.texts else None
            number = int(passage.id.partition("-")[0])
            assert first in (None, number)
            assert passage.title == f"Article {number // 2}"
            assert passage.text == " ".join(corpus.texts[number // 2 * 2 : number // 2 * 2 + 2])


def test_the_ends_of_the_table_are_ends(corpus: Corpus, encoder: SentenceEncoder, tmp_path: Path) -> None:
    titles = ["One article"] * len(corpus.texts)
    index = WikipediaIndex.load(prepare(tmp_path, corpus, corpus.vectors, titles), encoder)
    [first] = index.search(corpus.texts[0], w=3, w_th=-1.0)
    assert first.text == " ".join(corpus.texts[:4])
    last_text = corpus.texts[-1]
    if corpus.texts.count(last_text) == 1:
        [last] = index.search(last_text, w=3, w_th=-1.0)
        assert last.text == " ".join(corpus.texts[-4:])


async def test_the_source_gives_passages_with_their_reference(
    prepared: PreparedWikipedia, encoder: SentenceEncoder
) -> None:
    source = WikipediaSource(WikipediaIndex.load(prepared, encoder), w=1)
    found = await source.search(Query(QUESTIONS[0]), 3)
    assert 1 <= len(found) <= 3
    for passage in found:
        assert passage.source == source.name == "wikipedia"
        assert passage.url is not None
        assert passage.url.startswith("https://en.wikipedia.org/wiki/")
        assert " " not in passage.url
        assert -1 <= passage.score <= 1
        again = await source.passage(passage.id)
        assert again is not None
        assert (again.text, again.title) == (passage.text, passage.title)
    assert found[0].score >= found[-1].score


@pytest.mark.parametrize(
    "identifier",
    ["", "x", "1-2", "0-0@00000000", "5-1@x", "0-400@x", "9" * 50 + "-1@x", "-1-2@x", "0-99999@x"],
)
def test_a_reference_that_is_none(
    prepared: PreparedWikipedia, encoder: SentenceEncoder, identifier: str
) -> None:
    assert WikipediaIndex.load(prepared, encoder).passage(identifier) is None


def test_what_does_not_belong_together_is_refused(
    corpus: Corpus, prepared: PreparedWikipedia, encoder: SentenceEncoder
) -> None:
    table = SentenceTable(prepared.table)
    with pytest.raises(ValueError, match="vectors, the table"):
        WikipediaIndex(faiss.IndexFlatIP(encoder.dimension), table, encoder)
    small = faiss.IndexFlatIP(8)
    small.add(np.zeros((len(table), 8), dtype=np.float32))
    with pytest.raises(ValueError, match="dimensions"):
        WikipediaIndex(small, table, encoder)


@pytest.mark.parametrize(("k", "w"), [(0, 5), (101, 5), (1, -1), (1, 21)])
def test_limits(prepared: PreparedWikipedia, encoder: SentenceEncoder, k: int, w: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        WikipediaIndex.load(prepared, encoder).search("x", k=k, w=w)


def test_rows_are_read_as_the_index_holds_them(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "wiki.index"
    faiss.write_index(corpus.vectors, str(path))
    rows = [len(corpus.texts) - 1, 0, 7, 7]
    read = FlatRows.of(path, map_index(path))
    assert read is not None
    assert np.array_equal(read.read(rows), corpus.vectors.reconstruct_batch(np.array(rows)))
    assert read.read([]).shape == (0, corpus.vectors.d)


def test_rows_of_another_kind_of_index_are_left_to_faiss(corpus: Corpus, tmp_path: Path) -> None:
    coded = faiss.IndexScalarQuantizer(
        corpus.vectors.d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    vectors = corpus.vectors.reconstruct_n(0, corpus.vectors.ntotal)
    coded.train(vectors)
    coded.add(vectors)
    faiss.write_index(coded, str(tmp_path / "coded.index"))
    assert FlatRows.of(tmp_path / "coded.index", map_index(tmp_path / "coded.index")) is None


def test_a_file_that_has_been_cut_short_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "wiki.index"
    faiss.write_index(corpus.vectors, str(path))
    read = FlatRows(path, corpus.vectors)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)
    with pytest.raises(OSError, match="cut short"):
        read.read([len(corpus.texts) - 1])
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="too small"):
        FlatRows(path, corpus.vectors)
