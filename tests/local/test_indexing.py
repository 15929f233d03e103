from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from local.indexing import __main__ as program
from local.indexing.sources import SOURCES, Sources
from tests.retrieval.indexing.hashing import HashingEncoder, articles


@pytest.fixture(autouse=True)
def _without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands, with an encoder that needs no model."""
    monkeypatch.setattr(program, "_encoder", lambda *_: HashingEncoder())
    monkeypatch.setattr(program, "_default_device", lambda: "cpu")


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(program.index, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return result


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "orla.md").write_text("---\ncompany: Orla\ndate: 2026-01-05\n---\nOrla grew in Cork.")
    (folder / "acme.md").write_text("---\ncompany: Acme\ndate: 2026-02-05\n---\nAcme grew in Lyon.")
    (folder / "broken.pdf").write_bytes(b"nothing")
    return folder


def test_an_index_is_built_changed_and_searched(files: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    built = run("build", files, "--out", index, "--name", "finance")
    assert "Skipped broken.pdf: broken PDF" in built.stdout
    assert "2 documents, 2 sentences (2 embedded now" in built.stdout
    found = run("search", index, "What grew?", "--company", "acme", "-k", "3")
    assert "Acme grew in Lyon." in found.stdout
    assert "Orla" not in found.stdout
    dated = run("search", index, "What grew?", "--to", "2026-01-31")
    assert "Acme" not in dated.stdout
    (tmp_path / "news.jsonl").write_text(articles(3))
    assert "5 documents" in run("add", index, tmp_path / "news.jsonl").stdout
    (files / "orla.md").write_text("Orla shrank.")
    assert "(1 embedded now" in run("update", index).stdout
    assert "4 documents" in run("remove", index, "acme.md").stdout
    assert "1 documents" in run("remove", index, tmp_path / "news.jsonl").stdout
    shown = run("info", index, "--check", "--skipped").stdout
    assert "finance" in shown
    assert "All files are as they were built." in shown
    assert "broken.pdf: broken PDF" in shown
    assert Sources.read(index).sources == (str(files),)
    assert "Nothing has changed." in run("update", index).stdout


def test_errors_are_one_line(files: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    missing = run("build", tmp_path / "nowhere", "--out", index, status=1)
    assert missing.stderr == f"ock index: no such file or folder: {tmp_path / 'nowhere'}\n"
    (tmp_path / "empty").mkdir()
    assert "no index of this version" in run("info", tmp_path / "empty", status=1).stderr
    assert "ock index build" in run("update", tmp_path / "empty", status=1).stderr
    run("build", files, "--out", index)
    assert "there is no source, file or folder gone.md" in run("remove", index, "gone.md", status=1).stderr
    (index / SOURCES).write_text(json.dumps({"sources": 1}))
    assert "ock index build" in run("update", index, status=1).stderr
    run("build", files, "--out", index, "--name", "No Name", status=2)


def test_sources_come_and_go() -> None:
    sources = Sources(sources=("/a", "/b")).without(["/b", "c.md"])
    assert (sources.sources, sources.excluded) == (("/a",), ("c.md",))
    assert sources.with_sources(["/b", "/a"]).sources == ("/a", "/b")
