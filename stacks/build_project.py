"""A CodeBuild project over files of this checkout, and builds of it that a deployment waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import CustomResource, Duration, IgnoreMode
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from stacks.acknowledged import acknowledge, logical_id
from stacks.stack import stack_of
from stacks.waiting import Waiting

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ["**/__pycache__", "**/*.pyc", "**/.*"]
"""Of a folder that is uploaded: what comes and goes without a change of the program."""
BUILD_LIMIT = Duration.hours(3)
WAIT_LIMIT = Duration.minutes(55)
"""CloudFormation gives a custom resource one hour."""
PYTHON = "3.12"
"""One that CodeBuild's image has and the requirements are compiled for."""
POLL_EVERY = Duration.seconds(20)
CALL_LIMIT = Duration.minutes(2)


class BuildProject(Construct):
    """A project that runs `commands` over the files of `folder`."""

    def __init__(
        self,
        scope: Construct,
        identifier: str,
        *,
        description: str,
        folder: str,
        install: Sequence[str],
        commands: Sequence[str],
        environment: Mapping[str, str],
        key: kms.IKey,
        privileged: bool = False,
    ) -> None:
        super().__init__(scope, identifier)
        source = assets.Asset(
            self, "Source", path=str(ROOT / folder), exclude=LEFT_OUT, ignore_mode=IgnoreMode.GLOB
        )
        self.fingerprint = source.asset_hash
        self._log = stack_of(self).log_group(self)
        self.project = codebuild.Project(
            self,
            "Project",
            description=description,
            source=codebuild.Source.s3(bucket=source.bucket, path=source.s3_object_key),
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxBuildImage.STANDARD_7_0,
                # 8 processors, 15 GB of memory, 128 GB of disk: a 20B model twice, before and after it
                # is converted, or a build of Faiss for CUDA.
                compute_type=codebuild.ComputeType.LARGE,
                privileged=privileged,
            ),
            environment_variables={
                name: codebuild.BuildEnvironmentVariable(value=value) for name, value in environment.items()
            },
            build_spec=codebuild.BuildSpec.from_object(
                {
                    "version": "0.2",
                    "env": {"shell": "bash"},
                    "phases": {
                        "install": {
                            "runtime-versions": {"python": PYTHON},
                            "commands": [_apart(script) for script in install],
                        },
                        "build": {"commands": [_apart(script) for script in commands]},
                    },
                }
            ),
            encryption_key=key,
            grant_report_group_permissions=False,
            timeout=BUILD_LIMIT,
            logging=codebuild.LoggingOptions(
                cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=self._log)
            ),
        )

        any_file = "The CDK's grant on the program's archive, one file of its own bucket."
        any_way = "The CDK's grant of one key for encryption and decryption."
        group = "arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:/aws/codebuild"
        acknowledge(
            self,
            {
                **{f"IAM5[Action::s3:{action}*]": any_file for action in ("GetObject", "GetBucket", "List")},
                **{f"IAM5[Action::kms:{action}*]": any_way for action in ("ReEncrypt", "GenerateDataKey")},
                f"IAM5[Resource::{group}/<{logical_id(self.project)}>:*]": "The project's own log group.",
            },
        )

    def waiting(self, purpose: str) -> Waiting:
        """Return what starts builds of this project and waits for them."""
        waiting = Waiting(
            self,
            "Waiting",
            code="build_waiter",
            description=purpose,
            call_limit=CALL_LIMIT,
            total_limit=WAIT_LIMIT,
            poll_every=POLL_EVERY,
        )
        waiting.allow(["codebuild:StartBuild", "codebuild:BatchGetBuilds"], self.project.project_arn)
        waiting.allow(["logs:GetLogEvents"], self._log.log_group_arn)
        return waiting

    def build(
        self, identifier: str, waiting: Waiting, *, fingerprint: str, environment: Mapping[str, str]
    ) -> CustomResource:
        """Return a build as a resource: made when the fingerprint changes, and waited for."""
        build = CustomResource(
            self,
            identifier,
            service_token=waiting.service_token,
            resource_type="Custom::Build",
            properties={
                "ProjectName": self.project.project_name,
                "Fingerprint": fingerprint,
                "Environment": dict(environment),
            },
        )
        # The project's and the function's rights are resources of their own.
        build.node.add_dependency(self.project, waiting)
        return build


def _apart(script: str) -> str:
    # CodeBuild runs all commands in one shell, its own: options and exits must stay inside.
    return f"(\n{script})"
