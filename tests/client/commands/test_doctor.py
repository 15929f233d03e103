"""`ock doctor` as a whole: a line a check, an exit status, and no check that stops the others."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.aws import open_session
from client.checks.account import Need
from client.commands.doctor import quota_needs
from stacks.settings import DeploySettings
from tests.client.checks.test_account import quota_page
from tests.client.checks.test_machine import program
from tests.client.conftest import Run
from tests.support.hub import serve_hub
from tests.support.local_aws import LocalAws
from tests.support.refusing_aws import serve_refusals

CHAT = "togethercomputer/GPT-NeoXT-Chat-Base-20B"
JUDGE = "togethercomputer/GPT-JT-Moderation-6B"
TWICE = "blue_green: twice 1"
PLENTY = quota_page({"ml.g5.12xlarge": 4, "ml.g5.xlarge": 4})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with serve_hub() as hub:
        for model in (CHAT, JUDGE):
            hub.add_repo(model, {"config.json": b"{}"})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has everything."""
    folder = tmp_path / "bin"
    program(folder, "node", "echo v24.1.0")
    program(folder, "docker", "echo 28.1.1")
    program(tmp_path / "app" / "node_modules" / ".bin", "cdk", "echo 2.1148.1")
    (tmp_path / "app" / "package.json").write_text('{"devDependencies": {"aws-cdk": "2.1148.1"}}')
    monkeypatch.setenv("PATH", str(folder))


def read(operate: Run, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    result = operate("doctor", "--json", *arguments)
    fields = json.loads(result.stdout)
    assert fields["ok"] == (result.exit_code == 0)
    return result.exit_code, {check["name"]: check for check in fields["checks"]}


def bootstrapped() -> None:
    open_session().client("ssm").put_parameter(
        Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String"
    )


@pytest.mark.usefixtures("aws", "hub")
def test_all_is_well(operate: Run, machine: None) -> None:
    bootstrapped()
    with serve_refusals(lambda _: (200, PLENTY), service="SERVICE_QUOTAS"):
        result = operate("doctor")
    assert result.exit_code == 0, result.output
    marks = {line.split()[1]: line.split()[0] for line in result.stdout.splitlines() if " token" not in line}
    assert marks.pop("weights") == "-"
    assert set(marks.values()) == {"ok"}
    assert set(marks) == (
        {"python", "node", "cdk", "credentials", "region", "settings", "bootstrap"}
        | {"stacks", "quota", "image", "hub"}
    )


@pytest.mark.usefixtures("aws", "hub")
def test_what_is_wrong_says_what_to_do(operate: Run, machine: None) -> None:
    with serve_refusals(lambda _: (200, quota_page({"ml.g5.12xlarge": 1})), service="SERVICE_QUOTAS"):
        status, checks = read(operate, "-c", "hub_token_secret=hub", "-c", "weights=staged")
    assert status == 1
    wrong = {name for name, check in checks.items() if check["status"] == "wrong"}
    assert wrong == {"bootstrap", "quota", "hub token", "weights"}
    assert all(checks[name]["advice"] for name in wrong)
    assert "--desired-value 2" in checks["quota"]["advice"]


@pytest.mark.usefixtures("aws")
def test_the_weights_that_are_staged(operate: Run, machine: None) -> None:
    given = ["-c", "weights=staged"]
    for role in ("chat", "moderation"):
        given += ["-c", f"{role}_revision={'a' * 40}"]
    template = {"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "weights-here"}}}}
    session = open_session()
    with serve_refusals(lambda _: (200, PLENTY), service="SERVICE_QUOTAS"):
        assert read(operate, *given)[1]["weights"]["detail"] == "there is no bucket yet"
        session.client("cloudformation").create_stack(
            StackName="Chat-Storage", TemplateBody=json.dumps(template)
        )
        assert read(operate, *given)[1]["weights"]["advice"] == "run `ock stage`"
        for model in (CHAT, JUDGE):
            key = f"weights/{model}/{'a' * 40}/manifest.json"
            session.client("s3").put_object(Bucket="weights-here", Key=key, Body=b"{}")
        assert read(operate, *given)[1]["weights"]["status"] == "ok"


@pytest.mark.usefixtures("aws")
def test_a_gated_model_needs_a_token(operate: Run, machine: None, hub: Any) -> None:
    hub.add_repo("org/gated", {"config.json": b"{}"}, tokens=frozenset({"t"}))
    with serve_refusals(lambda _: (200, PLENTY), service="SERVICE_QUOTAS"):
        _, checks = read(operate, "-c", "chat_model=org/gated")
        assert checks["hub"]["status"] == "wrong"
        assert "hub_token_secret" in checks["hub"]["advice"]
        open_session().client("secretsmanager").create_secret(Name="token", SecretString="canary")
        _, checks = read(operate, "-c", "chat_model=org/gated", "-c", "hub_token_secret=token")
        assert (checks["hub"]["status"], checks["hub token"]["status"]) == ("ok", "ok")
        _, checks = read(operate, "-c", "chat_model=org/missing")
        assert "org/missing" in checks["hub"]["detail"]


@pytest.mark.usefixtures("hub")
def test_without_credentials_the_rest_still_answers(
    operate: Run, machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LocalAws(0).environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    status, checks = read(operate, "--region", "us-east-1")
    assert status == 1
    assert checks["credentials"]["detail"].startswith("no AWS credentials")
    assert checks["bootstrap"]["status"] == checks["quota"]["status"] == "unknown"
    assert checks["node"]["status"] == checks["hub"]["status"] == checks["region"]["status"] == "ok"
    _, checks = read(operate)
    assert checks["region"]["detail"] == "none is set"


@pytest.mark.usefixtures("hub")
def test_an_aws_that_cannot_be_reached(operate: Run, machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        environment = {
            **LocalAws(0).environment,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{held.getsockname()[1]}",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status, checks = read(operate)
    assert status == 1
    assert "cannot be reached" in checks["credentials"]["detail"]
    assert "cannot be reached" in checks["quota"]["detail"]
    assert checks["python"]["status"] == "ok"


@pytest.mark.usefixtures("aws", "hub")
def test_settings_that_cannot_be_read(operate: Run, machine: None) -> None:
    status, checks = read(operate, "-c", "image=nonsense")
    assert status == 1
    assert checks["settings"]["detail"].startswith("setting image: ")
    assert checks["quota"]["detail"] == "the settings cannot be read"
    assert checks["credentials"]["status"] == "ok"


def test_a_profile_that_does_not_exist(operate: Run, machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    status, checks = read(operate, "--profile", "none-such")
    assert status == 1
    assert "none-such" in checks["credentials"]["detail"]


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        (
            {},
            [
                Need("ml.g5.12xlarge", 2, "blue_green: twice 1"),
                Need("ml.g5.xlarge", 2, "blue_green: twice 1"),
            ],
        ),
        ({"placement": "colocated"}, [Need("ml.g5.12xlarge", 2, "blue_green: twice 1")]),
        (
            {"placement": "colocated", "chat_instances_max": 5},
            [Need("ml.g5.12xlarge", 5, "5 when scaled out")],
        ),
        (
            {
                "placement": "colocated",
                "update_policy": "rolling",
                "chat_instances_min": 2,
                "chat_instances_max": 2,
            },
            [Need("ml.g5.12xlarge", 2, "2 at once")],
        ),
        (
            {"moderation_instance_type": "ml.g5.12xlarge", "update_policy": "canary"},
            [Need("ml.g5.12xlarge", 4, "canary: twice 2")],
        ),
    ],
)
def test_instances_needed(fields: dict[str, Any], needs: list[Need]) -> None:
    assert quota_needs(DeploySettings(**fields)) == needs
