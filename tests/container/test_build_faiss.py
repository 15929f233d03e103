"""How the build refuses what cannot become a wheel. A whole build takes minutes; docs/LOG.md has one."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "container" / "build_faiss.sh"
TOOLS = ("g++", "cmake", "ninja", "swig", "python")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of tools that are there and do nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        tool(folder, name, "exit 0")
    return folder


def tool(folder: Path, name: str, does: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{does}\n")
    (folder / name).chmod(0o755)


def build(tools: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "PYTHON": str(tools / "python"),
        "FAISS_GPU": "OFF",
        **environment,
    }
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments], env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def test_is_a_script_that_runs() -> None:
    assert os.access(SCRIPT, os.X_OK)
    subprocess.run(["sh", "-n", str(SCRIPT)], check=True)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"FAISS_GPU": "maybe"}, "FAISS_GPU is ON or OFF, not maybe"),
        ({"CUDA_ARCHS": "80 -DX=$(id)"}, "CUDA_ARCHS is a list like 80-real;86-real;89-real;90"),
        ({"FAISS_SOURCE": "/nowhere"}, "/nowhere holds no sources of Faiss"),
        ({"PYTHON": "/nowhere/python"}, "/nowhere/python is missing (PYTHON names the interpreter)"),
    ],
)
def test_a_bad_setting_is_one_line(
    tools: Path, tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    done = build(tools, str(tmp_path / "out"), **environment)
    assert (done.returncode, done.stderr) == (1, f"build_faiss: {reason}\n")


def test_nvcc_is_needed_unless_said_otherwise(tools: Path, tmp_path: Path) -> None:
    done = build(tools, str(tmp_path / "out"), FAISS_GPU="ON", PATH=f"{tools}:/bin:/usr/bin")
    assert done.returncode == 1
    assert done.stderr.startswith("build_faiss: nvcc is missing (the CUDA toolkit")


def test_an_output_folder_is_needed(tools: Path) -> None:
    done = build(tools)
    assert (done.returncode, done.stderr) == (1, "build_faiss: usage: build_faiss.sh OUTPUT_DIR\n")


def test_sources_with_another_checksum_are_refused(tools: Path, tmp_path: Path) -> None:
    """A `curl` that brings something else than the pinned sources."""
    tool(tools, "curl", 'while [ "$1" != --output ]; do shift; done; echo other > "$2"')
    done = build(tools, str(tmp_path / "out"), BUILD_DIR=str(tmp_path / "build"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("build_faiss: the sources are not those of ")
    assert not (tmp_path / "build" / "source").exists()


def test_sources_that_cannot_be_fetched(tools: Path, tmp_path: Path) -> None:
    tool(tools, "curl", "exit 22")
    done = build(tools, str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.endswith("cannot be fetched\n")


def test_settings_reach_cmake(tools: Path, tmp_path: Path) -> None:
    source = tmp_path / "source" / "faiss" / "python"
    source.mkdir(parents=True)
    (source / "setup.py").write_text("")
    tool(tools, "cmake", f'echo "$@" >> {tmp_path}/said; exit 3')
    done = build(
        tools,
        str(tmp_path / "out"),
        FAISS_SOURCE=str(tmp_path / "source"),
        BUILD_DIR=str(tmp_path / "build"),
        JOBS="3",
    )
    assert done.returncode == 3
    said = (tmp_path / "said").read_text().splitlines()
    assert len(said) == 1, "a step that fails ends the build"
    wanted = {"-DFAISS_OPT_LEVEL=avx2", "-DFAISS_ENABLE_GPU=OFF", "-DFAISS_ENABLE_PYTHON=ON"}
    assert wanted <= set(said[0].split())
    assert not list((tmp_path / "out").iterdir())


def test_the_pinned_checksum_is_one() -> None:
    line = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("FAISS_SHA256="))
    assert len(bytes.fromhex(line.removeprefix("FAISS_SHA256="))) == hashlib.sha256().digest_size


def test_the_version_is_the_laptops() -> None:
    """So that an index built on one is read on the other."""
    version = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("FAISS_VERSION="))
    pins = (SCRIPT.parents[1] / "requirements" / "local.txt").read_text()
    assert f"faiss-cpu=={version.removeprefix('FAISS_VERSION=')} " in pins
