"""One whole life of a deployment, by the real CDK command against AWS on 127.0.0.1, and what was seen in it.

    bootstrap, deploy, doctor, cost, stage --status, down, deploy with changed settings, up, destroy, sweep

The life is lived once; tests look at what it saw. Settings that moto needs: no function that a template
waits for (`weights`, `image`, `empty_on_destroy`), and instance types that moto knows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from click.testing import CliRunner, Result

from client.aws import open_session
from client.cli import main
from tests.support.local_aws import ACCOUNT, REGION, ROOT, LocalAws

CDK = ROOT / ".dev" / "cdk" / "node_modules" / ".bin" / "cdk"
NAME = "Chat"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/openchatkit:1"
CHAT, JUDGE = "togethercomputer/GPT-NeoXT-Chat-Base-20B", "togethercomputer/GPT-JT-Moderation-6B"
SETTINGS: Mapping[str, str] = {
    "name": NAME,
    "weights": "staged",
    "image": IMAGE,
    "empty_on_destroy": "false",
    "chat_instance_type": "ml.g4dn.12xlarge",
    "moderation_instance_type": "ml.g4dn.12xlarge",
    "chat_revision": "a" * 40,
    "moderation_revision": "b" * 40,
}
CHANGED: Mapping[str, str] = {
    **SETTINGS,
    "log_retention_days": "7",
    "chat_instances_min": "2",
    "chat_instances_max": "2",
}
CDK_LIMIT_S = 400
MAX_SHOWN = 4000
DIRECT = ("--all", "--method", "direct", "--require-approval", "never", "--progress", "events")
"""Moto's change sets lose the exports."""


@dataclass
class Life:
    """What was seen, in the order of the fields."""

    deployed: dict[str, Any] = field(default_factory=dict)
    commands: dict[str, Result] = field(default_factory=dict)
    """Outputs of `ock`, by what was called when."""
    off: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    on: dict[str, Any] = field(default_factory=dict)
    destroyed: dict[str, Any] = field(default_factory=dict)
    destroying: str = ""
    """What the CDK said while it destroyed."""


class Operator:
    """Runs the CDK and `ock` in one environment."""

    def __init__(self, aws: LocalAws, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **aws.environment,
            "CDK_DEFAULT_ACCOUNT": ACCOUNT,
            "CDK_DEFAULT_REGION": REGION,
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            "CDK_DISABLE_VERSION_CHECK": "1",
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
            "NODE_NO_WARNINGS": "1",
            "HOME": str(folder),
            "CI": "1",
        }

    def bootstrap(self) -> None:
        # Elsewhere: here it would first synthesize the app, which it needs nothing of.
        self._cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", cwd=self._folder)

    def deploy(self, settings: Mapping[str, str]) -> None:
        self._cdk("deploy", *DIRECT, "--app", f"{sys.executable} app.py", *given(settings))

    def destroy(self) -> str:
        # What was deployed last, without making it anew.
        return self._cdk("destroy", "--all", "--force", "--app", str(self._folder / "cdk.out"))

    def ock(self, *arguments: str, stdin: str | None = None) -> Result:
        command, *rest = arguments
        return CliRunner().invoke(main, [command, *given(SETTINGS), *rest], input=stdin, prog_name="ock")

    def _cdk(self, *arguments: str, cwd: Path = ROOT) -> str:
        output = () if "destroy" in arguments else ("--output", str(self._folder / "cdk.out"))
        done = subprocess.run(
            [str(CDK), *arguments, *output, "--no-notices"],
            cwd=cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CDK_LIMIT_S,
            check=False,
        )
        said = (done.stdout + done.stderr)[-MAX_SHOWN:]
        assert done.returncode == 0, said
        return said


def given(settings: Mapping[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def live(aws: LocalAws, folder: Path) -> Life:
    """Live it; boto3 in this process must speak to `aws` already."""
    operator, life = Operator(aws, folder), Life()
    operator.bootstrap()
    operator.deploy(SETTINGS)
    life.deployed = observe()
    life.commands["doctor"] = operator.ock("doctor", "--json")
    life.commands["cost"] = operator.ock("cost", "--json")
    life.commands["sweep deployed"] = operator.ock("sweep", "--json")
    life.commands["not staged"] = operator.ock("stage", "--status")
    put_manifests(life.deployed["bucket"])
    life.commands["staged"] = operator.ock("stage", "--status")
    life.commands["down"] = operator.ock("down", "--wait")
    life.off = observe()
    operator.deploy(CHANGED)
    life.changed = observe()
    life.commands["up"] = operator.ock("up", "--wait")
    life.on = observe()
    empty(life.deployed["bucket"])  # what the function of `empty_on_destroy` does elsewhere
    life.destroying = operator.destroy()
    life.destroyed = observe()
    life.commands["sweep destroyed"] = operator.ock("sweep", "--json")
    return life


def put_manifests(bucket: str) -> None:
    files = [{"path": "model.safetensors", "size": 41_000_000_000, "sha256": "0" * 64}]
    manifest = {"format": 1, "files": files, "total_size": 41_000_000_000}
    for model, revision in ((CHAT, "a" * 40), (JUDGE, "b" * 40)):
        key = f"weights/{model}/{revision}/manifest.json"
        open_session().client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(manifest).encode())


def empty(bucket: str) -> None:
    client = open_session().client("s3")
    held = client.list_object_versions(Bucket=bucket).get("Versions", [])
    for version in held:
        client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def observe() -> dict[str, Any]:
    """Return what there is, by boto3."""
    session = open_session()
    stacks = session.client("cloudformation").describe_stacks()["Stacks"]
    return {
        "stacks": {stack["StackName"]: stack["StackStatus"] for stack in stacks},
        "tables": [_table(session, name) for name in session.client("dynamodb").list_tables()["TableNames"]],
        "log retention": {
            group["logGroupName"]: group.get("retentionInDays")
            for group in session.client("logs").describe_log_groups()["logGroups"]
        },
        "alarms": session.client("cloudwatch").describe_alarms()["MetricAlarms"],
        "keys": [
            session.client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"]
            for key in session.client("kms").list_keys()["Keys"]
        ],
        **_serving(session),
        **_bucket(session),
    }


def _serving(session: boto3.Session) -> dict[str, Any]:
    client = session.client("sagemaker")
    models = client.list_models()["Models"]
    configs = client.list_endpoint_configs()["EndpointConfigs"]
    return {
        "models": [_bare(client.describe_model(ModelName=one["ModelName"])) for one in models],
        "configs": [
            _bare(client.describe_endpoint_config(EndpointConfigName=one["EndpointConfigName"]))
            for one in configs
        ],
        "endpoints": [
            _bare(client.describe_endpoint(EndpointName=one["EndpointName"]))
            for one in client.list_endpoints()["Endpoints"]
        ],
    }


def _bare(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def _table(session: boto3.Session, name: str) -> dict[str, Any]:
    client = session.client("dynamodb")
    return {
        **client.describe_table(TableName=name)["Table"],
        "ttl": client.describe_time_to_live(TableName=name)["TimeToLiveDescription"],
        "recovery": client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"],
    }


def _bucket(session: boto3.Session) -> dict[str, Any]:
    client = session.client("s3")
    mine = [one["Name"] for one in client.list_buckets()["Buckets"] if one["Name"].startswith("chat-")]
    if not mine:
        return {"bucket": None}
    (name,) = mine
    encryption = client.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"][0]
    return {
        "bucket": name,
        "encryption": encryption["ApplyServerSideEncryptionByDefault"],
        "public access": client.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
        "versioning": client.get_bucket_versioning(Bucket=name).get("Status"),
    }
