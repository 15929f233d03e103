"""Which settings a command takes: those that `cdk` would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.aws import open_session
from client.deployment import Deployment, default_app_dir, storage_bucket
from client.errors import CallFailed
from tests.support.local_aws import LocalAws

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def test_what_is_given_wins_over_the_file_and_the_file_over_what_was_looked_up(tmp_path: Path) -> None:
    write(
        tmp_path, "cdk.context.json", {"name": "Looked", "chat_revision": "a" * 40, "log_retention_days": 7}
    )
    write(
        tmp_path, "cdk.json", {"context": {"name": "Written", "log_retention_days": 14, "@aws-cdk/x": True}}
    )
    settings = Deployment(["name=Given"], tmp_path).settings()
    assert (settings.name, settings.log_retention_days, settings.chat_revision) == ("Given", 14, "a" * 40)


def test_the_commits_that_a_synthesis_has_kept(tmp_path: Path) -> None:
    key = "openchatkit:revision:org/chat"
    write(tmp_path, "cdk.context.json", {key: "b" * 40})
    deployment = Deployment(["chat_model=org/chat"], tmp_path)
    assert deployment.settings().revision("chat") == "b" * 40
    assert deployment.settings().revision("moderation") == ""
    given = Deployment(["chat_model=org/chat", f"chat_revision={'c' * 40}"], tmp_path)
    assert given.settings().revision("chat") == "c" * 40
    write(tmp_path, "cdk.context.json", {key: "no commit"})
    with pytest.raises(CallFailed, match="chat_revision"):
        deployment.settings()


def test_without_files_the_defaults_hold(tmp_path: Path) -> None:
    assert Deployment([], tmp_path).settings().name == "OpenChatKit"


def test_a_value_may_hold_an_equals_sign(tmp_path: Path) -> None:
    assert Deployment(["image=r/i:t=x"], tmp_path).context()["image"] == "r/i:t=x"


@pytest.mark.parametrize("given", ["name", "=x", ""])
def test_what_is_no_pair_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(CallFailed, match="-c takes KEY=VALUE"):
        Deployment([given], tmp_path).context()


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallFailed, match=r"^setting placment: there is no such setting, did you"):
        Deployment(["placment=colocated"], tmp_path).settings()


@pytest.mark.parametrize("content", ["{", "[]", '{"context": []}', "\udcff"])
def test_a_file_that_is_not_the_cdks(tmp_path: Path, content: str) -> None:
    (tmp_path / "cdk.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CallFailed, match=r"cdk\.json.* is not"):
        Deployment([], tmp_path).context()


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cdk.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(CallFailed, match="too large"):
        Deployment([], tmp_path).context()


def test_the_app_of_the_current_folder_else_the_programs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_app_dir() == ROOT
    write(tmp_path, "cdk.json", {})
    assert default_app_dir() == tmp_path


def test_the_bucket_is_that_of_the_storage_stack(aws: LocalAws, tmp_path: Path) -> None:
    settings = Deployment(["name=Chat"], tmp_path).settings()
    session = open_session()
    assert storage_bucket(session, settings) is None
    template = {"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "weights-here"}}}}
    session.client("cloudformation").create_stack(StackName="Chat-Storage", TemplateBody=json.dumps(template))
    assert storage_bucket(session, settings) == "weights-here"


def test_a_storage_stack_without_a_bucket(aws: LocalAws, tmp_path: Path) -> None:
    template = {"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}
    open_session().client("cloudformation").create_stack(
        StackName="Chat-Storage", TemplateBody=json.dumps(template)
    )
    with pytest.raises(CallFailed, match="has 0 buckets, not one"):
        storage_bucket(open_session(), Deployment(["name=Chat"], tmp_path).settings())
