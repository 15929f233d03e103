"""What a container is told by its environment: the handler's options and the server's own settings.

An environment variable `OPTION_X` becomes the handler's property `x`; `OPTION_OCK_<SETTING>` is a setting
of `handler/openchatkit/settings.py`. What never changes stands in `handler/<role>/serving.properties`.
Nothing secret goes in here: whoever may describe the model can read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stacks.bundle import SOURCES
from stacks.models import Role
from stacks.settings import DeploySettings

MODERATION_VARIANT = "moderation"
JAVA_OPTS = (
    # The image's own flags, which setting the variable would drop.
    "-Xmx1g -Xms1g -XX:+ExitOnOutOfMemoryError -Dai.djl.util.cuda.fork=true "
    # Answers are relayed by the common pool, one thread each, and /ping runs there too: with a thread a
    # processor, some streams would make the health check late. Measured: docs/decisions/0009-deployment.md.
    "-Djava.util.concurrent.ForkJoinPool.common.parallelism=256"
)
CHUNKED_READ_TIMEOUT_S = 120
"""Longest silence of the handler; its heartbeats come more often."""
RETRY_THRESHOLD = 10
"""Crashes of the handler's process after which the model counts as failed; the server's default is none."""


@dataclass(frozen=True)
class Surroundings:
    """What exists only once it is deployed: names and addresses, mostly tokens."""

    region: str
    endpoint_name: str
    table_name: str
    weights: Mapping[Role, str]
    """S3 addresses with a slash at the end."""


def environment(settings: DeploySettings, role: Role, around: Surroundings) -> dict[str, str]:
    """Return the environment of a role's container."""
    options = _chat(settings, around) if role == "chat" else _moderation(settings, around)
    return {
        **{f"OPTION_{name.upper()}": value for name, value in sorted(options.items())},
        "AWS_DEFAULT_REGION": around.region,
        "JAVA_OPTS": JAVA_OPTS,
        "MODEL_LOADING_TIMEOUT": str(settings.startup_timeout_s),
        "OPT_OUT_TRACKING": "true",
        "SERVING_CHUNKED_READ_TIMEOUT": str(CHUNKED_READ_TIMEOUT_S),
        "SERVING_RETRY_THRESHOLD": str(RETRY_THRESHOLD),
    }


def _chat(settings: DeploySettings, around: Surroundings) -> dict[str, str]:
    options = {
        **{f"ock_{name}": value for name, value in settings.chat_options.items()},
        **_engine(settings, "chat"),
        "model_id": around.weights["chat"],
        "ock_store": "dynamodb",
        "ock_table_name": around.table_name,
    }
    if settings.sources_file is not None:
        options["ock_sources"] = SOURCES
    if settings.max_model_len is not None:
        options["max_model_len"] = str(settings.max_model_len)
    if settings.quantization != "none":
        options["quantization"] = settings.quantization
    if settings.placement == "variants":
        options["ock_moderation"] = "remote"
        options["ock_moderation_endpoint"] = around.endpoint_name
        options["ock_moderation_variant"] = MODERATION_VARIANT
    else:
        options["ock_moderation"] = "causal_lm"
        options["ock_moderation_model"] = around.weights["moderation"]
        if settings.engine == "vllm":
            # The handler's share is that of its whole process, the judge's a part of it.
            together = settings.utilization("chat") + settings.utilization("moderation")
            options["gpu_memory_utilization"] = f"{together:.4g}"
            options["ock_moderation_gpu_memory"] = str(settings.utilization("moderation"))
        options |= _quantization(settings)
    return options


def _moderation(settings: DeploySettings, around: Surroundings) -> dict[str, str]:
    return {
        **{f"ock_{name}": value for name, value in settings.moderation_options.items()},
        **_engine(settings, "moderation"),
        "model_id": around.weights["moderation"],
        **_quantization(settings),
    }


def _quantization(settings: DeploySettings) -> dict[str, str]:
    """Return the judge's option, for the container that it is in."""
    chosen = settings.moderation_quantization
    return {} if chosen == "none" else {"ock_moderation_quantization": chosen}


def _engine(settings: DeploySettings, role: Role) -> dict[str, str]:
    options = {
        "ock_engine": settings.engine,
        "dtype": settings.dtype,
        "tensor_parallel_degree": str(settings.degree(role)),
    }
    if settings.engine == "vllm":
        options["gpu_memory_utilization"] = str(settings.utilization(role))
    return options
