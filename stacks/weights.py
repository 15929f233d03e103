"""The weights: a build that brings a model from the hub to the bucket, run by a deployment or by `ock stage`.

The project runs `python -m staging` (see there) for the model and revision in its environment variables
`MODEL` and `REVISION`. With `weights: deploy` a deployment starts it for each model and waits; what is in
the bucket already is found by its manifest and not brought again. With `weights: staged` nothing is run.
"""

from __future__ import annotations

from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from stacks.acknowledged import acknowledge, resource_finding
from stacks.build_project import BuildProject
from stacks.settings import DeploySettings
from stacks.stack import AppStack
from stacks.storage import StorageStack

PREFIX = "weights"
INSTALL = """\
set -euo pipefail
mkdir -p "$HOME/program"
cp -r . "$HOME/program/staging"
python3 -m venv "$HOME/venv"
"$HOME/venv/bin/pip" install --quiet --require-hashes -r "$HOME/program/staging/requirements.txt"
"""
RUN = f"""\
set -euo pipefail
cd "$HOME/program"
given=(--model "$MODEL" --revision "$REVISION" --bucket "$BUCKET" --prefix {PREFIX} --kms-key "$KMS_KEY")
[ -z "$TOKEN_SECRET" ] || given+=(--token-secret "$TOKEN_SECRET")
"$HOME/venv/bin/python" -m staging "${{given[@]}}"
"""


class WeightsStack(AppStack):
    """The staging project and, with `weights: deploy`, its builds."""

    def __init__(self, scope: Construct, settings: DeploySettings, storage: StorageStack) -> None:
        super().__init__(scope, settings, "Weights", "brings the models' weights from the hub to the bucket")
        secret = _secret(self, settings)
        self.staging = BuildProject(
            self,
            "Staging",
            description=f"{settings.name}: weights from the hub to the bucket",
            folder="staging",
            install=[INSTALL],
            commands=[RUN],
            environment={
                "MODEL": settings.chat_model,
                "REVISION": settings.chat_revision,
                "BUCKET": storage.bucket.bucket_name,
                "KMS_KEY": storage.key.key_arn,
                "TOKEN_SECRET": secret.secret_arn if secret else "",
            },
            key=storage.key,
        )
        project = self.staging.project
        _allow_upload(project, storage)
        if secret:
            secret.grant_read(project)
        if settings.weights == "deploy":
            waiting = self.staging.waiting("Waits for the weights")
            for role in ("chat", "moderation"):
                model, revision = settings.model(role), settings.revision(role)
                self.staging.build(
                    role.title(),
                    waiting,
                    fingerprint=f"{model}@{revision}",
                    environment={"MODEL": model, "REVISION": revision},
                )
        self.output("StagingProject", project.project_name, "What `ock stage` runs")


def _allow_upload(project: codebuild.Project, storage: StorageStack) -> None:
    """Let the program read and write below the prefix; the key is the project's own already."""
    bucket = storage.bucket
    project.add_to_role_policy(
        iam.PolicyStatement(
            actions=[
                "s3:GetObject",
                "s3:PutObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            resources=[bucket.arn_for_objects(f"{PREFIX}/*")],
        )
    )
    project.add_to_role_policy(
        iam.PolicyStatement(
            actions=["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
            resources=[bucket.bucket_arn],
        )
    )
    finding = resource_finding(project, bucket.bucket_arn, storage)
    acknowledge(project, {f"{finding}/{PREFIX}/*]": "The program brings whichever model it is told to."})


def _secret(stack: AppStack, settings: DeploySettings) -> secretsmanager.ISecret | None:
    name = settings.hub_token_secret
    if name is None:
        return None
    if name.startswith("arn:"):
        return secretsmanager.Secret.from_secret_complete_arn(stack, "HubToken", name)
    return secretsmanager.Secret.from_secret_name_v2(stack, "HubToken", name)
