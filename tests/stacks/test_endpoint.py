import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from client.stacks import ENABLED_PARAMETER
from openchatkit.options import settings_from
from stacks.bundle import HANDLER, BundleError
from stacks.checks import RESERVED_OPTIONS
from tests.stacks.synthesis import PLAIN, REVISION, Synthesis, synthesize

SCALED = {**PLAIN, "chat_instances_max": 4, "moderation_instances_max": 2}
COLOCATED = {**PLAIN, "placement": "colocated"}


def config(found: Synthesis) -> list[Mapping[str, Any]]:
    variants: list[Mapping[str, Any]] = found.only("Endpoint", "AWS::SageMaker::EndpointConfig")[
        "Properties"
    ]["ProductionVariants"]
    return variants


def environments(found: Synthesis) -> dict[str, dict[str, str]]:
    """Return the models' environments by role, with references as text."""
    return {
        "moderation" if "Moderation" in name else "chat": {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in one["Properties"]["PrimaryContainer"]["Environment"].items()
        }
        for part, name, one in found.all_resources()
        if one["Type"] == "AWS::SageMaker::Model"
    }


def statements(found: Synthesis, role: str) -> list[Mapping[str, Any]]:
    """Return what a container may do."""
    policies = [
        one["Properties"]["PolicyDocument"]["Statement"]
        for _, name, one in found.all_resources()
        if one["Type"] == "AWS::IAM::Policy" and name.startswith(f"{role.title()}Execution")
    ]
    return [statement for policy in policies for statement in policy]


def actions(statement: Mapping[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else list(found)


def test_chat_takes_the_requests_and_moderation_those_that_name_it() -> None:
    chat, moderation = config(synthesize(**PLAIN))
    assert (chat["VariantName"], chat["InstanceType"]) == ("chat", "ml.g5.12xlarge")
    assert (moderation["VariantName"], moderation["InstanceType"]) == ("moderation", "ml.g5.xlarge")
    assert (chat["InitialVariantWeight"], moderation["InitialVariantWeight"]) == (1, 0)
    for variant in (chat, moderation):
        assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 1800
        assert variant["ModelDataDownloadTimeoutInSeconds"] == 600
        assert variant["InitialInstanceCount"] == 1


def test_colocated_is_one_variant_that_holds_both_models() -> None:
    found = synthesize(**COLOCATED)
    assert [variant["VariantName"] for variant in config(found)] == ["chat"]
    environment = environments(found)["chat"]
    assert environment["OPTION_OCK_MODERATION"] == "causal_lm"
    assert (
        f"/weights/togethercomputer/GPT-JT-Moderation-6B/{REVISION}/"
        in (environment["OPTION_OCK_MODERATION_MODEL"])
    )
    # Nobody else to ask.
    assert not [one for one in statements(found, "chat") if "sagemaker:InvokeEndpoint" in actions(one)]


def test_the_models_are_told_where_everything_is() -> None:
    found = environments(synthesize(**PLAIN))
    for role, model in (("chat", "GPT-NeoXT-Chat-Base-20B"), ("moderation", "GPT-JT-Moderation-6B")):
        assert f"/weights/togethercomputer/{model}/{REVISION}/" in found[role]["OPTION_MODEL_ID"]
        assert "s3://" in found[role]["OPTION_MODEL_ID"]
        assert "-Xmx1g" in found[role]["JAVA_OPTS"]
        assert re.search(r"ForkJoinPool\.common\.parallelism=\d{3}", found[role]["JAVA_OPTS"])
        assert found[role]["OPT_OUT_TRACKING"] == "true"
        assert int(found[role]["SERVING_RETRY_THRESHOLD"]) > 0
        assert len(found[role]) <= 100
        assert max(map(len, found[role].values())) <= 1024
    assert found["chat"]["OPTION_OCK_MODERATION_ENDPOINT"] == "open-chat-kit"
    assert found["chat"]["OPTION_OCK_MODERATION_VARIANT"] == "moderation"
    assert "Conversations" in found["chat"]["OPTION_OCK_TABLE_NAME"]
    assert not [key for key in found["moderation"] if "TABLE" in key]


@pytest.mark.parametrize(
    "context",
    [
        PLAIN,
        COLOCATED,
        {**PLAIN, "quantization": "fp8", "max_model_len": 1024, "chat_options": '{"retrieval_k": 5}'},
        {**PLAIN, "moderation_quantization": "fp8"},
        {**COLOCATED, "moderation_quantization": "fp8"},
        {**PLAIN, "engine": "transformers", "dtype": "bfloat16", "moderation_options": {"heartbeat_s": 20}},
    ],
    ids=["variants", "colocated", "engine", "quantized", "quantized together", "options"],
)
def test_the_handler_understands_what_it_is_told(context: Mapping[str, object]) -> None:
    found = synthesize(**context)
    for role, environment in environments(found).items():
        properties = {
            key.removeprefix("OPTION_").lower(): value
            for key, value in environment.items()
            if key.startswith("OPTION_")
        }
        # What DJL Serving does before the handler sees them: it brings the weights, and adds the file.
        properties["model_id"] = "/tmp/model"
        if "ock_moderation_model" in properties:
            properties["ock_moderation_model"] = "s3://bucket/weights/a/b/c/"
        for line in (HANDLER / role / "serving.properties").read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                key, _, value = line.partition("=")
                properties[key.strip().removeprefix("option.")] = value.strip()
        settings = settings_from(properties)
        assert settings.role == role
        assert settings.engine == found.settings.engine
    # A chatbot on SageMaker keeps its conversations outside and is moderated by the other model.
    assert settings.moderation in ("remote", "causal_lm")


@pytest.mark.parametrize("context", [PLAIN, COLOCATED], ids=["variants", "colocated"])
def test_what_the_stacks_set_cannot_be_set_beside_them(context: Mapping[str, object]) -> None:
    for environment in environments(synthesize(**context)).values():
        sent = {key.removeprefix("OPTION_").lower() for key in environment if key.startswith("OPTION_")}
        assert {key.removeprefix("ock_") for key in sent} - {"model_id"} <= RESERVED_OPTIONS


def test_a_sources_file_goes_into_the_bundle_with_the_rights_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("sources: []\n")
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:filings-token-AbCdEf"
    found = synthesize(**PLAIN, sources_file=str(file), source_secrets=f"brave-key, {arn}")
    assert environments(found)["chat"]["OPTION_OCK_SOURCES"] == "sources.yaml"
    assert "OPTION_OCK_SOURCES" not in environments(found)["moderation"]
    held = []
    for path in found.folder.glob("asset.*"):
        if path.is_file() and tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                held.append("sources.yaml" in archive.getnames())
    assert sorted(held) == [False, True]
    [secrets] = [one for one in statements(found, "chat") if "GetSecretValue" in str(one["Action"])]
    named, whole = secrets["Resource"]
    assert whole == arn
    assert json.dumps(named).endswith(':secret:brave-key-??????"]]}')
    reads = [
        json.dumps(one["Resource"]) for one in statements(found, "chat") if "s3:GetObject" in actions(one)
    ]
    assert any("/indexes/*" in resource for resource in reads)
    assert not [one for one in statements(found, "moderation") if "GetSecretValue" in str(one["Action"])]


def test_a_sources_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere\.yaml"):
        synthesize(**PLAIN, sources_file=str(tmp_path / "nowhere.yaml"))


def test_a_misspelt_option_would_be_refused() -> None:
    with pytest.raises(ValueError, match="ock_retreival_k"):
        settings_from({"ock_retreival_k": "5", "model_id": "/tmp/model"})


@pytest.mark.parametrize("role", ["chat", "moderation"])
def test_a_container_reads_its_own_weights_only(role: str) -> None:
    found = synthesize(**PLAIN)
    model = found.settings.model("chat" if role == "chat" else "moderation")
    reads = [one for one in statements(found, role) if actions(one) == ["s3:GetObject"]]
    resources = json.dumps([one["Resource"] for one in reads])
    assert f"/weights/{model}/{REVISION}/*" in resources
    assert resources.count("/weights/") == 1
    (listing,) = (one for one in statements(found, role) if actions(one) == ["s3:ListBucket"])
    assert listing["Condition"]["StringLike"]["s3:prefix"][0] == f"weights/{model}/{REVISION}/"


@pytest.mark.parametrize("role", ["chat", "moderation"])
def test_wildcards_are_where_aws_knows_nothing_finer(role: str) -> None:
    for statement in statements(synthesize(**PLAIN), role):
        assert not [action for action in actions(statement) if "*" in action]
        if statement["Resource"] == "*":
            assert set(actions(statement)) <= {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}


def test_moderation_knows_no_conversations() -> None:
    found = synthesize(**PLAIN)
    allowed = {action for one in statements(found, "moderation") for action in actions(one)}
    assert not [action for action in allowed if action.startswith(("dynamodb:", "sagemaker:"))]
    allowed = {action for one in statements(found, "chat") for action in actions(one)}
    assert {"dynamodb:Query", "dynamodb:PutItem", "sagemaker:InvokeEndpoint"} <= allowed
    assert not allowed & {"dynamodb:Scan", "dynamodb:DeleteTable", "sagemaker:DeleteEndpoint"}


def test_the_switch_holds_the_endpoint_and_its_scaling_only() -> None:
    found = synthesize(**SCALED)
    template = found.template("Endpoint")
    assert template["Parameters"] == {ENABLED_PARAMETER: template["Parameters"][ENABLED_PARAMETER]}
    assert template["Parameters"][ENABLED_PARAMETER]["Default"] == "true"
    switched = {one["Type"] for one in template["Resources"].values() if one.get("Condition") == "Enabled"}
    assert switched == {
        "AWS::SageMaker::Endpoint",
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
    }
    # Nothing that stays refers to what goes.
    gone = {name for name, one in template["Resources"].items() if "Condition" in one}
    for name, one in template["Resources"].items():
        if name not in gone:
            assert not {f'"{other}"' for other in gone if f'"{other}"' in json.dumps(one)}


def test_scaling_follows_the_requests_at_once() -> None:
    found = synthesize(**SCALED)
    targets = found.resources("Endpoint", "AWS::ApplicationAutoScaling::ScalableTarget")
    assert {
        (one["Properties"]["ResourceId"], one["Properties"]["MinCapacity"], one["Properties"]["MaxCapacity"])
        for one in targets
    } == {("endpoint/open-chat-kit/variant/chat", 1, 4), ("endpoint/open-chat-kit/variant/moderation", 1, 2)}
    for policy in found.resources("Endpoint", "AWS::ApplicationAutoScaling::ScalingPolicy"):
        tracked = policy["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        assert tracked["PredefinedMetricSpecification"]["PredefinedMetricType"] == (
            "SageMakerVariantConcurrentRequestsPerModelHighResolution"
        )
    endpoint = found.only("Endpoint", "AWS::SageMaker::Endpoint")["Properties"]
    assert endpoint["RetainAllVariantProperties"] is True
    assert synthesize(**PLAIN).resources("Endpoint", "AWS::ApplicationAutoScaling::ScalableTarget") == []


@pytest.mark.parametrize("policy", ["blue_green", "canary", "rolling"])
def test_a_roll_out_goes_back_on_errors(policy: str) -> None:
    found = synthesize(
        **PLAIN,
        update_policy=policy,
        **{f"{role}_instances_{end}": 2 for role in ("chat", "moderation") for end in ("min", "max")},
    )
    deployment = found.only("Endpoint", "AWS::SageMaker::Endpoint")["Properties"]["DeploymentConfig"]
    alarms = [one["AlarmName"]["Ref"] for one in deployment["AutoRollbackConfiguration"]["Alarms"]]
    assert len(alarms) == 2
    watched = [found.template("Endpoint")["Resources"][name]["Properties"] for name in alarms]
    assert {one["MetricName"] for one in watched} == {"Invocation5XXErrors"}
    assert {one["TreatMissingData"] for one in watched} == {"notBreaching"}
    way = deployment["RollingUpdatePolicy" if policy == "rolling" else "BlueGreenUpdatePolicy"]
    assert 600 <= way["MaximumExecutionTimeoutInSeconds"] <= 28_800
    if policy == "rolling":
        assert way["MaximumBatchSize"]["Value"] <= 50
    else:
        routing = way["TrafficRoutingConfiguration"]
        assert routing["Type"] == ("CANARY" if policy == "canary" else "ALL_AT_ONCE")


def test_the_log_group_is_there_before_the_endpoint_with_an_end() -> None:
    found = synthesize(**PLAIN, log_retention_days=90)
    (name,) = (
        name
        for part, name, one in found.all_resources()
        if part == "Endpoint" and one["Type"] == "AWS::Logs::LogGroup"
    )
    log = found.template("Endpoint")["Resources"][name]["Properties"]
    assert log["LogGroupName"] == "/aws/sagemaker/Endpoints/open-chat-kit"
    assert log["RetentionInDays"] == 90
    assert name in found.only("Endpoint", "AWS::SageMaker::Endpoint")["DependsOn"]


def test_the_schedule_turns_the_switch_and_may_do_nothing_else() -> None:
    found = synthesize(
        **PLAIN,
        schedule_up="cron(0 7 ? * MON-FRI *)",
        schedule_down="cron(0 19 ? * MON-FRI *)",
        schedule_timezone="Europe/Berlin",
    )
    schedules = found.resources("Endpoint", "AWS::Scheduler::Schedule")
    switched = {}
    for one in schedules:
        update = json.loads(one["Properties"]["Target"]["Input"])
        assert update["StackName"] == found.settings.stack_names["Endpoint"]
        assert update["UsePreviousTemplate"] is True
        assert one["Properties"]["ScheduleExpressionTimezone"] == "Europe/Berlin"
        assert json.dumps(one["Properties"]["Target"]["Arn"]).endswith(
            ':scheduler:::aws-sdk:cloudformation:updateStack"]]}'
        )
        ((key, value),) = ((p["ParameterKey"], p["ParameterValue"]) for p in update["Parameters"])
        assert key == ENABLED_PARAMETER
        switched[value] = one["Properties"]["ScheduleExpression"]
    assert switched == {"true": "cron(0 7 ? * MON-FRI *)", "false": "cron(0 19 ? * MON-FRI *)"}
    (policy,) = (
        one
        for _, name, one in found.all_resources()
        if one["Type"] == "AWS::IAM::Policy" and name.startswith("Schedule")
    )
    (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert actions(statement) == ["cloudformation:UpdateStack"]
    assert ":stack/OpenChatKit-Endpoint/*" in json.dumps(statement["Resource"])


def test_a_change_of_code_or_weights_makes_new_models() -> None:
    other = REVISION[::-1]
    before, after = synthesize(**PLAIN), synthesize(**PLAIN, chat_revision=other)
    assert environments(before)["moderation"] == environments(after)["moderation"]
    assert environments(before)["chat"] != environments(after)["chat"]
    # Names are made by CloudFormation, so that old and new can be there together.
    for kind in ("AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig"):
        for one in before.resources("Endpoint", kind):
            assert not {"ModelName", "EndpointConfigName"} & set(one["Properties"])
