from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import boto3
import pytest

from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing import remote
from openchatkit.retrieval.indexing.builder import build_index
from openchatkit.retrieval.indexing.remote import SourceUnusable, list_files
from openchatkit.retrieval.indexing.workers import Tools
from tests.retrieval.indexing.hashing import HashingEncoder, articles
from tests.support.local_aws import LocalAws, serve_aws

COMMIT = "c" * 40
FILES = {"README.md": b"# About\n\nThe set is about ships.", "data/news.jsonl": articles(3).encode()}


@pytest.fixture(scope="module")
def aws_server() -> Iterator[LocalAws]:
    with serve_aws() as server:
        yield server


@pytest.fixture
def bucket(aws_server: LocalAws, monkeypatch: pytest.MonkeyPatch) -> str:
    aws_server.reset()
    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="documents")
    for key, data in {
        "news/b.txt": b"Orla grew.",
        "news/sub/a.jsonl": articles(2).encode(),
        "news/image.png": b"\x89PNG",
        "newsletter/c.txt": b"Not asked for.",
        "news/empty/": b"",
    }.items():
        client.put_object(Bucket="documents", Key=key, Body=data)
    return "documents"


def test_a_prefix_of_s3_is_indexed(bucket: str, tmp_path: Path) -> None:
    for prefix in ("news", "news/"):
        names = [file.name for file in list_files(f"s3://{bucket}/{prefix}")]
        assert names == ["b.txt", "image.png", "sub/a.jsonl"]
    source = f"s3://{bucket}/news"
    report = build_index([source], tmp_path, tools=Tools(HashingEncoder))
    assert report.manifest.counts.documents == 3
    assert [file.path for file in report.skipped] == ["image.png"]
    boto3.client("s3").put_object(Bucket=bucket, Key="news/d.txt", Body=b"Acme shrank.")
    again = build_index([source], tmp_path, tools=Tools(HashingEncoder))
    assert (again.embedded, again.manifest.counts.documents) == (1, 4)
    assert LibraryIndex.open(tmp_path).table.find("sub/a.jsonl:2") is not None


def test_one_object_of_s3_is_a_source(bucket: str) -> None:
    assert [file.name for file in list_files(f"s3://{bucket}/news/b.txt")] == ["b.txt"]


@pytest.mark.parametrize("address", ["s3://documents/nothing", "s3://nowhere/x", "s3://", "hf://datasets/x"])
@pytest.mark.usefixtures("bucket")
def test_an_address_that_holds_nothing_is_named(address: str) -> None:
    with pytest.raises(SourceUnusable, match=address):
        list_files(address)


class Hub(http.server.BaseHTTPRequestHandler):
    """The two calls that a dataset's files take: its list, and a file at a commit."""

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        place = f"/datasets/owner/ships/resolve/{COMMIT}/"
        if path in {"/api/datasets/owner/ships", "/api/datasets/owner/ships/revision/main"}:
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
                for name, data in FILES.items()
            ]
            body = json.dumps({"id": "owner/ships", "sha": COMMIT, "siblings": siblings, "tags": []}).encode()
        elif path.startswith(place) and path.removeprefix(place) in FILES:
            body = FILES[path.removeprefix(place)]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_a_dataset_of_the_hub_is_indexed(tmp_path: Path) -> None:
    report = build_index(["hf://datasets/owner/ships"], tmp_path / "all", tools=Tools(HashingEncoder))
    assert report.manifest.counts.documents == 4
    part = build_index(
        ["hf://datasets/owner/ships@main/data"], tmp_path / "part", tools=Tools(HashingEncoder)
    )
    assert part.manifest.counts.documents == 3
    assert all(COMMIT in file.location for file in list_files("hf://datasets/owner/ships"))


@pytest.mark.usefixtures("hub")
def test_a_file_that_cannot_be_fetched_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(location: str, folder: Path) -> Path:
        raise SourceUnusable("it cannot be fetched")

    source = "hf://datasets/owner/ships"
    with monkeypatch.context() as patch:
        patch.setattr(remote, "_fetch_hub", fails)
        report = build_index([source], tmp_path, tools=Tools(HashingEncoder))
    assert [file.reason for file in report.skipped] == ["it cannot be fetched"] * 2
    assert build_index([source], tmp_path, tools=Tools(HashingEncoder)).manifest.counts.documents == 4
    with pytest.raises(SourceUnusable, match="nobody"):
        list_files("hf://datasets/nobody/nothing")
