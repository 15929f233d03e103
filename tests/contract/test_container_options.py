"""What the deployment tells a container is what the handler understands, option for option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from openchatkit.options import settings_from
from openchatkit.settings import Settings
from stacks.bundle import bundle_files
from stacks.container import Surroundings, environment
from stacks.settings import DeploySettings

AROUND = Surroundings(
    region="eu-west-1",
    endpoint_name="openchatkit",
    table_name="conversations",
    weights={"chat": "s3://bucket/weights/chat/", "moderation": "s3://bucket/weights/moderation/"},
)
DOWNLOADED = "/tmp/.djl.ai/download/0123"


def properties_of_file(role: Literal["chat", "moderation"]) -> dict[str, str]:
    lines = bundle_files(role)["serving.properties"].read_text().splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name.removeprefix("option."): value for name, value in pairs.items()}


def understood(role: Literal["chat", "moderation"], **context: Any) -> Settings:
    """Return the settings of a container, its options put together as DJL Serving does."""
    deployed = environment(DeploySettings.from_context(context), role, AROUND)
    given: Mapping[str, str] = {
        name.removeprefix("OPTION_").lower(): value
        for name, value in deployed.items()
        if name.startswith("OPTION_")
    }
    file = properties_of_file(role)
    assert not file.keys() & given.keys(), "the file would win"
    return settings_from({**given, **file, "model_id": DOWNLOADED})


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_the_chat_container_beside_a_moderation_container(engine: str) -> None:
    found = understood("chat", engine=engine)
    assert (found.role, found.engine, found.model) == ("chat", engine, DOWNLOADED)
    assert (found.store, found.table_name, found.create_table) == ("dynamodb", "conversations", False)
    assert (found.moderation, found.moderation_endpoint) == ("remote", "openchatkit")
    assert found.moderation_variant == "moderation"
    assert found.tensor_parallel_degree == 4


def test_the_moderation_container() -> None:
    found = understood("moderation")
    assert (found.role, found.moderation, found.moderation_model) == ("moderation", "causal_lm", DOWNLOADED)


def test_both_models_in_one_container_share_the_gpus() -> None:
    settings = DeploySettings.from_context({"placement": "colocated"})
    found = understood("chat", placement="colocated")
    assert (found.moderation, found.moderation_model) == ("causal_lm", "s3://bucket/weights/moderation/")
    assert found.moderation_gpu_memory == settings.utilization("moderation")
    chat_share = found.gpu_memory_utilization - found.moderation_gpu_memory
    assert chat_share == pytest.approx(settings.utilization("chat"))


def test_options_that_a_deployment_adds_are_the_handlers_settings() -> None:
    found = understood("chat", chat_options={"retrieval_k": "5", "temperature": "0.2"})
    assert (found.retrieval_k, found.temperature) == (5, 0.2)
