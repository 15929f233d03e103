from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pytest

from openchatkit.ports import Filters
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.index import LibraryIndex
from openchatkit.retrieval.indexing import builder
from openchatkit.retrieval.indexing.builder import LOCK, WORK, BuildBusy, Report, build_index
from openchatkit.retrieval.indexing.plan import Options
from openchatkit.retrieval.indexing.workers import EncoderSpec, Tools
from openchatkit.retrieval.manifest import IndexUnusable
from tests.retrieval.indexing.hashing import HashingEncoder, articles
from tests.retrieval.pdfs import REPORT, pdf

ROOT = Path(__file__).resolve().parents[3]


def build(*sources: Path, out: Path, encoder: HashingEncoder | None = None, **options: object) -> Report:
    encoder = encoder or HashingEncoder()
    settings = Options(**options)  # type: ignore[arg-type]
    return build_index(
        [str(source) for source in sources], out, tools=Tools(lambda: encoder), options=settings
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "orla.md").write_text(
        "---\ncompany: Orla\ndate: 2026-01-05\n---\n# Orla\n\nOrla grew. It hired."
    )
    (folder / "sub" / "acme.txt").write_text("Acme makes pumps. Acme has 800 employees in four countries.")
    (folder / "news.jsonl").write_text(articles(20))
    (folder / "report.pdf").write_bytes(pdf(REPORT))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "image.png").write_bytes(b"\x89PNG")
    return folder


def test_all_kinds_of_files_make_one_index(files: Path, tmp_path: Path) -> None:
    report = build(files, out=tmp_path / "index", name="filings")
    index = LibraryIndex.open(tmp_path / "index", encoder="hashing", thorough=True)
    assert index.manifest == report.manifest
    assert (report.manifest.name, report.manifest.counts.documents) == ("filings", 23)
    assert {file.path: file.reason for file in report.skipped} == {
        "broken.pdf": "broken PDF",
        "image.png": "not a kind of file that is read",
    }
    assert report.embedded == len(index) == report.manifest.counts.rows
    found = index.table.found(range(len(index)))
    assert any(entry.sentence.page == 2 for entry in found)
    texts = [text for _, text in index.table.texts(0, len(index))]
    np.testing.assert_allclose(index.vectors(range(len(index))), HashingEncoder().encode(texts), atol=1e-6)
    assert not (tmp_path / "index" / WORK).exists()
    assert not any(path.suffix in {".pkl", ".pickle"} for path in (tmp_path / "index").rglob("*"))


def test_the_same_files_give_the_same_bytes(files: Path, tmp_path: Path) -> None:
    one, two = (build(files, out=tmp_path / name) for name in ("one", "two"))
    assert one.manifest == two.manifest
    again = build(files, out=tmp_path / "one")
    assert (again.changed, again.embedded, again.manifest) == (False, 0, one.manifest)
    assert {file.path for file in again.skipped} == {"broken.pdf", "image.png"}


def test_only_what_is_new_is_read_and_embedded(files: Path, tmp_path: Path) -> None:
    build(files, out=tmp_path / "index")
    (files / "sub" / "acme.txt").write_text("Acme makes pumps. Acme has 900 employees in four countries.")
    (files / "orla.md").unlink()
    encoder = HashingEncoder()
    report = build(files, out=tmp_path / "index", encoder=encoder)
    assert encoder.asked == ["acme. Acme has 900 employees in four countries."]
    assert (report.embedded, report.manifest.counts.documents) == (1, 22)
    assert report.manifest == build(files, out=tmp_path / "fresh").manifest
    assert len(list((tmp_path / "index").glob("documents-*"))) == 1


def test_what_is_excluded_goes_and_comes_back(files: Path, tmp_path: Path) -> None:
    build(files, out=tmp_path / "index")
    without = build(files, out=tmp_path / "index", excluded=("news.jsonl", "sub"))
    assert (without.manifest.counts.documents, without.embedded) == (2, 0)
    assert build(files, out=tmp_path / "index").manifest.counts.documents == 23


def test_of_an_excluded_folder_something_may_stay(files: Path, tmp_path: Path) -> None:
    (files / "sub" / "more.txt").write_text("Acme sells pumps in forty towns.")
    out = tmp_path / "index"
    whole = build(files, out=out).manifest.counts.documents
    kept = build(files, out=out, excluded=("sub",), readmitted=("sub/acme.txt",))
    assert kept.manifest.counts.documents == whole - 1
    shut = build(files, out=out, excluded=("sub/acme.txt", "sub"), readmitted=("sub/a",))
    assert shut.manifest.counts.documents == whole - 2


def test_shards_merge_into_the_index_of_all(files: Path, tmp_path: Path) -> None:
    whole = build(files, out=tmp_path / "whole")
    shards = []
    names = sorted(path.name for path in files.iterdir())
    for number in range(2):
        shard = tmp_path / f"shard{number}"
        left_out = tuple(name for position, name in enumerate(names) if position % 2 != number)
        build(files, out=shard, excluded=left_out, drop_duplicates=False)
        shards.append(shard)
    encoder = HashingEncoder()
    merged = build(*shards, out=tmp_path / "merged", encoder=encoder)
    assert encoder.asked == []
    assert merged.manifest.counts == whole.manifest.counts
    opened = [LibraryIndex.open(tmp_path / name) for name in ("whole", "merged")]
    texts = [dict(index.table.texts(0, len(index))) for index in opened]
    assert texts[0] == texts[1]


def test_a_passage_that_stands_twice_is_indexed_once(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    text = "The board of Orla Freight met in Cork on Monday and approved nine new ships for 40 million. "
    (files / "a.txt").write_text(text + "It was a long meeting.")
    (files / "b.txt").write_text(text + "It was a long meeting!")
    (files / "c.txt").write_text(text.replace("40", "41") + "It was a long meeting.")
    report = build(files, out=tmp_path / "index")
    assert (report.manifest.counts.sentences, report.manifest.counts.rows) == (6, 4)
    kept = build(files, out=tmp_path / "kept", drop_duplicates=False)
    assert kept.manifest.counts.rows == 6
    # The copy takes the original's place when that goes.
    (files / "a.txt").unlink()
    assert build(files, out=tmp_path / "index").manifest.counts.rows == 4


def test_filters_choose_documents(files: Path, tmp_path: Path) -> None:
    build(files, out=tmp_path / "index")
    index = LibraryIndex.open(tmp_path / "index")
    vector = HashingEncoder().encode(["earned million"])[0]

    def companies(filters: Filters) -> set[str | None]:
        rows = index.nearest(vector, 50, filters)[1]
        worded = [row for row, _ in index.words.search(["million", "orla", "grew"], 50, filters)]
        found = {entry.document.company for entry in index.table.found(rows)}
        assert {entry.document.company for entry in index.table.found(worded)} <= found
        return found

    assert companies(Filters(company=("COMPANY 3", "company 4"))) == {"Company 3", "Company 4"}
    assert companies(Filters(kind=("news",), date_from="2015-01-01", date_to="2018-12-31")) == {
        "Company 15",
        "Company 18",
    }
    assert companies(Filters(company=("nobody",))) == set()


def killed(files: Path, out: Path, step: str, count: int) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "handler")])
    program = str(Path(__file__).with_name("killed.py"))
    return subprocess.run(
        [sys.executable, program, str(files), str(out), step, str(count)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_build_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(3):
        (files / f"{number}.jsonl").write_text(articles(60 + number))
    for step, count in (("reading", 3), ("embedding", 3), ("embedding", 3), ("packing", 2)):
        result = killed(files, tmp_path / "index", step, count)
        assert result.returncode == -9, result.stderr
        assert not (tmp_path / "index" / "manifest.json").exists()
    result = killed(files, tmp_path / "index", "never", 1)
    assert (result.returncode, result.stdout.strip()) == (0, "0"), result.stderr
    monkeypatch.setattr(builder, "BLOCK_ROWS", 32)
    monkeypatch.setattr("openchatkit.retrieval.indexing.steps.SLICE", 16)
    fresh = build(files, out=tmp_path / "fresh")
    assert fresh.manifest == LibraryIndex.open(tmp_path / "index", thorough=True).manifest


def test_two_builds_in_one_folder_do_not_meet(files: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    with filelock.FileLock(tmp_path / "index" / LOCK), pytest.raises(BuildBusy):
        build(files, out=tmp_path / "index")


def test_an_index_of_another_encoder_is_no_source(files: Path, tmp_path: Path) -> None:
    build(files, out=tmp_path / "index")
    other = HashingEncoder()
    other.identity = "other"
    with pytest.raises(IndexUnusable):
        build(tmp_path / "index", out=tmp_path / "merged", encoder=other)


def test_four_processes_make_the_index_that_one_makes(tmp_path: Path, encoder: SentenceEncoder) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(4):
        lines = articles(60).splitlines()[number * 15 : number * 15 + 15]
        (files / f"{number}.jsonl").write_text("\n".join(lines))
    spec = EncoderSpec(str(bundled_minilm_directory()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "BLOCK_ROWS", 32)
        patch.setattr(builder, "PART_ITEMS", 1)
        manifests = [
            build_index(
                [str(files)], tmp_path / str(count), tools=Tools(lambda: encoder), processes=count, spec=spec
            ).manifest
            for count in (1, 4)
        ]
    assert manifests[0] == manifests[1]
    assert manifests[0].counts.documents == 60


def test_the_manifest_names_no_place_of_this_machine(files: Path, tmp_path: Path) -> None:
    build(files, out=tmp_path / "index")
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "index" / "manifest.json").read_text()))
