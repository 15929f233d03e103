from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openchatkit.retrieval import vectors
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing import builder, job
from openchatkit.retrieval.indexing.builder import Report, build_index
from openchatkit.retrieval.indexing.job import Host, JobBroken, build_shard, printer, read_host
from openchatkit.retrieval.indexing.listing import list_items
from openchatkit.retrieval.indexing.plan import Options
from openchatkit.retrieval.indexing.workers import Tools
from openchatkit.retrieval.manifest import MANIFEST
from tests.retrieval.indexing.hashing import HashingEncoder, articles
from tests.retrieval.pdfs import REPORT, pdf
from tests.support.processing import PATIENCE_S, finish_hosts, start_host

REPOSITORY = Path(__file__).resolve().parents[3]
TWICE = "The board of Orla Freight met in Cork on Monday and approved nine new ships for 40 million. "


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files of all kinds, in folders: passages that stand in two of them, files that cannot be read."""
    folder = tmp_path / "files"
    for number in range(6):
        (folder / f"year{number % 3}").mkdir(parents=True, exist_ok=True)
        lines = articles(48).splitlines()[number * 8 : number * 8 + 8]
        (folder / f"year{number % 3}" / f"{number}.jsonl").write_text("\n".join(lines))
    (folder / "a.txt").write_text(TWICE + "It was a long meeting.")
    (folder / "year0" / "z.txt").write_text(TWICE + "It was a long meeting!")
    (folder / "year1" / "report.pdf").write_bytes(pdf(REPORT))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "year2" / "image.png").write_bytes(b"\x89PNG")
    return folder


def deal(files: Path, tmp_path: Path, count: int) -> list[Path]:
    """Deal files out among hosts by their keys, as SageMaker does; return the hosts' folders."""
    names = sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
    roots = [tmp_path / f"hosts{count}" / str(number) for number in range(count)]
    hosts = [f"algo-{number + 1}" for number in range(count)]
    for number, root in enumerate(roots):
        (root / "config").mkdir(parents=True)
        config = {"current_host": hosts[number], "hosts": hosts}
        (root / "config" / "resourceconfig.json").write_text(json.dumps(config))
        for name in names[number::count]:
            target = root / "processing" / "input" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(files / name, target)
    return roots


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "handler")])
    return start_host([sys.executable, *command], {"PYTHONPATH": paths})


def run_all(commands: Sequence[Sequence[str]]) -> list[str]:
    """Run the programs of all hosts at the same time."""
    return finish_hosts([start(command) for command in commands])


def merge(roots: Sequence[Path], out: Path, tools: Tools, **options: object) -> Report:
    shards = [root / "processing" / "output" / f"{number:04}" for number, root in enumerate(roots)]
    settings = Options(**options)  # type: ignore[arg-type]
    return build_index([str(shard) for shard in shards], out, tools=tools, options=settings)


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != builder.LOCK]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def shard_here(root: Path) -> Report:
    return build_shard(root, tools=Tools(HashingEncoder))


@pytest.mark.parametrize("count", [1, 4])
def test_the_hosts_together_make_the_index_of_one_build_byte_for_byte(
    files: Path, tmp_path: Path, count: int
) -> None:
    roots = deal(files, tmp_path, count)
    program = str(Path(__file__).with_name("shard_host.py"))
    run_all([[program, str(root)] for root in roots])
    encoder = HashingEncoder()
    merged = merge(roots, tmp_path / "merged", Tools(lambda: encoder), name="filings")
    whole = build_index(
        [str(files)], tmp_path / "whole", tools=Tools(HashingEncoder), options=Options(name="filings")
    )
    assert encoder.asked == []
    assert whole.manifest.counts.duplicates == 2
    assert whole.skipped == merged.skipped
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


def test_more_hosts_than_files(files: Path, tmp_path: Path) -> None:
    for path in files.iterdir():
        shutil.rmtree(path) if path.is_dir() else None
    roots = deal(files, tmp_path, 4)
    assert not (roots[3] / "processing").exists()
    reports = [shard_here(root) for root in roots]
    assert [report.manifest.counts.documents for report in reports] == [1, 0, 0, 0]
    merge(roots, tmp_path / "merged", Tools(HashingEncoder))
    build_index([str(files)], tmp_path / "whole", tools=Tools(HashingEncoder))
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


def test_shards_of_many_rows_keep_whole_vectors(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that these few are many: vectors shortened to 8 bits, with an inverted file over them.
    for module in (builder, vectors):
        monkeypatch.setattr(module, "FLOAT_ROWS", 20)
    monkeypatch.setattr(vectors, "EXACT_ROWS", 60)
    monkeypatch.setattr(vectors, "MIN_RECALL", 0.0)
    monkeypatch.setattr(vectors, "LISTS_PER_ROOT", 0.5)
    (files / "more.jsonl").write_text(articles(300))
    roots = deal(files, tmp_path, 2)
    shards = [shard_here(root).manifest for root in roots]
    assert all(shard.counts.rows > 20 for shard in shards)
    assert [(shard.vectors.code, shard.vectors.kind) for shard in shards] == [("float32", "exact")] * 2
    merged = merge(roots, tmp_path / "merged", Tools(HashingEncoder))
    assert merged.manifest.vectors.code == "sq8"
    assert merged.manifest.vectors.kind == "ivf_pq"
    build_index([str(files)], tmp_path / "whole", tools=Tools(HashingEncoder))
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


def test_files_that_were_not_sent_are_listed_as_skipped(files: Path, tmp_path: Path) -> None:
    _, refused = list_items([str(files)])
    assert [file.path for file in refused] == ["year2/image.png"]
    build_index([str(files)], tmp_path / "whole", tools=Tools(HashingEncoder))
    (files / "year2" / "image.png").unlink()
    roots = deal(files, tmp_path, 2)
    for root in roots:
        shard_here(root)
    merge(roots, tmp_path / "merged", Tools(HashingEncoder), refused=tuple(refused))
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


@pytest.mark.timeout(PATIENCE_S * 2)
def test_the_program_makes_shards_with_the_packages_own_encoder(
    files: Path, tmp_path: Path, encoder: SentenceEncoder
) -> None:
    roots = deal(files, tmp_path, 2)
    module = "openchatkit.retrieval.indexing.job"
    outputs = run_all([["-m", module, "--root", str(root), "--processes", "1"] for root in roots])
    assert all("embedding" in output and "sentences" in output for output in outputs)
    assert "Orla" not in "".join(outputs)
    merge(roots, tmp_path / "merged", Tools(lambda: encoder))
    build_index([str(files)], tmp_path / "whole", tools=Tools(lambda: encoder))
    opened = [LibraryIndex.open(tmp_path / name) for name in ("merged", "whole")]
    for kind in ("documents", "lexical"):
        assert opened[0].manifest.file(kind) == opened[1].manifest.file(kind)
    # The last bits of a vector depend on which sentences were embedded together with it.
    rows = range(len(opened[0]))
    np.testing.assert_allclose(opened[0].vectors(rows), opened[1].vectors(rows), atol=1e-6)


@pytest.mark.parametrize(
    "config", ["", "[]", '{"hosts": ["algo-1"]}', '{"current_host": "algo-2", "hosts": ["algo-1"]}']
)
def test_without_its_place_a_host_does_nothing(tmp_path: Path, config: str) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "resourceconfig.json").write_text(config)
    with pytest.raises(JobBroken, match=r"resourceconfig\.json does not say which host this is"):
        read_host(tmp_path)
    assert job.main(["--root", str(tmp_path)]) == 1
    assert "which host" in (tmp_path / "output" / "message").read_text()


def test_a_host_knows_its_place(files: Path, tmp_path: Path) -> None:
    roots = deal(files, tmp_path, 3)
    assert [read_host(root) for root in roots] == [Host(0, 3), Host(1, 3), Host(2, 3)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "/opt/ml/x"), "OSError: No space left on device"),
        (RuntimeError("Orla grew."), "unexpected RuntimeError"),
    ],
)
def test_why_it_failed_is_one_line_without_texts(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    def fails(*_: object, **__: object) -> Report:
        raise error

    monkeypatch.setattr(job, "build_index", fails)
    [root] = deal(files, tmp_path, 1)
    assert job.main(["--root", str(root)]) == 1
    assert (root / "output" / "message").read_text() == message
    assert capsys.readouterr().out == f"failed: {message}\n"
    assert not (root / "processing" / "output" / "0000" / MANIFEST).exists()


def test_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 31.0, 32.0])
    step = printer(lambda: next(times))
    for done in range(4):
        step("embedding", done, 3)
    assert capsys.readouterr().out.splitlines() == ["embedding 0/3", "embedding 2/3", "embedding 3/3"]
