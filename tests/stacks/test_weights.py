import json

from stacks.build_project import ROOT
from tests.stacks.synthesis import PLAIN, REVISION, synthesize

DEPLOY = {**PLAIN, "weights": "deploy"}


def test_a_deployment_brings_both_models_and_waits() -> None:
    builds = synthesize(**DEPLOY).resources("Weights", "Custom::Build")
    assert {build["Properties"]["Fingerprint"] for build in builds} == {
        f"togethercomputer/GPT-NeoXT-Chat-Base-20B@{REVISION}",
        f"togethercomputer/GPT-JT-Moderation-6B@{REVISION}",
    }
    for build in builds:
        model, _, revision = build["Properties"]["Fingerprint"].partition("@")
        assert build["Properties"]["Environment"] == {"MODEL": model, "REVISION": revision}


def test_staged_weights_are_not_brought() -> None:
    found = synthesize(**PLAIN)
    assert found.resources("Weights", "Custom::Build") == []
    assert found.only("Weights", "AWS::CodeBuild::Project")


def test_the_build_runs_the_staging_program_with_its_own_options() -> None:
    project = synthesize(**PLAIN).only("Weights", "AWS::CodeBuild::Project")["Properties"]
    spec = json.loads(project["Source"]["BuildSpec"])
    run = "\n".join(spec["phases"]["build"]["commands"])
    program = (ROOT / "staging" / "cli.py").read_text()
    for option in ("--model", "--revision", "--bucket", "--prefix", "--kms-key", "--token-secret"):
        assert option in run
        assert f'"{option}"' in program
    assert "--require-hashes" in "\n".join(spec["phases"]["install"]["commands"])
    assert (ROOT / "staging" / "requirements.txt").is_file()


def test_the_hubs_token_stays_a_secret() -> None:
    for name in ("hub-token", f"arn:aws:secretsmanager:us-east-1:{'1' * 12}:secret:hub-token-AbCdEf"):
        found = synthesize(**PLAIN, hub_token_secret=name)
        project = found.only("Weights", "AWS::CodeBuild::Project")["Properties"]
        variables = {one["Name"]: one for one in project["Environment"]["EnvironmentVariables"]}
        assert "secret" in json.dumps(variables["TOKEN_SECRET"]["Value"])
        policies = json.dumps([one["Properties"] for one in found.resources("Weights", "AWS::IAM::Policy")])
        assert "secretsmanager:GetSecretValue" in policies
    assert "secretsmanager" not in json.dumps(synthesize(**PLAIN).template("Weights"))


def test_the_program_writes_below_its_prefix_only() -> None:
    found = synthesize(**PLAIN)
    (policy,) = (
        one["Properties"]["PolicyDocument"] for one in found.resources("Weights", "AWS::IAM::Policy")
    )
    for statement in policy["Statement"]:
        if "s3:PutObject" in statement["Action"]:
            assert json.dumps(statement["Resource"]).endswith('"/weights/*"]]}')
            break
    else:
        raise AssertionError("nothing may be written")
