import json
from pathlib import Path

import pytest

from stacks.image import base_image, base_tag
from stacks.settings import SettingsError
from tests.stacks.synthesis import IMAGE, PLAIN, synthesize


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "763104351884.dkr.ecr.us-east-1.amazonaws.com"),
        ("me-central-1", "914824155844.dkr.ecr.me-central-1.amazonaws.com"),
        ("cn-north-1", "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_base_comes_from_the_regions_registry(region: str, host: str) -> None:
    assert base_image(region).startswith(f"{host}/djl-inference:")


def test_a_region_without_containers_is_refused() -> None:
    with pytest.raises(SettingsError, match="image: AWS offers no deep learning containers in nowhere-1"):
        base_image("nowhere-1")


@pytest.mark.parametrize("content", [None, "FROM scratch\n", "ARG BASE_IMAGE\n"])
def test_a_dockerfile_without_a_base_is_refused(content: str | None, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    if content is not None:
        dockerfile.write_text(content)
    with pytest.raises(SettingsError, match=r"image: .*Dockerfile has no line ARG BASE_IMAGE="):
        base_tag(dockerfile)


def test_an_image_that_is_there_is_used_as_it_is() -> None:
    found = synthesize(**PLAIN)
    for model in found.resources("Endpoint", "AWS::SageMaker::Model"):
        assert model["Properties"]["PrimaryContainer"]["Image"] == IMAGE
    pull = json.dumps([one["Properties"] for one in found.resources("Endpoint", "AWS::IAM::Policy")])
    assert ":ecr:us-east-1:123456789012:repository/openchatkit" in pull


def test_an_asset_is_built_for_the_endpoints_processors() -> None:
    found = synthesize(**{**PLAIN, "image": "asset"})
    (assets,) = json.loads((found.folder / "OpenChatKit-Image.assets.json").read_text())[
        "dockerImages"
    ].values()
    assert assets["source"]["platform"] == "linux/amd64"
    assert "/djl-inference:" in assets["source"]["dockerBuildArgs"]["BASE_IMAGE"]


def test_codebuild_pushes_under_the_fingerprint_and_is_waited_for() -> None:
    found = synthesize(**{**PLAIN, "image": "codebuild"})
    build = found.only("Image", "Custom::Build")["Properties"]
    tag = build["Environment"]["TAG"]
    assert build["Fingerprint"] == tag
    model = found.resources("Endpoint", "AWS::SageMaker::Model")[0]["Properties"]
    assert json.dumps(model["PrimaryContainer"]["Image"]).endswith(f':{tag}"]]}}')
    repository = found.only("Image", "AWS::ECR::Repository")["Properties"]
    assert repository["EmptyOnDelete"] is True
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert (
        found.only("Image", "AWS::CodeBuild::Project")["Properties"]["Environment"]["PrivilegedMode"] is True
    )
