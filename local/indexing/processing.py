"""A SageMaker Processing job that builds shards of an index: what is asked for, and how it is followed.

Files are dealt out among the instances by SageMaker (`ShardedByS3Key`); every instance runs
`openchatkit.retrieval.indexing.job`, whose package comes as an archive, in the image of the endpoint.
Containers have no network: SageMaker itself brings the inputs and takes the outputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.exceptions import ClientError as AwsError

from client.aws import failures
from client.deployment import APP_TAG
from client.errors import CallFailed
from client.terminal import one_line
from local.indexing.place import Place

if TYPE_CHECKING:
    from types_boto3_sagemaker.type_defs import (
        CreateProcessingJobRequestTypeDef,
        DescribeProcessingJobResponseTypeDef,
        ProcessingInputTypeDef,
    )

PROGRAM = "program.tar.gz"
FOLDER = "/opt/ml/processing"
START = (
    # The image's own start script, where it has one, finds the libraries that match the GPU's driver.
    f"set -e; mkdir /opt/ock; cd /opt/ock; tar -xzf {FOLDER}/code/{PROGRAM}; "
    "e=/usr/local/bin/dockerd-entrypoint.sh; [ -x $e ] || e=; "
    "exec $e python3 -m openchatkit.retrieval.indexing.job"
)
"""Most that SageMaker takes is 256 characters."""
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error"}
MAX_RUNTIME_S = 24 * 3600
"""After that SageMaker stops a job, so that none is paid for without an end."""
MIN_VOLUME_GB = 30
VOLUME_PER_FILES = 4
"""Disk in times of an instance's files: the files, their text and vectors while they are made, the shard."""
FIRST_POLL_S = 2.0
LONGEST_POLL_S = 15.0
ATTEMPTS = 20
"""Looks at a job that reach nobody, one after another, before that is an error: lines break for minutes."""
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
MAX_REASON = 400


@dataclass(frozen=True)
class Work:
    """What a job reads and writes: addresses of prefixes that end in a slash."""

    documents: str
    size: int
    """Bytes of the documents."""
    program: str
    encoder: str | None
    shards: str
    """Where shard NNNN goes to NNNN/."""


def job_request(
    name: str, place: Place, work: Work, *, instances: int, instance_type: str, volume_gb: int | None
) -> CreateProcessingJobRequestTypeDef:
    """Return what SageMaker is asked for."""
    encoder = [_input("encoder", work.encoder)] if work.encoder else []
    request: CreateProcessingJobRequestTypeDef = {
        "ProcessingJobName": name,
        "ProcessingInputs": [
            _input("input", work.documents, sharded=True),
            _input("code", work.program),
            *encoder,
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "shards",
                    "S3Output": {
                        "S3Uri": work.shards,
                        "LocalPath": f"{FOLDER}/output",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": instances,
                "InstanceType": cast("Any", instance_type),  # SageMaker knows its types, not this program
                "VolumeSizeInGB": volume_gb or volume_of(work.size, instances),
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": MAX_RUNTIME_S},
        "AppSpecification": {"ImageUri": place.image, "ContainerEntrypoint": ["/bin/bash", "-c", START]},
        "Environment": ENVIRONMENT,
        "NetworkConfig": {"EnableNetworkIsolation": True},
        "RoleArn": place.role,
        "Tags": [{"Key": APP_TAG, "Value": place.app}],
    }
    if place.key:
        request["ProcessingOutputConfig"]["KmsKeyId"] = place.key
    return request


def volume_of(size: int, instances: int) -> int:
    """Return the disk of an instance in GB, for files of `size` bytes in all."""
    return max(MIN_VOLUME_GB, math.ceil(VOLUME_PER_FILES * size / instances / 2**30))


def _input(name: str, address: str, *, sharded: bool = False) -> ProcessingInputTypeDef:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": address,
            "LocalPath": f"{FOLDER}/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "ShardedByS3Key" if sharded else "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


class Jobs:
    """The processing jobs of an account."""

    def __init__(self, session: boto3.Session) -> None:
        with failures():
            self._client = session.client("sagemaker")

    def newest(self, part: str) -> tuple[str, str] | None:
        """Return name and status of the newest job whose name holds `part`, None where there is none."""
        with failures("processing jobs"):
            found = self._client.list_processing_jobs(
                NameContains=part, SortBy="CreationTime", SortOrder="Descending", MaxResults=1
            )["ProcessingJobSummaries"]
        return (found[0]["ProcessingJobName"], found[0]["ProcessingJobStatus"]) if found else None

    def start(self, request: CreateProcessingJobRequestTypeDef) -> None:
        """Start a job.

        Raises:
            CallFailed: it is refused; quotas and rights are named.
        """
        with failures(f"job {request['ProcessingJobName']}"):
            self._client.create_processing_job(**request)

    def follow(self, name: str, report: Callable[[str], None]) -> None:
        """Report a job's status, again and again, until it has ended.

        Raises:
            CallFailed: it failed or was stopped, in one line with SageMaker's and the program's reasons.
        """
        pause, broken = FIRST_POLL_S, 0
        while True:
            try:
                with failures(f"job {name}"):
                    job = self._client.describe_processing_job(ProcessingJobName=name)
                broken = 0
            except CallFailed as error:
                broken += 1
                if broken == ATTEMPTS or isinstance(error.__cause__, AwsError):
                    raise
            else:
                if job["ProcessingJobStatus"] not in ("InProgress", "Stopping"):
                    break
                report(job["ProcessingJobStatus"])
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_S)
        report(job["ProcessingJobStatus"])
        if job["ProcessingJobStatus"] != "Completed":
            raise CallFailed(_failure(name, job))


def _failure(name: str, job: DescribeProcessingJobResponseTypeDef | Mapping[str, str]) -> str:
    if job["ProcessingJobStatus"] == "Stopped":
        return f"job {name} was stopped"
    reasons = [job.get("ExitMessage", ""), job.get("FailureReason", "")]
    said = one_line("; ".join(filter(None, reasons)) or "no reason given", MAX_REASON)
    return f"job {name} failed: {said}; log: {LOG_GROUP}, streams {name}/"
