"""A running source over an index that changes on disk and in S3 (moto)."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from openchatkit.ports import Query
from openchatkit.retrieval.document_source import DocumentSource
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.live import LiveIndexSource, LocalPlace, S3Place, parse_place
from openchatkit.retrieval.manifest import MANIFEST, IndexUnusable

WAIT_S = 60
QUICK_S = 0.1
QUESTION = Query("Who is the chief executive of Ostrel?")
BUCKET, PREFIX = "indexes", "indexes/filings"


def build(folder: Path, documents: Path, encoder: SentenceEncoder, chief: str) -> None:
    documents.mkdir(exist_ok=True)
    (documents / "a.txt").write_text(f"The chief executive of Ostrel is {chief}. Ostrel makes batteries.\n")
    DocumentSource.build([documents], encoder=encoder, cache=folder)


async def answer(source: LiveIndexSource) -> str:
    [best, *_] = await source.search(QUESTION, 1)
    return best.text


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path, encoder: SentenceEncoder) -> Path:
    build(tmp_path / "index", tmp_path / "documents", encoder, "Ada Brenn")
    return tmp_path / "index"


async def test_a_new_state_on_disk_is_picked_up(
    folder: Path, tmp_path: Path, encoder: SentenceEncoder
) -> None:
    source = LiveIndexSource.open(LocalPlace(folder), encoder=encoder, name="filings", refresh_s=QUICK_S)
    try:
        first = source.version
        [passage] = await source.search(QUESTION, 1)
        assert "Ada Brenn" in passage.text
        assert passage.source == source.name == "filings"
        build(folder, tmp_path / "documents", encoder, "Bo Lindh")
        await until(lambda: source.version != first)
        assert "Bo Lindh" in await answer(source)
        assert await source.passage(passage.id) is None  # the new state says something else there
        assert source.similarity(encoder.encode([QUESTION.text])[0]) > 0.5
    finally:
        source.close()


async def test_a_query_under_way_finishes_on_the_old_state(
    folder: Path, tmp_path: Path, encoder: SentenceEncoder
) -> None:
    held, release = threading.Event(), threading.Event()

    class Slow:
        """The encoder, whose first question is answered when the test says so."""

        identity = encoder.identity
        dimension = encoder.dimension

        def encode(self, texts: list[str]) -> object:
            if not held.is_set():
                held.set()
                assert release.wait(WAIT_S)
            return encoder.encode(texts)

    source = LiveIndexSource.open(LocalPlace(folder), encoder=Slow(), refresh_s=QUICK_S)  # type: ignore[arg-type]
    try:
        first = source.version
        early = asyncio.create_task(answer(source))
        await asyncio.to_thread(held.wait, WAIT_S)
        build(folder, tmp_path / "documents", encoder, "Bo Lindh")
        await until(lambda: source.version != first)
        release.set()
        assert "Ada Brenn" in await early
        assert "Bo Lindh" in await answer(source)
    finally:
        release.set()
        source.close()


async def test_a_state_that_cannot_be_read_is_left_alone(
    folder: Path, tmp_path: Path, encoder: SentenceEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    source = LiveIndexSource.open(LocalPlace(folder), encoder=encoder, refresh_s=QUICK_S)
    try:
        good = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).write_bytes(b"{}")
        await until(lambda: "index_not_refreshed" in caplog.text)
        assert "Ada Brenn" in await answer(source)
        (folder / MANIFEST).write_bytes(good)
        first = source.version
        build(folder, tmp_path / "documents", encoder, "Bo Lindh")
        await until(lambda: source.version != first)
        assert "Bo Lindh" in await answer(source)
    finally:
        source.close()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield


def upload(folder: Path) -> int:
    """Put an index into the bucket, its manifest last; returns the number of files."""
    client = boto3.client("s3")
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    paths.sort(key=lambda path: path.name == MANIFEST)
    for path in paths:
        client.put_object(
            Bucket=BUCKET, Key=f"{PREFIX}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes()
        )
    return len(paths)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.usefixtures("s3")
async def test_a_new_state_in_s3_is_picked_up(folder: Path, tmp_path: Path, encoder: SentenceEncoder) -> None:
    upload(folder)
    cache = tmp_path / "cache"
    place = parse_place(f"s3://{BUCKET}/{PREFIX}/", cache)
    source = LiveIndexSource.open(place, encoder=encoder, refresh_s=QUICK_S)
    try:
        first = source.version
        assert "Ada Brenn" in await answer(source)
        build(folder, tmp_path / "documents", encoder, "Bo Lindh")
        upload(folder)
        await until(lambda: source.version != first)
        assert "Bo Lindh" in await answer(source)
        assert names(place.folder()) == names(folder)
    finally:
        source.close()


@pytest.mark.usefixtures("s3")
def test_what_s3_gives_is_checked(folder: Path, tmp_path: Path, encoder: SentenceEncoder) -> None:
    place = S3Place(boto3.client("s3"), BUCKET, PREFIX, tmp_path / "cache")
    with pytest.raises(IndexUnusable, match="404"):
        LiveIndexSource.open(place, encoder=encoder)
    upload(folder)
    [vectors] = folder.glob("vectors-*")
    right = vectors.read_bytes()
    wrong = bytes([right[0] ^ 1]) + right[1:]
    client = boto3.client("s3")
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{vectors.name}", Body=wrong)
    with pytest.raises(IndexUnusable, match="checksum"):
        LiveIndexSource.open(place, encoder=encoder)
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{vectors.name}", Body=right)
    LiveIndexSource.open(place, encoder=encoder).close()


def test_no_index_there(tmp_path: Path, encoder: SentenceEncoder, folder: Path) -> None:
    with pytest.raises(IndexUnusable):
        LiveIndexSource.open(LocalPlace(tmp_path / "nowhere"), encoder=encoder)
    shutil.copytree(folder, tmp_path / "broken")
    next((tmp_path / "broken").glob("vectors-*")).write_bytes(b"x")
    with pytest.raises(IndexUnusable):
        LiveIndexSource.open(LocalPlace(tmp_path / "broken"), encoder=encoder)
