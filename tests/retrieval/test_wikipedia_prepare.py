"""Eight processes, one download: against a hub on 127.0.0.1 and against S3 in moto."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import faiss
import numpy as np
import pytest

from openchatkit.origins import (
    PART_BYTES,
    Origin,
    OriginUnusable,
    S3Origin,
    parse_origin,
)
from openchatkit.retrieval import wikipedia_prepare
from openchatkit.retrieval.faiss_files import map_index
from openchatkit.retrieval.sentence_table import SentenceTable, TableUnusable
from openchatkit.retrieval.vectors import VectorIndex
from openchatkit.retrieval.wikipedia_prepare import INDEX_FILE, SENTENCES_FILE, prepare_wikipedia
from tests.retrieval.wikipedia_corpus import DATASET, index_bytes, parquet
from tests.support.hub import FakeHub, serve_hub

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
WAIT_S = 120
TEXTS = [f"Sentence {number} " + "with words " * 20 for number in range(3_000)]

WORKER = """
import sys
from pathlib import Path
from openchatkit.origins import parse_origin
from openchatkit.retrieval.wikipedia_prepare import prepare_wikipedia
prepared = prepare_wikipedia(parse_origin(sys.argv[1], revision=sys.argv[2]), Path(sys.argv[3]))
print(prepared.index, prepared.table, prepared.index.stat().st_size)
"""


def dataset() -> dict[str, bytes]:
    index = faiss.IndexFlatIP(64)
    index.add(np.random.default_rng(0).standard_normal((len(TEXTS), 64), dtype=np.float32))
    return {INDEX_FILE: index_bytes(index), SENTENCES_FILE: parquet(TEXTS), "README.md": b"# An index\n"}


FILES = dataset()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub


def origin_on(hub: FakeHub, revision: str | None = None) -> Origin:
    return parse_origin(f"hf://datasets/{DATASET}", revision=revision, hub=hub.endpoint)


Start = Callable[[str, Path, Path], subprocess.Popen[str]]


@pytest.fixture
def start(hub: FakeHub) -> Iterator[Start]:
    """Start loading processes, none of which outlives its test, however that ends."""
    with ExitStack() as stack:

        def begin(commit: str, folder: Path, log: Path) -> subprocess.Popen[str]:
            environment = os.environ | hub.environment() | {"PYTHONPATH": str(ROOT / "handler")}
            command = [sys.executable, "-c", WORKER, f"hf://datasets/{DATASET}", commit, str(folder)]
            with log.open("a") as errors:
                process = subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
                )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


def test_eight_processes_one_download_and_a_kill_in_the_middle(
    hub: FakeHub, start: Start, tmp_path: Path
) -> None:
    wide = faiss.IndexFlatIP(1024)
    wide.add(np.random.default_rng(0).random(((2 * PART_BYTES + 2**19) // 4096, 1024), np.float32))
    content = index_bytes(wide)
    repo = hub.add_repo(DATASET, FILES | {INDEX_FILE: content}, repo_type="dataset")
    hub.faults.hold_after[INDEX_FILE] = 2**20  # the third part is shorter: it arrives
    data, log = tmp_path / "data", tmp_path / "log"
    processes = [start(repo.commit, data, log) for _ in range(PROCESSES)]
    assert hub.faults.held.wait(WAIT_S)
    # The short part may arrive before the others are asked for.
    wait_until(lambda: any(path.read_text() for path in data.rglob("*.parts")))
    wait_until(lambda: len(hub.downloads(INDEX_FILE)) >= 3)
    assert len(hub.downloads(INDEX_FILE)) == 3  # each part once

    loader = next(process for process in processes if is_downloading(process, data))
    loader.send_signal(signal.SIGKILL)
    hub.faults.hold_after.clear()
    hub.faults.released.set()
    outputs = {process.communicate(timeout=WAIT_S)[0] for process in processes if process is not loader}
    loader.communicate(timeout=WAIT_S)

    assert {process.returncode for process in processes} == {0, -signal.SIGKILL}, log.read_text()
    [line] = outputs
    index, table, size = line.split()
    assert Path(index).read_bytes() == content
    assert int(size) == len(content)
    assert SentenceTable(Path(table)).row(2_999).text == TEXTS[2_999]
    downloads = hub.downloads(INDEX_FILE)
    assert len(downloads) == 5  # the two that were cut short, again
    assert len({download.range for download in downloads}) == 3
    assert len(hub.downloads(SENTENCES_FILE)) == 1


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_downloading(process: subprocess.Popen[str], folder: Path) -> bool:
    """Return whether a process has the unfinished download open."""
    handles = Path(f"/proc/{process.pid}/fd")
    for handle in handles.iterdir():
        try:
            target = handle.readlink()
        except OSError:
            continue
        if target.name.endswith(".partial") and target.is_relative_to(folder):
            return True
    return False


def test_finished_files_need_no_hub(hub: FakeHub, tmp_path: Path) -> None:
    repo = hub.add_repo(DATASET, FILES, repo_type="dataset")
    origin = origin_on(hub, repo.commit)
    first = prepare_wikipedia(origin, tmp_path)
    asked = len(hub.requests)
    again = prepare_wikipedia(origin_on(hub, repo.commit), tmp_path)
    assert again == first
    assert len(hub.requests) == asked
    assert not (first.index.parent / "incoming" / SENTENCES_FILE).exists()  # its table took its place


def test_a_branch_is_looked_up_and_a_new_commit_is_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo(DATASET, FILES, repo_type="dataset")
    first = prepare_wikipedia(origin_on(hub), tmp_path)
    hub.add_repo(DATASET, FILES | {SENTENCES_FILE: parquet(TEXTS[::-1])}, repo_type="dataset")
    second = prepare_wikipedia(origin_on(hub), tmp_path)
    assert first.table != second.table
    assert SentenceTable(second.table).row(0).text == TEXTS[-1]
    assert SentenceTable(first.table).row(0).text == TEXTS[0]  # who has the old one open keeps it


def test_a_wrong_checksum_is_tried_again_and_then_an_error(hub: FakeHub, tmp_path: Path) -> None:
    repo = hub.add_repo(DATASET, FILES, repo_type="dataset")
    hub.faults.corrupt.add(INDEX_FILE)
    origin = origin_on(hub, repo.commit)
    with pytest.raises(OriginUnusable, match=r"knn\.index does not match"):
        prepare_wikipedia(origin, tmp_path)
    assert len(hub.downloads(INDEX_FILE)) == wikipedia_prepare.ATTEMPTS
    hub.faults.corrupt.clear()
    assert prepare_wikipedia(origin, tmp_path).index.read_bytes() == FILES[INDEX_FILE]


@pytest.mark.parametrize(
    ("files", "tokens", "revision", "says"),
    [
        (FILES, frozenset({"t"}), None, "gated"),
        ({"README.md": b"x"}, None, None, "no file knn.index"),
        (FILES, None, "nowhere", "no such revision"),
        (None, None, None, "does not exist"),
    ],
)
def test_an_origin_that_cannot_be_read_says_why(
    hub: FakeHub,
    tmp_path: Path,
    files: dict[str, bytes] | None,
    tokens: frozenset[str] | None,
    revision: str | None,
    says: str,
) -> None:
    if files is not None:
        hub.add_repo(DATASET, files, repo_type="dataset", tokens=tokens)
    with pytest.raises(OriginUnusable, match=says) as caught:
        prepare_wikipedia(origin_on(hub, revision), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_down_says_so(tmp_path: Path) -> None:
    origin = parse_origin(f"hf://datasets/{DATASET}", hub="http://127.0.0.1:9")
    with pytest.raises(OriginUnusable, match="could not be read"):
        prepare_wikipedia(origin, tmp_path)


def test_waiting_for_another_process_ends(hub: FakeHub, start: Start, tmp_path: Path) -> None:
    repo = hub.add_repo(DATASET, FILES, repo_type="dataset")
    hub.faults.hold_after[INDEX_FILE] = 1_000
    start(repo.commit, tmp_path / "data", tmp_path / "log")
    assert hub.faults.held.wait(WAIT_S)
    origin = origin_on(hub, repo.commit)
    with pytest.raises(OriginUnusable, match="another process"):
        prepare_wikipedia(origin, tmp_path / "data", timeout_s=1.5)


def test_a_table_of_something_else_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    files = FILES | {SENTENCES_FILE: b"no parquet" * 1_000}
    repo = hub.add_repo(DATASET, files, repo_type="dataset")
    with pytest.raises(TableUnusable):
        prepare_wikipedia(origin_on(hub, repo.commit), tmp_path)


def test_an_index_of_something_else_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    repo = hub.add_repo(DATASET, FILES | {INDEX_FILE: b"no index" * 1_000}, repo_type="dataset")
    with pytest.raises(OriginUnusable, match="no Faiss index"):
        prepare_wikipedia(origin_on(hub, repo.commit), tmp_path)


def test_a_large_flat_index_gets_lists(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openchatkit.retrieval.vectors.EXACT_ROWS", len(TEXTS))
    repo = hub.add_repo(DATASET, FILES, repo_type="dataset")
    prepared = prepare_wikipedia(origin_on(hub, repo.commit), tmp_path)
    assert prepared.lists is not None
    assert prepared.lists.entry.kind == "ivf_pq"
    assert (prepared.lists.entry.recall_at_10 or 0) >= 0.95
    index = map_index(prepared.index)
    listed = VectorIndex.over(index, prepared.lists.path, prepared.lists.entry)
    queries = np.random.default_rng(1).standard_normal((50, index.d), dtype=np.float32)
    found = [int(listed.nearest(query, 1)[1][0]) for query in queries]
    assert np.mean(found == index.search(queries, 1)[1][:, 0]) >= 0.8
    prepared.lists.path.unlink()  # without them the folder is not finished
    again = prepare_wikipedia(origin_on(hub, repo.commit), tmp_path)
    assert again.lists == prepared.lists


def test_from_a_staged_prefix(tmp_path: Path) -> None:
    boto3 = pytest.importorskip("boto3")
    from moto import mock_aws

    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        client.create_bucket(Bucket="indexes")
        entries = []
        for name, content in FILES.items():
            client.put_object(Bucket="indexes", Key=f"indexes/wiki/1/{name}", Body=content)
            entries.append(
                {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            )
        origin = S3Origin(client, "indexes", "indexes/wiki/1")
        with pytest.raises(OriginUnusable, match="NoSuchKey"):
            prepare_wikipedia(origin, tmp_path)
        client.put_object(
            Bucket="indexes", Key="indexes/wiki/1/manifest.json", Body=json.dumps({"files": entries}).encode()
        )
        origin = S3Origin(client, "indexes", "indexes/wiki/1")
        prepared = prepare_wikipedia(origin, tmp_path)
        assert prepared.index.read_bytes() == FILES[INDEX_FILE]
        started = time.monotonic()
        assert prepare_wikipedia(S3Origin(client, "indexes", "indexes/wiki/1"), tmp_path) == prepared
        assert time.monotonic() - started < WAIT_S
