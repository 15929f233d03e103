"""A deployment from bootstrap to destroy: the real command, real templates, AWS on 127.0.0.1."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.deployment import APP_TAG
from client.estimate import alarm_metrics
from client.switching import SUCCESS
from stacks.settings import DeploySettings
from tests.deploy.life import CDK, CHAT, IMAGE, JUDGE, NAME, SETTINGS, Life, live
from tests.support.local_aws import serve_aws

pytestmark = pytest.mark.timeout(900)
STACKS = {f"{NAME}-{part}" for part in ("Storage", "Image", "Weights", "Endpoint", "Monitoring")}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    if not CDK.exists():
        pytest.skip("needs the CDK's command: scripts/setup_tests installs it where there is npm")
    with serve_aws() as aws, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in aws.environment.items():
            patch.setenv(name, value)
        yield live(aws, tmp_path_factory.mktemp("life"))


def fields(life: Life, command: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(life.commands[command].stdout)
    return read


def test_all_stacks_are_deployed(life: Life) -> None:
    ours = {name: status for name, status in life.deployed["stacks"].items() if name != "CDKToolkit"}
    assert ours.keys() == STACKS
    assert set(ours.values()) == {"CREATE_COMPLETE"}


def test_both_models_run_the_image_with_their_weights(life: Life) -> None:
    containers = [model["PrimaryContainer"] for model in life.deployed["models"]]
    assert [container["Image"] for container in containers] == [IMAGE, IMAGE]
    bundles = {container["ModelDataUrl"] for container in containers}
    assert len(bundles) == 2
    assert all(bundle.endswith(".gz") for bundle in bundles)
    bucket = life.deployed["bucket"]
    weights = {container["Environment"]["OPTION_MODEL_ID"] for container in containers}
    assert weights == {
        f"s3://{bucket}/weights/{CHAT}/{'a' * 40}/",
        f"s3://{bucket}/weights/{JUDGE}/{'b' * 40}/",
    }


def test_the_config_has_both_variants(life: Life) -> None:
    (config,) = life.deployed["configs"]
    variants = {variant["VariantName"]: variant for variant in config["ProductionVariants"]}
    assert variants.keys() == {"chat", "moderation"}
    assert variants["chat"]["InstanceType"] == "ml.g4dn.12xlarge"
    assert (variants["chat"]["InitialVariantWeight"], variants["moderation"]["InitialVariantWeight"]) == (
        1,
        0,
    )


def test_the_endpoint_is_in_service_with_that_config(life: Life) -> None:
    (endpoint,) = life.deployed["endpoints"]
    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == life.deployed["configs"][0]["EndpointConfigName"]


def test_the_table_of_conversations(life: Life) -> None:
    (table,) = life.deployed["tables"]
    assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == [
        ("session_id", "HASH"),
        ("turn", "RANGE"),
    ]
    (index,) = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "owner-updated_at-index"
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["owner", "updated_at"]
    assert table["ttl"] == {"AttributeName": "expires_at", "TimeToLiveStatus": "ENABLED"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    recovery = table["recovery"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"


def test_the_bucket_is_encrypted_and_not_public(life: Life) -> None:
    assert life.deployed["encryption"]["SSEAlgorithm"] == "aws:kms"
    assert life.deployed["encryption"]["KMSMasterKeyID"].startswith("arn:aws:kms:")
    assert set(life.deployed["public access"].values()) == {True}
    assert life.deployed["versioning"] == "Enabled"


def test_the_cost_counts_the_alarms_that_there_are(life: Life) -> None:
    watched = sum(
        sum("MetricStat" in query for query in alarm.get("Metrics", [])) or 1
        for alarm in life.deployed["alarms"]
    )
    assert watched == alarm_metrics(DeploySettings(**dict(SETTINGS)))
    assert fields(life, "cost")["usd_hour"] == pytest.approx(2 * 4.89)


def test_doctor_finds_a_bootstrapped_account_and_no_weights_yet(life: Life) -> None:
    checks = {check["name"]: check for check in fields(life, "doctor")["checks"]}
    for name in ("cdk", "node", "credentials", "region", "bootstrap", "stacks"):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["stacks"]["detail"] == "5 of 5 deployed"
    assert checks["weights"]["advice"] == "run `ock stage`"


def test_stage_tells_whether_the_weights_are_there(life: Life) -> None:
    assert life.commands["not staged"].exit_code == 1
    assert life.commands["not staged"].stdout.count("missing") == 2
    assert life.commands["staged"].exit_code == 0
    assert life.commands["staged"].stdout.count("staged") == 2
    assert "1 files, 41.0 GB" in life.commands["staged"].stdout


def test_sweep_finds_everything_by_its_tag(life: Life) -> None:
    found = fields(life, "sweep deployed")
    kinds = {leftover["kind"] for leftover in found["leftovers"]}
    assert kinds >= {"stack", "endpoint", "endpoint configuration", "model", "alarm", "table", "bucket"}
    assert kinds >= {"log group", "build project", "parameter", "role", "key"}
    assert (found["others"], found["failures"]) == ([], [])
    assert found["usd_month"] > 2 * 4.89 * 730
    assert APP_TAG == "openchatkit:app"


def test_down_takes_the_endpoint_and_nothing_else(life: Life) -> None:
    assert life.commands["down"].exit_code == 0, life.commands["down"].output
    assert life.off["endpoints"] == []
    for kept in ("models", "configs", "tables", "bucket"):
        assert life.off[kept] == life.deployed[kept]


def test_a_deployment_while_it_is_off_changes_settings_and_leaves_it_off(life: Life) -> None:
    assert life.changed["endpoints"] == []
    assert set(life.changed["stacks"].values()) <= set(SUCCESS)
    assert life.deployed["log retention"]["/aws/sagemaker/Endpoints/chat"] == 30
    assert life.changed["log retention"]["/aws/sagemaker/Endpoints/chat"] == 7
    (config,) = life.changed["configs"]
    counts = {
        variant["VariantName"]: variant["InitialInstanceCount"] for variant in config["ProductionVariants"]
    }
    assert counts == {"chat": 2, "moderation": 1}
    assert life.changed["bucket"] == life.deployed["bucket"], "data stays where it is"
    assert life.changed["tables"][0]["TableName"] == life.deployed["tables"][0]["TableName"]


def test_up_brings_it_back_with_the_changed_settings(life: Life) -> None:
    assert life.commands["up"].exit_code == 0, life.commands["up"].output
    (endpoint,) = life.on["endpoints"]
    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == life.changed["configs"][0]["EndpointConfigName"]


def test_destroy_leaves_nothing(life: Life) -> None:
    for gone in ("models", "configs", "endpoints", "tables", "alarms"):
        assert life.destroyed[gone] == [], life.destroying
    assert life.destroyed["bucket"] is None
    assert life.destroyed["stacks"].keys() <= {"CDKToolkit"}
    found = fields(life, "sweep destroyed")
    assert [leftover for leftover in found["leftovers"] if not leftover["expiring"]] == []
    assert (found["usd_month"], found["others"], found["failures"]) == (0, [], [])
    assert {leftover["kind"] for leftover in found["leftovers"]} <= {"key"}


def test_nothing_was_written_into_the_checkout(life: Life, tmp_path: Path) -> None:
    kept = Path(__file__).resolve().parents[2] / "cdk.context.json"
    assert not kept.exists() or "a" * 40 not in kept.read_text()
