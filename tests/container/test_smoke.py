from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "container" / "smoke.py"
STOOD_IN = ("pandas", "djl_python")
"""Of the image, and not among what the tests need."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    for name in STOOD_IN:
        (folder / f"{name}.py").write_text("__version__ = 'stood in'\n")
    return folder


def smoke(path: Path, *arguments: str, tools: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {"PYTHONPATH": str(path), "PATH": str(tools or path), "HOME": str(path)}
    return subprocess.run(
        [sys.executable, str(SMOKE), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


def test_the_handler_finds_all_it_imports(image: Path) -> None:
    done = smoke(image, "--cpu", "--handler", str(ROOT / "handler"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert "AVX2" in lines["faiss"]
    assert int(lines["handler"].split()[0]) > 30


def test_what_is_not_there_is_named_and_the_rest_still_looked_at(image: Path, tmp_path: Path) -> None:
    """The whole image is wanted, of which this machine has half."""
    broken = tmp_path / "broken"
    shutil.copytree(image, broken)
    (broken / "tantivy.py").write_text("raise ImportError('no such version')\n")
    (broken / "vllm.py").write_text("")
    (broken / "cmake").write_text("#!/bin/sh\n")
    (broken / "cmake").chmod(0o755)
    done = smoke(broken, "--handler", str(tmp_path), tools=broken)
    assert done.returncode == 1
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    failed = {
        name: said.removeprefix("FAILED: ") for name, said in lines.items() if said.startswith("FAILED: ")
    }
    assert failed["tantivy"] == "ImportError: no such version"
    assert failed["faiss"].startswith("Missing: compiled without GPU support")
    assert failed["build tools"] == "Missing: left over from the build: cmake"
    assert failed["handler"] == f"Missing: {tmp_path} holds no handler"
    assert set(failed) == {"tantivy", "faiss", "build tools", "handler"}
