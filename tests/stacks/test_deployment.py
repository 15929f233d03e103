"""The templates of the whole app, over combinations of settings: linted, and looked at by cdk-nag."""

import json
from collections.abc import Mapping

import aws_cdk
import pytest
from cdk_nag import AwsSolutionsChecks
from cfnlint.api import lint  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]

from stacks.deployment import APP_TAG
from tests.stacks.matrix import all_rows, context, pairs, pairwise
from tests.stacks.synthesis import PLAIN, synthesize, synthesize_checked

# The first test of a process starts the CDK's library, cdk-nag and cfn-lint.
pytestmark = pytest.mark.timeout(600)

ROWS = pairwise()
BROUGHT_BY_THE_CDK = ["W3005"]
"""A dependency that a reference says already: the CDK writes both, of grants and of functions."""
UNTAGGED = {
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::CloudWatch::Dashboard",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::IAM::Policy",
    "AWS::KMS::Alias",
    "AWS::Lambda::Permission",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::Scheduler::Schedule",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "Custom::Build",
    "Custom::EmptyBucket",
}
"""CloudFormation knows no tags of these."""
linted: dict[str, list[str]] = {}


def name(row: Mapping[str, str]) -> str:
    return "-".join(row.values())


def findings(template: str) -> list[str]:
    """Lint a template; combinations share many, and each is linted once."""
    if template not in linted:
        found = lint(template, config=ManualArgs(ignore_checks=BROUGHT_BY_THE_CDK))
        linted[template] = [f"{one.rule.id} {one.message}" for one in found]
    return linted[template]


def test_the_rows_hold_every_pair_of_choices() -> None:
    assert pairs(ROWS) == pairs(all_rows())
    assert len(ROWS) < len(all_rows()) / 10


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_templates_pass_cfn_lint_and_cdk_nag(row: Mapping[str, str]) -> None:
    found = synthesize_checked(**context(row))
    assert {part: findings(template) for part, template in found.templates().items()} == {
        part: [] for part in found.settings.stack_names
    }


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_synthesis_needs_no_lookup(row: Mapping[str, str]) -> None:
    assert "missing" not in synthesize_checked(**context(row)).manifest()


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_everything_carries_the_tag(row: Mapping[str, str]) -> None:
    found = synthesize_checked(**context(row))
    for part, identifier, resource in found.all_resources():
        tags = resource.get("Properties", {}).get("Tags")
        if tags is None:
            assert resource["Type"] in UNTAGGED, f"{part}/{identifier} is a {resource['Type']}"
        elif isinstance(tags, dict):
            assert tags[APP_TAG] == "OpenChatKit"
        else:
            assert {"Key": APP_TAG, "Value": "OpenChatKit"} in tags


def test_lint_and_nag_find_what_is_wrong(tmp_path_factory: pytest.TempPathFactory) -> None:
    template = {"Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketNam": "x"}}}}
    assert findings(json.dumps(template))
    app = aws_cdk.App(outdir=str(tmp_path_factory.mktemp("bad")), analytics_reporting=False)
    aws_cdk.aws_s3.Bucket(aws_cdk.Stack(app, "Bad"), "Open")
    aws_cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()


def test_nothing_of_the_plain_deployment_is_run_by_cloudformation() -> None:
    kinds = {resource["Type"] for _, _, resource in synthesize(**PLAIN).all_resources()}
    assert not {kind for kind in kinds if kind.startswith(("Custom::", "AWS::CloudFormation::Custom"))}
    assert "AWS::Lambda::Function" not in kinds


def test_the_stacks_wait_for_what_they_need() -> None:
    artifacts = synthesize(**PLAIN).manifest()["artifacts"]
    needs = {
        part: {one for one in artifacts[f"OpenChatKit-{part}"]["dependencies"] if not one.endswith(".assets")}
        for part in ("Weights", "Endpoint", "Monitoring")
    }
    assert needs["Weights"] == {"OpenChatKit-Storage"}
    assert needs["Endpoint"] == {f"OpenChatKit-{part}" for part in ("Storage", "Image", "Weights")}
    assert "OpenChatKit-Endpoint" in needs["Monitoring"]


def test_every_stack_has_a_resource_of_its_own() -> None:
    found = synthesize(**PLAIN)
    assert all(found.template(part)["Resources"] for part in found.settings.stack_names)


def test_removal_decides_what_stays() -> None:
    # Whatever holds data or costs money; the rest is made again by a deployment.
    kinds = {"AWS::S3::Bucket", "AWS::KMS::Key", "AWS::DynamoDB::Table", "AWS::Logs::LogGroup"}
    for removal, policy in (("destroy", "Delete"), ("retain", "Retain")):
        for part, identifier, resource in synthesize(**PLAIN, removal=removal).all_resources():
            if resource["Type"] in kinds:
                assert resource["DeletionPolicy"] == policy, f"{part}/{identifier}"
                assert resource["UpdateReplacePolicy"] == policy, f"{part}/{identifier}"
