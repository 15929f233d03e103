"""The container's image: built here, built in the account, or one that is there already.

Both ways of building start from AWS's LMI image, whose registry is another account in some regions. Its
tag stands in `container/Dockerfile` and only there. A Docker build here wants to be logged in to that
registry first (docs/operations.md); CodeBuild does it by itself.
"""

from __future__ import annotations

import re
from pathlib import Path

from aws_cdk import RemovalPolicy, Token, region_info
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.acknowledged import acknowledge
from stacks.build_project import LEFT_OUT, ROOT, BuildProject
from stacks.execution_role import PULL_ACTIONS
from stacks.indexing import IndexingRole
from stacks.settings import DeploySettings, SettingsError
from stacks.stack import AppStack
from stacks.storage import StorageStack

FOLDER = "container"
BASE_REPOSITORY = "djl-inference"
BASE_LINE = re.compile(rf"^ARG BASE_IMAGE=\S+/{BASE_REPOSITORY}:(?P<tag>\S+)$", re.MULTILINE)
DEFAULT_REGION = "us-east-1"
"""Whose registry the base comes from where the region is known only when it is deployed."""
KEPT_IMAGES = 3
BUILD = """\
set -euo pipefail
# A tag that is there is the same image: its name is the fingerprint of what it is built from.
query=(--repository-name "$REPOSITORY" --image-ids imageTag="$TAG" --query "length(images)")
[ "$(aws ecr batch-get-image "${query[@]}")" = 0 ] || exit 0
login() { docker login --username AWS --password-stdin "${1%%/*}"; }
aws ecr get-login-password --region "$BASE_REGION" | login "$BASE_IMAGE"
aws ecr get-login-password | login "$REPOSITORY_URI"
docker build --platform linux/amd64 --build-arg BASE_IMAGE="$BASE_IMAGE" -t "$REPOSITORY_URI:$TAG" .
docker push "$REPOSITORY_URI:$TAG"
"""


class ImageStack(AppStack):
    """What `image` asks for; `uri` is the result. And the role of jobs that run it beside the endpoint."""

    def __init__(self, scope: Construct, settings: DeploySettings, storage: StorageStack) -> None:
        super().__init__(scope, settings, "Image", "the container's image")
        self.repository: ecr.IRepository | None = None
        if settings.image == "asset":
            asset = ecr_assets.DockerImageAsset(
                self,
                "Container",
                directory=str(ROOT / FOLDER),
                platform=ecr_assets.Platform.LINUX_AMD64,
                build_args={"BASE_IMAGE": base_image(self.region)},
                exclude=LEFT_OUT,
            )
            self.repository, self.uri = asset.repository, asset.image_uri
        elif settings.image == "codebuild":
            self.repository, self.uri = _built_in_the_account(self, storage)
        else:
            self.uri = settings.image
            self.repository = _repository_of(self, settings.image)
        # A stack needs a resource of its own, also where the image is an asset or somewhere else.
        ssm.StringParameter(
            self,
            "ImageUri",
            parameter_name=f"/{settings.name}/image",
            string_value=self.uri,
            description="What the containers run",
        )
        indexing = IndexingRole(
            self,
            "Indexing",
            name=settings.name,
            bucket=storage.bucket,
            key=storage.key,
            repository=self.repository,
        )
        self.output("Image", self.uri, "What the containers run")
        self.output("IndexingRoleArn", indexing.role.role_arn, "Who builds indexes (`ock index build`)")


def base_image(region: str) -> str:
    """Return the URI of the LMI image in a region.

    Raises:
        SettingsError: AWS has no registry of deep learning containers there.
    """
    if Token.is_unresolved(region):
        region = DEFAULT_REGION
    facts = region_info.RegionInfo.get(region)
    if facts.dlc_repository_account is None:
        raise SettingsError(f"image: AWS offers no deep learning containers in {region}; give an image's URI")
    host = f"{facts.dlc_repository_account}.dkr.ecr.{region}.{facts.domain_suffix}"
    return f"{host}/{BASE_REPOSITORY}:{base_tag(ROOT / FOLDER / 'Dockerfile')}"


def base_tag(dockerfile: Path) -> str:
    """Return the tag of the LMI image that the Dockerfile names.

    Raises:
        SettingsError: there is no Dockerfile, or no such line in it.
    """
    found = BASE_LINE.search(dockerfile.read_text()) if dockerfile.is_file() else None
    if found is None:
        raise SettingsError(f"image: {dockerfile} has no line ARG BASE_IMAGE=.../{BASE_REPOSITORY}:TAG")
    return found["tag"]


def _built_in_the_account(stack: ImageStack, storage: StorageStack) -> tuple[ecr.Repository, str]:
    keep = stack.removal_policy == RemovalPolicy.RETAIN
    repository = ecr.Repository(
        stack,
        "Repository",
        image_scan_on_push=True,
        image_tag_mutability=ecr.TagMutability.IMMUTABLE,
        encryption=ecr.RepositoryEncryption.KMS,
        encryption_key=storage.key,
        empty_on_delete=not keep,
        removal_policy=stack.removal_policy,
        lifecycle_rules=[ecr.LifecycleRule(max_image_count=KEPT_IMAGES)],
    )
    base = base_image(stack.region)
    account, _, rest = base.partition(".dkr.ecr.")
    region = rest.partition(".")[0]
    build = BuildProject(
        stack,
        "Build",
        description=f"{stack.settings.name}: the container's image",
        folder=FOLDER,
        install=[],
        commands=[BUILD],
        environment={
            "BASE_IMAGE": base,
            "BASE_REGION": region,
            "REPOSITORY": repository.repository_name,
            "REPOSITORY_URI": repository.repository_uri,
            "TAG": "none",
        },
        key=storage.key,
        privileged=True,
    )
    acknowledge(
        build,
        {
            "CB3": "Docker builds an image in privileged mode only.",
            "IAM5[Resource::*]": "ecr:GetAuthorizationToken knows no resource.",
        },
    )
    repository.grant_pull_push(build.project)
    build.project.add_to_role_policy(
        iam.PolicyStatement(
            actions=PULL_ACTIONS,
            resources=[f"arn:{stack.partition}:ecr:{region}:{account}:repository/{BASE_REPOSITORY}"],
        )
    )
    tag = f"{build.fingerprint[:32]}-{base.rpartition(':')[2]}"[:128]
    build.build("Image", build.waiting("Waits for the image"), fingerprint=tag, environment={"TAG": tag})
    return repository, repository.repository_uri_for_tag(tag)


def _repository_of(stack: AppStack, uri: str) -> ecr.IRepository | None:
    """Return the ECR repository of an image, None where it is none of ECR's."""
    found = re.fullmatch(r"(\d{12})\.dkr\.ecr\.([\w-]+)\.[\w.]+?/([\w./-]+?)(:[\w.-]+|@sha256:\w+)", uri)
    if found is None:
        return None
    account, region, name, _ = found.groups()
    return ecr.Repository.from_repository_attributes(
        stack,
        "Given",
        repository_name=name,
        repository_arn=f"arn:{stack.partition}:ecr:{region}:{account}:repository/{name}",
    )
