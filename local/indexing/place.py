"""Where a job runs: account, bucket, image, role and key. What is not given, the deployment tells.

A deployment's stacks `Storage` and `Image` are enough; its endpoint may be off or not there yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import boto3

from client.deployment import Deployment, default_app_dir
from client.errors import CallFailed
from client.stacks import Stack
from local.indexing.job_options import JobOptions


@dataclass(frozen=True)
class Place:
    """What a job needs of an account."""

    session: boto3.Session
    app: str
    """Name of the deployment, by which a bill finds the job."""
    bucket: str
    image: str
    role: str
    key: str | None
    """That encrypts what a job writes; None: as the bucket has it."""


def find_place(options: JobOptions) -> Place:
    """Return where a job runs.

    Raises:
        CallFailed: a setting is wrong, a stack is not deployed, or was deployed before it knew of jobs.
    """
    deployment = Deployment(
        options.context, options.app_dir or default_app_dir(), options.region, options.profile
    )
    settings, session = deployment.settings(), deployment.session()

    def told(part: str, output: str) -> str:
        stack = Stack(session, settings.stack_names[part])
        value = stack.outputs().get(output)
        if not value:
            raise CallFailed(
                f"the stack {stack.name} has no output {output}: deploy it again (`cdk deploy {stack.name}`)"
            )
        return value

    return Place(
        session=session,
        app=settings.name,
        bucket=options.bucket or told("Storage", "BucketName"),
        image=options.image or told("Image", "Image"),
        role=options.role or told("Image", "IndexingRoleArn"),
        key=None if options.bucket else told("Storage", "KeyArn"),
    )
