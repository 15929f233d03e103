"""SageMaker Processing on this machine: does what a request asks for, with real processes.

Moto takes a request and calls it completed; here its instances run. Objects below a `ShardedByS3Key` prefix
are dealt out by key, the others go to every instance; each runs the request's own entrypoint, with /opt/ml
and the folder of its program moved below a folder of its own, and Python being this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3

PATIENCE_S = 300
"""Loading PyTorch takes long where other work is on the cores."""


def run_job(request: Mapping[str, Any], home: Path) -> list[str]:
    """Do a job; return what its instances printed.

    Raises:
        AssertionError: one of them failed.
    """
    roots = bring_inputs(request, home)
    outputs = _run(request, roots)
    take_outputs(request, roots)
    return outputs


def bring_inputs(request: Mapping[str, Any], home: Path) -> list[Path]:
    """Bring each instance what it is to read; return the instances' folders."""
    count = request["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
    roots = [home / f"algo-{number + 1}" for number in range(count)]
    for number, root in enumerate(roots):
        (root / "config").mkdir(parents=True)
        config = {"current_host": root.name, "hosts": [other.name for other in roots]}
        (root / "config" / "resourceconfig.json").write_text(json.dumps(config))
        for source in request["ProcessingInputs"]:
            _bring(source["S3Input"], root, number, count)
    return roots


def take_outputs(request: Mapping[str, Any], roots: Sequence[Path]) -> None:
    """Take what the instances have written."""
    for root in roots:
        for output in request["ProcessingOutputConfig"]["Outputs"]:
            _take(output["S3Output"], root)


def _bring(source: Mapping[str, str], root: Path, number: int, count: int) -> None:
    client = boto3.client("s3")
    bucket, _, prefix = source["S3Uri"].removeprefix("s3://").partition("/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
    if source["S3DataDistributionType"] == "ShardedByS3Key":
        keys = keys[number::count]
    for key in keys:
        target = _below(root, source["LocalPath"]) / key.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, key, str(target))


def _take(output: Mapping[str, str], root: Path) -> None:
    bucket, _, prefix = output["S3Uri"].removeprefix("s3://").partition("/")
    folder = _below(root, output["LocalPath"])
    for path in folder.rglob("*"):
        if path.is_file():
            boto3.client("s3").upload_file(str(path), bucket, prefix + path.relative_to(folder).as_posix())


def _run(request: Mapping[str, Any], roots: Sequence[Path]) -> list[str]:
    processes = []
    for root in roots:
        command = [
            part.replace("/opt/ml", str(root))
            .replace("/opt/ock", str(root / "ock"))
            .replace("python3", sys.executable)
            .replace(".indexing.job", f".indexing.job --processes 1 --root {root}")
            for part in request["AppSpecification"]["ContainerEntrypoint"]
        ]
        processes.append(start_host(command, {**request["Environment"], "PYTHONPATH": ""}))
    return finish_hosts(processes)


def start_host(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start the program of a host, with one thread for its mathematics."""
    return subprocess.Popen(
        command,
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish_hosts(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Return what the programs of all hosts printed; none of them outlives this.

    Raises:
        AssertionError: one of them failed.
    """
    try:
        outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def _below(root: Path, path: str) -> Path:
    return root / path.removeprefix("/opt/ml/")
