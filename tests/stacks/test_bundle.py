import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from stacks.bundle import HANDLER, BundleError, bundle_files, write_bundle, write_program
from stacks.models import Role

ROLES: tuple[Role, ...] = ("chat", "moderation")


@pytest.fixture
def handler(tmp_path: Path) -> Path:
    copy = tmp_path / "handler"
    shutil.copytree(HANDLER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize("role", ROLES)
def test_two_bundles_of_the_same_files_are_the_same_bytes(role: Role, handler: Path, tmp_path: Path) -> None:
    first = write_bundle(role, tmp_path / "first.tar.gz").read_bytes()
    # Another place, another time, other rights, and what Python leaves behind.
    for path in handler.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        if path.is_file():
            path.chmod(0o600)
    (handler / "openchatkit" / "__pycache__").mkdir()
    (handler / "openchatkit" / "__pycache__" / "turn.cpython-311.pyc").write_bytes(b"\0")
    second = write_bundle(role, tmp_path / "second.tar.gz", handler=handler).read_bytes()
    assert first == second


@pytest.mark.parametrize("role", ROLES)
def test_it_holds_exactly_the_handlers_files(role: Role, tmp_path: Path) -> None:
    with tarfile.open(write_bundle(role, tmp_path / "bundle.tar.gz")) as archive:
        members = {member.name: member for member in archive}
        contents = {name: _content(archive, name) for name in members}
    package = {
        path.relative_to(HANDLER).as_posix(): path
        for path in (HANDLER / "openchatkit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    expected = {"model.py": HANDLER / "model.py", "serving.properties": HANDLER / role / "serving.properties"}
    assert contents == {name: path.read_bytes() for name, path in (expected | package).items()}
    assert list(members) == sorted(members)
    for member in members.values():
        assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
        assert member.isfile()


def test_what_the_handler_reads_is_there() -> None:
    suffixes = {Path(name).suffix for name in bundle_files("chat")}
    assert {".py", ".yaml", ".safetensors", ".jsonl", ".properties"} <= suffixes


def test_the_archive_has_no_name_and_no_time_in_its_header(tmp_path: Path) -> None:
    packed = write_bundle("chat", tmp_path / "bundle.tar.gz").read_bytes()
    flags, moment = packed[3], packed[4:8]
    assert flags == 0
    assert moment == bytes(4)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        assert archive.getnames()


def test_the_roles_differ_in_their_properties_only() -> None:
    chat, moderation = bundle_files("chat"), bundle_files("moderation")
    assert chat.keys() == moderation.keys()
    assert [name for name in chat if chat[name] != moderation[name]] == ["serving.properties"]


@pytest.mark.parametrize("missing", ["model.py", "chat/serving.properties", "openchatkit/__init__.py"])
def test_a_missing_file_is_named_and_nothing_is_written(missing: str, handler: Path, tmp_path: Path) -> None:
    (handler / missing).unlink()
    with pytest.raises(BundleError, match=missing.split("/")[0]):
        write_bundle("chat", tmp_path / "out" / "bundle.tar.gz", handler=handler)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_of_another_kind_is_refused_by_name(handler: Path, tmp_path: Path) -> None:
    (handler / "openchatkit" / "notes.orig").write_text("x")
    with pytest.raises(BundleError, match=r"notes\.orig"):
        write_bundle("chat", tmp_path / "bundle.tar.gz", handler=handler)


def test_a_link_is_refused_by_name(handler: Path, tmp_path: Path) -> None:
    (handler / "openchatkit" / "elsewhere.py").symlink_to(handler / "model.py")
    with pytest.raises(BundleError, match=r"elsewhere\.py is a link"):
        write_bundle("chat", tmp_path / "bundle.tar.gz", handler=handler)


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None
    return member.read()


def test_the_program_of_a_job_is_the_package_alone(handler: Path, tmp_path: Path) -> None:
    first = write_program(tmp_path / "first.tar.gz").read_bytes()
    second = write_program(tmp_path / "second.tar.gz", handler=handler).read_bytes()
    assert first == second
    with tarfile.open(tmp_path / "first.tar.gz") as archive:
        names = archive.getnames()
    assert "openchatkit/retrieval/indexing/job.py" in names
    assert {name.partition("/")[0] for name in names} == {"openchatkit"}
