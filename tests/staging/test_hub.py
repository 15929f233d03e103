from __future__ import annotations

import errno
from pathlib import Path

import pytest

from staging.errors import StagingError
from staging.hub import ATTEMPTS, disk_error
from staging.manifest import Source
from tests.staging.conftest import CONFIG, MODEL, Bench

FILES = {"config.json": CONFIG, "model.safetensors": b"w" * 200_000}


def test_the_listing_is_read_over_its_pages(bench: Bench) -> None:
    bench.hub.page_size = 3
    names = {f"data/{number}.txt": b"%d" % number for number in range(10)}
    repo = bench.hub.add_repo(MODEL, {**FILES, **names})
    found = bench.reader().files(Source("model", MODEL, repo.commit))
    assert {file.path for file in found} == {*FILES, *names}
    weights = next(file for file in found if file.path == "model.safetensors")
    assert (weights.size, weights.sha256) == (200_000, repo.files["model.safetensors"].sha256)


def test_a_connection_that_breaks_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    repo = bench.hub.add_repo(MODEL, FILES)
    bench.hub.faults.cut_after["model.safetensors"] = [100_000]
    source, reader = Source("model", MODEL, repo.commit), bench.reader()
    reader.download(source, reader.files(source), tmp_path / "there", workers=2)
    assert (tmp_path / "there" / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert len(bench.hub.downloads("model.safetensors")) == 2


def test_a_hub_in_trouble_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # it waits too
    repo = bench.hub.add_repo(MODEL, FILES)
    bench.hub.faults.status = [503, 502, 429]
    files = bench.reader().files(Source("model", MODEL, repo.commit))
    assert {file.path for file in files} == set(FILES)
    assert bench.hub.faults.status == []


def test_an_answer_that_stays_is_not_asked_for_again(bench: Bench) -> None:
    repo = bench.hub.add_repo(MODEL, FILES)
    bench.hub.faults.status = [404]
    with pytest.raises(StagingError, match=r"^the hub answered 404 for model org/tiny-chat$"):
        bench.reader().files(Source("model", MODEL, repo.commit))
    assert bench.pauses == []


def test_a_hub_that_is_not_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # it tries again too
    bench.hub.endpoint = "http://127.0.0.1:9"
    with pytest.raises(StagingError) as refused:
        bench.reader().files(Source("model", MODEL, "0" * 40))
    assert str(refused.value) == f"the connection to the hub broke: ConnectError ({ATTEMPTS} attempts)"
    assert bench.pauses == [2.0, 4.0, 8.0]


def test_a_token_that_may_not_read(bench: Bench, tmp_path: Path) -> None:
    repo = bench.hub.add_repo(MODEL, FILES, tokens=frozenset({"good"}))
    source, reader = Source("model", MODEL, repo.commit), bench.reader(token="bad")
    files = reader.files(source)
    with pytest.raises(StagingError, match=r"is gated: .*; the token may not read it yet$"):
        reader.download(source, files, tmp_path, workers=2)


def test_a_commit_needs_no_question(bench: Bench) -> None:
    source = Source("model", MODEL, "a" * 40)
    assert bench.reader().resolve(source, allow_moving=False) == source
    assert bench.hub.requests == []


def test_a_name_with_odd_characters_is_one_file(bench: Bench, tmp_path: Path) -> None:
    """Names are not patterns."""
    names = {"data [1]*.txt": b"1", "data 1x.txt": b"2"}
    repo = bench.hub.add_repo("org/d", names, repo_type="dataset")
    source, reader = Source("dataset", "org/d", repo.commit), bench.reader()
    files = [file for file in reader.files(source) if "[" in file.path]
    reader.download(source, files, tmp_path / "there", workers=2)
    assert {path.name for path in (tmp_path / "there").glob("*.txt")} == {"data [1]*.txt"}


@pytest.mark.parametrize(
    ("number", "line"),
    [(errno.ENOSPC, "the disk is full: /work"), (errno.EACCES, "/work: EACCES")],
)
def test_trouble_with_the_disk_is_one_line(number: int, line: str) -> None:
    assert str(disk_error(OSError(number, "secret details", "/work"))) == line
