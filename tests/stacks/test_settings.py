import re
from collections.abc import Mapping

import pytest

from stacks.checks import RESERVED_OPTIONS
from stacks.instances import INSTANCE_TYPES
from stacks.settings import DeploySettings, SettingsError

URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/openchatkit"


def refusal(context: Mapping[str, object]) -> str:
    with pytest.raises(SettingsError) as caught:
        DeploySettings.from_context(context)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_context_is_a_deployment() -> None:
    settings = DeploySettings.from_context({})
    assert settings == DeploySettings()
    assert settings.endpoint_name == "open-chat-kit"
    assert next(iter(settings.stack_names.values())) == "OpenChatKit-Storage"
    assert settings.roles == ("chat", "moderation")
    assert (settings.degree("chat"), settings.degree("moderation")) == (4, 1)


def test_every_field_has_a_default() -> None:
    assert not [name for name, field in DeploySettings.model_fields.items() if field.is_required()]


def test_the_cdks_own_keys_are_passed_over() -> None:
    context = {
        "@aws-cdk/core:checkSecretUsage": True,
        "aws:cdk:enable-path-metadata": True,
        "availability-zones:account=1:region=x": ["a"],
        "cli-telemetry": False,
        "openchatkit:revision:a/b": "c",
    }
    assert DeploySettings.from_context(context) == DeploySettings()


def test_the_command_lines_texts_become_values() -> None:
    settings = DeploySettings.from_context(
        {
            "chat_instances_max": "3",
            "empty_on_destroy": "false",
            "alarm_latency_p90_s": "12.5",
            "alarm_email": "",
            "tensor_parallel_degree": "",
            "vpc": "vpc-0123abcd",
            "vpc_subnets": "subnet-0000000a, subnet-0000000b",
            "chat_options": '{"retrieval_k": 4, "preamble": "Be brief.", "date_in_preamble": false}',
        }
    )
    assert settings.instances("chat") == (1, 3)
    assert settings.empty_on_destroy is False
    assert settings.alarm_email is None
    assert settings.vpc_subnets == ("subnet-0000000a", "subnet-0000000b")
    assert settings.chat_options == {
        "retrieval_k": "4",
        "preamble": "Be brief.",
        "date_in_preamble": "false",
    }


@pytest.mark.parametrize(
    ("key", "hint"),
    [("chat_modle", "chat_model"), ("chat-model", "chat_model"), ("vpc_subnet", "vpc_subnets")],
)
def test_an_unknown_key_is_named_with_what_was_meant(key: str, hint: str) -> None:
    assert refusal({key: "x"}) == f"{key}: there is no such setting, did you mean {hint}?"


def test_a_key_like_no_other_is_named() -> None:
    assert refusal({"zzz": "x"}) == "zzz: there is no such setting"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "9lives"),
        ("name", "a_b"),
        ("name", "x" * 31),
        ("chat_model", "no-organisation"),
        ("chat_model", "a/b/c"),
        ("chat_revision", "main"),
        ("chat_revision", "0123"),
        ("weights", "later"),
        ("image", "openchatkit"),
        ("image", f"{URI}"),
        ("startup_timeout_s", 59),
        ("startup_timeout_s", 3601),
        ("engine", "deepspeed"),
        ("dtype", "float8"),
        ("placement", "serverless"),
        ("chat_instance_type", "ml.m5.large"),
        ("moderation_instance_type", "g5.xlarge"),
        ("chat_instances_min", 0),
        ("tensor_parallel_degree", 0),
        ("gpu_memory_utilization", 1.2),
        ("log_retention_days", 31),
        ("removal", "snapshot"),
        ("vpc", "default"),
        ("schedule_down", "0 19 * * *"),
        ("schedule_timezone", "Mars/Olympus"),
        ("alarm_email", "nobody"),
        ("alarm_topic_arn", "topic"),
        ("alarm_idle_hours", 25),
        ("chat_options", "not json"),
        ("chat_options", '{"Bad Name": "x"}'),
        ("chat_options", '["a list"]'),
    ],
)
def test_a_bad_value_is_refused_by_the_key_it_came_with(key: str, value: object) -> None:
    assert re.match(rf"{key}(\.[\w \[\]]+)*: ", refusal({key: value}))


@pytest.mark.parametrize(
    ("context", "at_fault"),
    [
        ({"chat_instance_type": "ml.g5.xlarge"}, "chat_instance_type"),
        ({"chat_instance_type": "ml.g4dn.12xlarge", "tensor_parallel_degree": 2}, "chat_instance_type"),
        ({"moderation_instance_type": "ml.g4dn.xlarge"}, "moderation_instance_type"),
        ({"placement": "colocated", "chat_instance_type": "ml.g4dn.12xlarge"}, "chat_instance_type"),
        ({"tensor_parallel_degree": 3}, "tensor_parallel_degree"),
        ({"tensor_parallel_degree": 8}, "tensor_parallel_degree"),
        ({"moderation_tensor_parallel_degree": 2}, "moderation_tensor_parallel_degree"),
        (
            {"placement": "colocated", "moderation_tensor_parallel_degree": 2},
            "moderation_tensor_parallel_degree",
        ),
        ({"max_model_len": 4096}, "max_model_len"),
        ({"chat_instance_type": "ml.g4dn.12xlarge", "dtype": "bfloat16"}, "dtype"),
        ({"chat_instance_type": "ml.g4dn.12xlarge", "quantization": "fp8"}, "quantization"),
        ({"quantization": "fp8", "engine": "transformers"}, "quantization"),
        ({"moderation_quantization": "fp8", "engine": "transformers"}, "moderation_quantization"),
        (
            {"moderation_instance_type": "ml.g4dn.2xlarge", "moderation_quantization": "fp8"},
            "moderation_quantization",
        ),
        ({"chat_instances_min": 3, "chat_instances_max": 2}, "chat_instances_max"),
        ({"update_policy": "rolling"}, "chat_instances_min"),
        (
            {"update_policy": "rolling", "chat_instances_min": 2, "chat_instances_max": 2},
            "moderation_instances_min",
        ),
        ({"placement": "colocated", "gpu_memory_utilization": 0.9}, "gpu_memory_utilization"),
        ({"placement": "colocated", "moderation_options": '{"dtype": "x"}'}, "moderation_options"),
        ({"vpc": "vpc-0123abcd"}, "vpc_subnets"),
        ({"vpc": "vpc-0123abcd", "vpc_subnets": "a"}, "vpc_subnets"),
        ({"vpc_subnets": "subnet-0000000a"}, "vpc_subnets"),
        (
            {"vpc": "vpc-0123abcd", "vpc_subnets": "subnet-0000000a", "vpc_security_groups": "x"},
            "vpc_security_groups",
        ),
        ({"schedule_up": "cron(0 7 * * ? *)"}, "schedule_down"),
        ({"alarm_email": "a@b.co", "alarm_topic_arn": "arn:aws:sns:us-east-1:123456789012:t"}, "alarm_email"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_the_setting_to_change(
    context: dict[str, object], at_fault: str
) -> None:
    assert refusal(context).startswith(f"{at_fault}: ")


@pytest.mark.parametrize("option", sorted(RESERVED_OPTIONS))
def test_options_that_the_stacks_set_are_refused(option: str) -> None:
    assert refusal({"chat_options": {option: "x"}}) == f"chat_options: {option} is set by the stacks"


@pytest.mark.parametrize(
    "context",
    [
        {"chat_instance_type": "ml.p5.48xlarge"},
        {"chat_instance_type": "ml.g6e.12xlarge", "tensor_parallel_degree": 2},
        {"chat_instance_type": "ml.g6e.4xlarge", "quantization": "fp8"},
        {
            "chat_model": "togethercomputer/RedPajama-INCITE-Chat-3B-v1",
            "chat_instance_type": "ml.g4dn.xlarge",
        },
        {"placement": "colocated"},
        {"placement": "colocated", "moderation_quantization": "fp8"},
        {"update_policy": "rolling", "chat_instances_min": 2, "chat_instances_max": 2}
        | {"moderation_instances_min": 2, "moderation_instances_max": 4},
        {"image": f"{URI}:1.0"},
        {"image": f"{URI}@sha256:{'0' * 64}"},
        # A model that nobody here knows is the user's business.
        {"chat_model": "somebody/something", "chat_instance_type": "ml.g5.xlarge"},
    ],
)
def test_what_fits_is_accepted(context: dict[str, object]) -> None:
    DeploySettings.from_context(context)


@pytest.mark.parametrize(
    ("name", "endpoint"), [("OpenChatKit", "open-chat-kit"), ("team-A", "team-a"), ("chat2Go", "chat2-go")]
)
def test_the_endpoints_name_is_one_that_sagemaker_takes(name: str, endpoint: str) -> None:
    assert DeploySettings(name=name).endpoint_name == endpoint
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", endpoint)


def test_colocated_models_share_the_chat_instance() -> None:
    settings = DeploySettings(placement="colocated")
    assert settings.roles == ("chat",)
    assert settings.instance_type("moderation").name == settings.chat_instance_type
    assert settings.utilization("chat") + settings.utilization("moderation") < 0.95


def test_every_instance_type_is_described() -> None:
    for name, kind in INSTANCE_TYPES.items():
        assert name == kind.name
        assert kind.gpus in (1, 4, 8)
        assert 14 < kind.memory_gib < 142
