"""A hub and an S3 on this machine, and tiny models to stage."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import torch

from staging.bucket import Bucket
from staging.hub import Hub
from staging.manifest import Kind, Source
from staging.program import Job, Report, stage
from tests.support.hub import FakeHub, HubRepo, serve_hub
from tests.support.local_aws import REGION, LocalAws, serve_aws

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MODEL = "org/tiny-chat"
CONFIG = b'{"model_type": "gpt_neox"}'


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    with serve_aws() as aws:
        yield aws


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve_hub() as hub:
        yield hub


def client(aws: LocalAws, service: str, **arguments: Any) -> Any:
    """A real boto3 client for the local AWS."""
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=aws.url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        **arguments,
    )


@dataclass
class Bench:
    """Runs the program in this process, against a bucket of its own."""

    hub: FakeHub
    s3: S3Client
    work_dir: Path
    name: str = field(default_factory=lambda: f"weights-{uuid.uuid4().hex[:12]}")
    pauses: list[float] = field(default_factory=list)

    def bucket(self, repo: HubRepo, prefix: str = "weights") -> Bucket:
        place = f"{prefix}/{repo.repo_id}/{repo.commit}"
        return Bucket(self.s3, self.name, place, kms_key=None, workers=4)

    def stage(self, repo: HubRepo, *patterns: str, token: str | None = None, **options: Any) -> Report:
        kind: Kind = repo.repo_type
        source = Source(kind, repo.repo_id, repo.commit)
        job = Job(source, patterns, self.work_dir, 4, **{"disk_reserve": 0, **options})
        return stage(job, self.reader(token=token), self.bucket(repo))

    def reader(self, *, token: str | None = None) -> Hub:
        """The program's view of the hub. It waits for nothing."""
        return Hub(token=token, endpoint=self.hub.endpoint, sleep=self.pauses.append)

    def keys(self) -> dict[str, int]:
        """The objects in the bucket with their sizes, below their prefix."""
        listed = self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {item["Key"].split("/", 4)[-1]: item["Size"] for item in listed}

    def fetch(self, repo: HubRepo, folder: Path) -> Path:
        """Copy what was staged into a folder, as a server does."""
        prefix = f"weights/{repo.repo_id}/{repo.commit}/"
        for item in self.s3.list_objects_v2(Bucket=self.name, Prefix=prefix)["Contents"]:
            target = folder / item["Key"].removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(self.name, item["Key"], str(target))
        return folder


@pytest.fixture
def bench(hub: FakeHub, aws: LocalAws, tmp_path: Path) -> Bench:
    bench = Bench(hub, client(aws, "s3"), tmp_path / "work")
    bench.s3.create_bucket(Bucket=bench.name)
    return bench


def pickled(tensors: dict[str, torch.Tensor]) -> bytes:
    """A shard as PyTorch pickles it."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def sharded(tensors: dict[str, torch.Tensor], count: int) -> dict[str, bytes]:
    """The files of a model whose tensors lie in so many pickled shards."""
    names = list(tensors)
    files = {"config.json": CONFIG}
    for number in range(count):
        part = {name: tensors[name] for name in names[number::count]}
        files[f"pytorch_model-{number + 1:05d}-of-{count:05d}.bin"] = pickled(part)
    return files
