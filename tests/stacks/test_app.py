import json
import shutil
from pathlib import Path

import pytest

from tests.stacks.synthesis import IMAGE  # sets the library's environment before it starts
from tests.support.hub import serve_hub

import app  # isort: skip

FAST = ["-c", f"image={IMAGE}", "-c", "weights=staged", "-c", "empty_on_destroy=false"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's own files, where the app may write, and no account."""
    shutil.copy(app.HERE / app.CONFIG_FILE, tmp_path)
    monkeypatch.setattr(app, "HERE", tmp_path)
    monkeypatch.setenv("CDK_OUTDIR", str(tmp_path / "cdk.out"))
    # Nobody is asked by accident.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    for name in ("CDK_DEFAULT_ACCOUNT", "CDK_DEFAULT_REGION", app.CLI_ENV):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["app.py", *arguments])
    return app.main()


def model_id(folder: Path) -> str:
    template = json.loads((folder / "cdk.out" / "OpenChatKit-Endpoint.template.json").read_text())
    models = [one for one in template["Resources"].values() if one["Type"] == "AWS::SageMaker::Model"]
    return json.dumps(models[0]["Properties"]["PrimaryContainer"]["Environment"]["OPTION_MODEL_ID"])


def test_offline_every_stack_is_written_without_account_and_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "--offline", *FAST) == 0
    written = {path.name for path in (folder / "cdk.out").glob("*.template.json")}
    parts = ("Storage", "Image", "Weights", "Endpoint", "Monitoring")
    assert written == {f"OpenChatKit-{part}.template.json" for part in parts}
    assert app.NO_COMMIT in model_id(folder)
    assert not (folder / "cdk.context.json").exists()


@pytest.mark.parametrize("wanted", [True, False])
def test_path_metadata_is_a_setting_of_the_cli_and_no_context(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    config = json.loads((folder / app.CONFIG_FILE).read_text())
    # The CLI warns of keys that it reserves for itself.
    assert not any(name.startswith("aws:") for name in config["context"])
    assert config["pathMetadata"] is True
    (folder / app.CONFIG_FILE).write_text(json.dumps({**config, "pathMetadata": wanted}))
    assert run(monkeypatch, "--offline", *FAST) == 0
    template = (folder / "cdk.out" / "OpenChatKit-Storage.template.json").read_text()
    assert ("aws:cdk:path" in template) is wanted


def test_the_hubs_commit_is_deployed_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        repo = hub.add_repo("togethercomputer/GPT-NeoXT-Chat-Base-20B", {"config.json": b"{}"})
        hub.add_repo("togethercomputer/GPT-JT-Moderation-6B", {"config.json": b"{}"})
        assert run(monkeypatch, *FAST) == 0
    assert repo.commit in model_id(folder)
    # Without a hub, by what was kept.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert run(monkeypatch, *FAST) == 0
    assert repo.commit in model_id(folder)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["-c", "chat_modle=a/b"],
            "setting chat_modle: there is no such setting, did you mean chat_model?\n",
        ),
        (["-c", "chat_model"], "-c takes KEY=VALUE, not 'chat_model'\n"),
        (["-c", "log_retention_days=8"], "setting log_retention_days: CloudWatch knows 1, "),
        (FAST, "setting chat_revision: not set, and http://127.0.0.1:1 does not say "),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    line: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1
    assert not list((folder / "cdk.out").glob("*.template.json"))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_file_that_is_not_the_cdks_is_named(
    content: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cdk.context.json").write_text(content)
    assert run(monkeypatch, "--offline", *FAST) == 1
    assert "cdk.context.json is not " in capsys.readouterr().err
