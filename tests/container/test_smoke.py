from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "container" / "smoke.py"
STOOD_IN = ("pandas", "djl_python")
"""Of the image, and not among what the tests need."""
OF_THE_BASE = {
    "filelock",
    "httpcore",
    "httpx",
    "huggingface_hub",
    "numpy",
    "pydantic",
    "safetensors",
    "torch",
    "transformers",
    "vllm",
    "yaml",
}
"""What the LMI image brings; `smoke.py` looks whether it does."""
NOT_LOOKED_FOR = {"djl_python", "faiss", "openchatkit", "pydantic_core", "types_boto3"}
"""Unpacked by the server; looked at by itself; the handler's own; a part of pydantic; for types alone."""


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


def test_the_image_has_whatever_the_handler_imports() -> None:
    """A package that the handler begins to use must come with the base or be pinned, and be looked for."""
    used = {
        name.split(".")[0]
        for path in (ROOT / "handler").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported(node)
    }
    used = {name for name in used if name not in sys.stdlib_module_names}
    used = {name for name in used if not name.startswith(tuple(NOT_LOOKED_FOR))}
    text = (ROOT / "container" / "requirements.txt").read_text()
    pinned = {name.replace("-", "_") for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    assert used - OF_THE_BASE <= pinned
    spec = importlib.util.spec_from_file_location("smoke", SMOKE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert used - {"botocore"} <= {*module.IMPORTS, *module.GPU_IMPORTS}


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports by their full names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
