"""From a sources file to answers of real sources: a small web on 127.0.0.1, S3 and secrets in moto."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import faiss
import numpy as np
import pytest
from moto import mock_aws

from openchatkit.build import Progress, build_outside_sources, build_retriever
from openchatkit.ports import Query
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.wikipedia_prepare import INDEX_FILE, SENTENCES_FILE
from openchatkit.settings import Settings, SettingsError
from tests.retrieval.sources.web import Page, Web, serve_web
from tests.retrieval.wikipedia_corpus import index_bytes, parquet

TEXTS = [
    "The Bank of England was founded in 1694.",
    "It is the second oldest central bank.",
    "Bread is made of flour and water.",
]
FOUND = {
    "results": [{"title": "Bank", "url": "https://example.com/b", "content": "The bank was founded in 1694."}]
}
RSS = b"<rss><channel><item><title>The bank founded in 1694 speaks</title></item></channel></rss>"
TITLES = ["Bank of England", "Bank of England", "Bread"]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder.load(bundled_minilm_directory())


@pytest.fixture
def web() -> Iterator[Web]:
    with serve_web() as web:
        yield web


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield


def settings(folder: Path, value: dict[str, Any]) -> Settings:
    path = folder / "sources.yaml"
    path.write_text(json.dumps(value), "utf-8")  # JSON is YAML
    return Settings(model="unused", sources=path)


def stage_wikipedia(encoder: SentenceEncoder) -> str:
    index = faiss.IndexFlatIP(encoder.dimension)
    index.add(encoder.encode(TEXTS))
    files = {INDEX_FILE: index_bytes(index), SENTENCES_FILE: parquet(TEXTS, TITLES)}
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    entries = []
    for name, content in files.items():
        client.put_object(Bucket="bucket", Key=f"wiki/{name}", Body=content)
        entries.append({"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    manifest = json.dumps({"files": entries}).encode()
    client.put_object(Bucket="bucket", Key="wiki/manifest.json", Body=manifest)
    return "s3://bucket/wiki/"


@pytest.mark.usefixtures("aws")
async def test_every_kind_answers(web: Web, encoder: SentenceEncoder, tmp_path: Path) -> None:
    boto3.client("secretsmanager").create_secret(Name="token", SecretString=" Bearer one \n")
    web.pages["/search"] = lambda _: Page(json.dumps(FOUND).encode())
    web.pages["/api"] = lambda _: Page(b'{"hits": [{"body": "Founded in 1694, the bank is old."}]}')
    web.pages["/rss"] = lambda _: Page(RSS)
    wikipedia = {
        "kind": "wikipedia",
        "origin": stage_wikipedia(encoder),
        "directory": str(tmp_path / "wikipedia"),
        "encoder": str(bundled_minilm_directory()),
    }
    entries = [
        wikipedia,
        {"kind": "web", "engine": "searxng", "url": web.url(""), "timeout_s": 60},
        {"kind": "feed", "urls": [web.url("/rss")], "timeout_s": 60},
        {
            "kind": "http",
            "name": "filings",
            "url": web.url("/api"),
            "query_parameter": "q",
            "fields": {"results": "hits", "text": "body"},
            "header_secrets": {"Authorization": "token"},
            "timeout_s": 60,
        },
    ]
    wanted = settings(tmp_path, {"sources": entries, "allowed_networks": ["127.0.0.0/8"]})
    outside = build_outside_sources(wanted, encoder, Progress())
    retriever = build_retriever(wanted, [], outside)
    assert retriever is not None
    assert retriever.sources == ("wikipedia", "web", "news", "filings")
    question = Query("When was the Bank of England founded?")
    [feed] = [built.source for built in outside if built.source.name == "news"]
    while not await feed.search(question, 1):  # its first reading is under way; pytest's limit ends this
        pass
    answer = await retriever.retrieve([question], k=10)
    assert answer.failures == {}
    assert {passage.source for passage in answer.passages} == set(retriever.sources)
    assert answer.passages[0].score == max(passage.score for passage in answer.passages)
    best = next(passage for passage in answer.passages if passage.source == "wikipedia")
    assert best.text.startswith(TEXTS[0])
    cosine = float(np.dot(*encoder.encode([question.text, f"{best.title}. {best.text}"])))
    assert best.score == pytest.approx(cosine, abs=1e-4)
    for passage in answer.passages:
        assert await retriever.passage(passage.source, passage.id) is not None
    [asked] = [asked for asked in web.asked if asked.path == "/api"]
    assert asked.headers["authorization"] == "Bearer one"


async def test_a_source_that_fails_costs_its_own_passages(
    web: Web, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    web.pages["/search"] = lambda _: Page(json.dumps(FOUND).encode())
    api = {
        "kind": "http",
        "url": web.url("/missing"),
        "query_parameter": "q",
        "fields": {"results": "a", "text": "b"},
    }
    late = api | {"name": "late", "url": web.url("/late"), "timeout_s": 0.3}
    web.pages["/late"] = lambda _: Page(b"{}") if web.closing.wait(60) else Page()
    searx = {"kind": "web", "engine": "searxng", "url": web.url(""), "timeout_s": 60}
    entries = [api | {"name": "broken", "timeout_s": 60}, late, searx]
    wanted = settings(tmp_path, {"sources": entries})
    retriever = build_retriever(wanted, [], build_outside_sources(wanted, encoder, Progress()))
    assert retriever is not None
    answer = await retriever.retrieve([Query("When was the bank founded?")], k=3)
    assert [passage.source for passage in answer.passages] == ["web"]
    assert set(answer.failures) == {"broken", "late"}


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"kind": "web", "engine": "brave", "key_secret": "nowhere"}, "ResourceNotFoundException"),
        ({"kind": "web", "engine": "brave", "key_variable": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
        ({"kind": "wikipedia", "origin": "s3://nowhere/x/"}, "NoSuchBucket"),
        ({"kind": "wikipedia", "origin": "ftp://x"}, "neither"),
        ({"kind": "index", "name": "filings", "location": "/nowhere"}, "no manifest"),
        ({"kind": "index", "name": "filings", "location": "s3://nowhere/x/"}, "NoSuchBucket"),
        (
            {"kind": "http", "name": "x", "url": "https://a.example/", "query_parameter": "q",
             "fields": {"results": "[", "text": "b"}},
            "fields.results",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_built_says_why(
    encoder: SentenceEncoder, tmp_path: Path, entry: dict[str, Any], says: str
) -> None:
    if entry["kind"] == "wikipedia":
        entry = entry | {"directory": str(tmp_path / "wikipedia")}
    with pytest.raises(SettingsError) as caught:
        build_outside_sources(settings(tmp_path, {"sources": [entry]}), encoder, Progress())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
