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


@pytest.mark.parametrize("again", ["acme.md", "{files}/acme.md", "{files}"])
def test_a_file_that_is_added_again_comes_back(files: Path, tmp_path: Path, again: str) -> None:
    index = tmp_path / "index"
    run("build", files, "--out", index)
    run("remove", index, "acme.md")
    assert "2 documents" in run("add", index, again.format(files=files)).stdout
    assert Sources.read(index) == Sources(sources=(str(files),))
    assert "acme.md" in run("search", index, "What grew in Lyon?").stdout
    assert "Nothing has changed." in run("update", index).stdout


@pytest.mark.parametrize("source", ["{files}", "{files}/orla.md"])
def test_a_source_of_its_own_that_is_added_again_comes_back(files: Path, tmp_path: Path, source: str) -> None:
    index, source = tmp_path / "index", source.format(files=files)
    (tmp_path / "news.jsonl").write_text(articles(3))
    run("build", source, tmp_path / "news.jsonl", "--out", index)
    run("remove", index, "orla.md")
    run("remove", index, source)
    run("add", index, source)
    assert "Orla" in run("search", index, "What grew in Cork?").stdout


def test_what_is_added_again_below_a_removed_folder_comes_back_alone(files: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    (files / "sub" / "deep").mkdir(parents=True)
    for name in ("one.md", "two.md", "deep/three.md", "deep/four.md"):
        (files / "sub" / name).write_text(f"This is {name}.")
    assert "6 documents" in run("build", files, "--out", index).stdout
    assert "2 documents" in run("remove", index, "sub").stdout
    assert "3 documents" in run("add", index, files / "sub" / "one.md").stdout
    assert "5 documents" in run("add", index, "sub/deep/").stdout
    assert "4 documents" in run("remove", index, "sub/deep/four.md").stdout
    (files / "sub" / "deep" / "five.md").write_text("Five is new.")
    (files / "sub" / "six.md").write_text("Six is new.")
    assert "5 documents" in run("update", index).stdout
    assert "2 documents" in run("remove", index, "sub").stdout
    assert "8 documents" in run("add", index, files / "sub").stdout
    assert Sources.read(index) == Sources(sources=(str(files),))


def test_a_file_or_folder_is_removed_by_its_path(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, other = tmp_path / "index", tmp_path / "other"
    (files / "sub").mkdir()
    other.mkdir()
    for path, text in (
        (files / "sub" / "one.md", "One."),
        (other / "acme.md", "Another text on another firm."),
    ):
        path.write_text(text)
    assert "4 documents" in run("build", files, other, "--out", index).stdout
    run("remove", index, other / "acme.md")
    assert Sources.read(index).excluded == ("other/acme.md",), "not the first source's file of that name"
    monkeypatch.chdir(files)
    run("remove", index, "sub", files / "acme.md")
    assert Sources.read(index).excluded == ("other/acme.md", "sub", "acme.md")
    assert "there is no source, file or folder" in run("remove", index, tmp_path / "no.md", status=1).stderr
    run("add", index, other / "acme.md", files / "sub")
    assert Sources.read(index).excluded == ("acme.md",)


def test_a_path_that_two_folders_of_one_name_may_mean_is_refused(tmp_path: Path) -> None:
    index, folders = tmp_path / "index", [tmp_path / "a" / "news", tmp_path / "b" / "news"]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "one.md").write_text(f"Text number {number} of its own.")
    run("build", *folders, "--out", index)
    assert "there is no source, file" in run("remove", index, folders[1] / "one.md", status=1).stderr


def test_what_else_was_removed_stays_away(files: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    other = tmp_path / "other"
    other.mkdir()
    (other / "more.md").write_text("More of it.")
    (other / "same.md").write_text("The same name.")
    run("build", files, other, "--out", index)
    run("remove", index, "acme.md", "more.md")
    run("add", index, other / "same.md")
    assert Sources.read(index).excluded == ("acme.md", "more.md")
    run("add", index, other)
    assert Sources.read(index).excluded == ("acme.md",)


def test_sources_elsewhere_come_back_too() -> None:
    news = "s3://bucket/news"
    sources = Sources(sources=(news,), excluded=("2024/a.csv", "2023"))
    assert sources.with_sources([f"{news}/2024/a.csv"]).excluded == ("2023",)
    below = sources.with_sources([f"{news}/2023/b.csv"])
    assert (below.sources, below.readmitted) == ((news,), ("2023/b.csv",))
    assert sources.with_sources([f"{news}/"]).excluded == ()
    assert sources.without([news]).with_sources([news]) == Sources(sources=(news,))
