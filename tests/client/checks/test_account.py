"""Checks of the account, against AWS as moto plays it; Service Quotas, which it lacks, by a small server."""

from __future__ import annotations

import json

import pytest

from client.aws import open_session
from client.checks import account
from client.checks.account import Need
from client.checks.check import ok
from client.errors import CallFailed
from tests.support.local_aws import LocalAws
from tests.support.refusing_aws import serve_refusals


def test_credentials(aws: LocalAws) -> None:
    assert account.credentials(open_session()).detail.startswith("account 123456789012, ")
    aws.enforce_permissions()
    assert account.credentials(open_session()).status == "wrong"


def test_region(aws: LocalAws) -> None:
    assert account.region(open_session()) == ok("us-east-1")
    assert account.region(open_session(region="xx-nowhere-1")).status == "wrong"


def test_bootstrap(aws: LocalAws) -> None:
    session = open_session()
    assert account.bootstrap(session).advice == "run `cdk bootstrap`"
    ssm = session.client("ssm")
    for value, status in (("5", "wrong"), ("6", "ok"), ("30", "ok"), ("new", "unknown")):
        ssm.put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value=value, Type="String", Overwrite=True)
        assert account.bootstrap(session).status == status
    assert account.bootstrap(session, "other").detail == "there is no /cdk-bootstrap/other/version"


def test_what_may_not_be_read_is_said(aws: LocalAws) -> None:
    iam = open_session().client("iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    aws.enforce_permissions()
    limited = open_session()
    limited._session.set_credentials(key["AccessKeyId"], key["SecretAccessKey"])
    with pytest.raises(CallFailed, match="not allowed to call DescribeStacks"):
        account.stacks(limited, ("Chat-Storage",))


def test_stacks(aws: LocalAws) -> None:
    session = open_session()
    names = ("Chat-Storage", "Chat-Endpoint")
    assert account.stacks(session, names).detail == "0 of 2 deployed"
    template = json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}})
    session.client("cloudformation").create_stack(StackName="Chat-Storage", TemplateBody=template)
    assert account.stacks(session, names).detail == "1 of 2 deployed"


def test_hub_token(aws: LocalAws) -> None:
    session = open_session()
    assert account.hub_token(session, "hub").status == "wrong"
    secrets = session.client("secretsmanager")
    arn = secrets.create_secret(Name="hub", SecretString="canary")["ARN"]
    assert account.hub_token(session, "hub") == ok("secret hub")
    assert account.hub_token(session, arn).status == "ok"
    secrets.delete_secret(SecretId="hub")
    assert account.hub_token(session, "hub").detail == "the secret hub is being deleted"


def test_staged(aws: LocalAws) -> None:
    session = open_session()
    manifests = {"org/chat": "weights/org/chat/abc/manifest.json"}
    assert account.staged(session, None, manifests).detail == "there is no bucket yet"
    s3 = session.client("s3")
    s3.create_bucket(Bucket="weights-here")
    assert account.staged(session, "weights-here", manifests).detail == "not in s3://weights-here: org/chat"
    s3.put_object(Bucket="weights-here", Key=manifests["org/chat"], Body=b"{}")
    assert account.staged(session, "weights-here", manifests).status == "ok"


def quota_page(quotas: dict[str, float], token: str | None = None) -> bytes:
    listed = [
        {"QuotaName": f"{name} for endpoint usage", "QuotaCode": f"L-{place}", "Value": value}
        for place, (name, value) in enumerate(quotas.items())
    ]
    page = {"Quotas": listed, "NextToken": token} if token else {"Quotas": listed}
    return json.dumps(page).encode()


def test_a_quota_that_suffices_is_read_page_by_page_and_no_further() -> None:
    pages = [quota_page({"ml.other": 1}, "more"), quota_page({"ml.g5.12xlarge": 2}, "even more")]
    with serve_refusals(lambda _: (200, pages.pop(0))) as server:
        outcome = account.quotas(open_session(), [Need("ml.g5.12xlarge", 2, "blue_green: twice 1")])
    assert outcome == ok("ml.g5.12xlarge: 2 allowed, 2 needed (blue_green: twice 1)")
    assert server.seen == ["ListServiceQuotas", "ListServiceQuotas"]


def test_a_quota_that_does_not_suffice_says_how_to_ask_for_more() -> None:
    needs = [Need("ml.g5.12xlarge", 2, "w"), Need("ml.g5.xlarge", 2, "w")]
    with serve_refusals(lambda _: (200, quota_page({"ml.g5.12xlarge": 0, "ml.g5.xlarge": 4}))):
        outcome = account.quotas(open_session(), needs)
    assert outcome.status == "wrong"
    assert "ml.g5.12xlarge: 0 allowed, 2 needed (w); ml.g5.xlarge: 4 allowed" in outcome.detail
    assert outcome.advice == (
        "ask for more: aws service-quotas request-service-quota-increase --service-code sagemaker "
        "--quota-code L-0 --desired-value 2 --region us-east-1"
    )


def test_aws_defaults_hold_where_the_account_has_none_of_its_own() -> None:
    def answer(action: str) -> tuple[int, bytes]:
        return 200, quota_page({"ml.g5.xlarge": 4} if action == "ListAWSDefaultServiceQuotas" else {})

    with serve_refusals(answer):
        assert account.quotas(open_session(), [Need("ml.g5.xlarge", 2, "w")]).status == "ok"


def test_a_type_that_the_region_lacks_is_unknown() -> None:
    with serve_refusals(lambda _: (200, quota_page({}))):
        outcome = account.quotas(open_session(), [Need("ml.g5.xlarge", 2, "w")])
    assert outcome.status == "unknown"
    assert "us-east-1" in outcome.detail


def test_quotas_that_may_not_be_read() -> None:
    body = json.dumps({"__type": "AccessDeniedException", "Message": "no"}).encode()
    with (
        serve_refusals(lambda _: (400, body)),
        pytest.raises(CallFailed, match=r"^not allowed to call ListServiceQuotas"),
    ):
        account.quotas(open_session(), [Need("ml.g5.xlarge", 2, "w")])
