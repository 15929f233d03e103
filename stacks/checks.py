"""Checks across several settings of a deployment: what fits together, before anything is paid for.

Each check raises `ValueError` with one line that begins with the setting to change. Memory is checked for
the models of `stacks/models.py`; of others nobody here knows the size.
"""

from __future__ import annotations

import re
import zoneinfo
from typing import TYPE_CHECKING

from stacks.instances import GIB, INSTANCE_TYPES
from stacks.models import Role

if TYPE_CHECKING:
    from stacks.settings import DeploySettings

IMAGE_URI = re.compile(r"[\w.-]+(:\d+)?/[\w./-]+(:[\w.-]+|@sha256:[0-9a-f]{64})")

LOG_RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""What CloudWatch Logs accepts, API `PutRetentionPolicy`."""
RESERVED_SEQUENCES = 2
"""Full-length sequences whose keys and values must have room beside the weights."""
ENGINE_OVERHEAD_BYTES = 1.5 * GIB
"""For a GPU: activations, CUDA graphs and the driver's context."""
MAX_TOTAL_UTILIZATION = 0.95
NETWORK_ID = "([0-9a-f]{8}|[0-9a-f]{17})"
FP8_CAPABILITY = 8.0
BYTES_PER_VALUE = 2
"""Of float16 and bfloat16, the types of weights that are not quantised and of keys and values."""
MAX_OPTIONS = 60
"""SageMaker takes 100 environment variables; the rest is for the stacks and the server."""
RESERVED_OPTIONS = frozenset(
    {
        "role",
        "model",
        "sources",
        "revision",
        "engine",
        "dtype",
        "quantization",
        "tensor_parallel_degree",
        "max_model_len",
    }
    | {
        "gpu_memory_utilization",
        "moderation",
        "moderation_model",
        "moderation_endpoint",
        "moderation_variant",
    }
    | {"moderation_gpu_memory", "moderation_revision", "moderation_quantization"}
    | {"store", "table_name", "create_table"}
)
"""Settings of the handler that the stacks set."""


def check(settings: DeploySettings) -> None:
    """Refuse settings that cannot work together.

    Raises:
        ValueError: the first that was found, one line that begins with a setting's name.
    """
    _known(settings)
    for role in ("chat", "moderation"):
        _degree(settings, role)
        _memory(settings, role)
        _instances(settings, role)
    _shares(settings)
    _options(settings)
    _network(settings)
    _schedule(settings)


def _known(settings: DeploySettings) -> None:
    if settings.image not in ("asset", "codebuild") and not IMAGE_URI.fullmatch(settings.image):
        raise ValueError("image: is none of asset, codebuild or an image's URI with its tag or digest")
    for name in ("chat_instance_type", "moderation_instance_type"):
        value = getattr(settings, name)
        if value not in INSTANCE_TYPES:
            raise ValueError(f"{name}: {value} is none of the GPU types of stacks/instances.py")
    if settings.log_retention_days not in LOG_RETENTION_DAYS:
        shown = ", ".join(map(str, LOG_RETENTION_DAYS))
        raise ValueError(f"log_retention_days: CloudWatch knows {shown}, not {settings.log_retention_days}")
    if settings.alarm_email and settings.alarm_topic_arn:
        raise ValueError("alarm_email: give either this or alarm_topic_arn")


def _degree(settings: DeploySettings, role: Role) -> None:
    prefix = "" if role == "chat" else "moderation_"
    name, kind = f"{prefix}tensor_parallel_degree", settings.instance_type(role)
    degree = settings.degree(role)
    if degree > kind.gpus:
        raise ValueError(f"{name}: {degree}, but {kind.name} has {kind.gpus} GPU{'s'[: kind.gpus > 1]}")
    if (
        role == "moderation"
        and settings.placement == "colocated"
        and settings.moderation_tensor_parallel_degree
    ):
        raise ValueError(f"{name}: placement=colocated shares the GPUs of tensor_parallel_degree")
    facts = settings.facts(role)
    if facts and facts.heads % degree:
        raise ValueError(
            f"{name}: {degree} does not divide the {facts.heads} attention heads of {settings.model(role)}"
        )
    if settings.dtype == "bfloat16" and not kind.bfloat16:
        raise ValueError(f"dtype: the {kind.gpu} of {kind.name} does not compute in bfloat16")
    if _quantized(settings, role) and float(kind.architecture) < FP8_CAPABILITY:
        raise ValueError(
            f"{prefix}quantization: fp8 needs compute capability 8.0, the {kind.gpu} has {kind.architecture}"
        )
    if _quantized(settings, role) and settings.engine != "vllm":
        raise ValueError(f"{prefix}quantization: fp8 needs engine=vllm")


def _memory(settings: DeploySettings, role: Role) -> None:
    facts, kind = settings.facts(role), settings.instance_type(role)
    if facts is None:
        return
    tokens = facts.context
    if role == "chat" and settings.max_model_len is not None:
        if settings.max_model_len > facts.context:
            raise ValueError(
                f"max_model_len: {settings.max_model_len}, but {settings.model(role)} was trained for "
                f"{facts.context} tokens"
            )
        tokens = settings.max_model_len
    weights = facts.weight_bytes(1 if _quantized(settings, role) else BYTES_PER_VALUE) / settings.degree(role)
    cache = facts.cache_bytes_per_token(BYTES_PER_VALUE) * tokens * RESERVED_SEQUENCES / settings.degree(role)
    needed = weights + cache + ENGINE_OVERHEAD_BYTES
    share = settings.utilization(role)
    if needed > kind.memory_bytes * share:
        at_fault = (
            "chat_instance_type"
            if role == "chat" or settings.placement == "colocated"
            else ("moderation_instance_type")
        )
        raise ValueError(
            f"{at_fault}: {settings.model(role)} needs {needed / GIB:.1f} GiB on each of "
            f"{settings.degree(role)} GPU(s), {share:.0%} of a {kind.gpu} of "
            f"{kind.name} is {kind.memory_gib * share:.1f} GiB"
        )


def _quantized(settings: DeploySettings, role: Role) -> bool:
    return (settings.quantization if role == "chat" else settings.moderation_quantization) == "fp8"


def _instances(settings: DeploySettings, role: Role) -> None:
    least, most = settings.instances(role)
    if most < least:
        raise ValueError(f"{role}_instances_max: {most} is below {role}_instances_min, {least}")
    if settings.update_policy == "rolling" and role in settings.roles and least < 2:
        raise ValueError(
            f"{role}_instances_min: update_policy=rolling needs at least 2 instances of each variant"
        )


def _shares(settings: DeploySettings) -> None:
    together = settings.utilization("chat") + settings.utilization("moderation")
    if settings.placement == "colocated" and together > MAX_TOTAL_UTILIZATION:
        raise ValueError(
            f"gpu_memory_utilization: both models take {together:.2f} of a GPU together, at most "
            f"{MAX_TOTAL_UTILIZATION} can be given away"
        )


def _options(settings: DeploySettings) -> None:
    for name in ("chat_options", "moderation_options"):
        options: dict[str, str] = getattr(settings, name)
        taken = sorted(RESERVED_OPTIONS & options.keys())
        if taken:
            raise ValueError(f"{name}: {taken[0]} is set by the stacks")
        if len(options) > MAX_OPTIONS:
            raise ValueError(f"{name}: {len(options)} options, at most {MAX_OPTIONS} can be passed on")
    if settings.placement == "colocated" and settings.moderation_options:
        raise ValueError(
            "moderation_options: placement=colocated has no moderation container; use chat_options"
        )


def _network(settings: DeploySettings) -> None:
    given = settings.vpc.startswith("vpc-")
    if given and not settings.vpc_subnets:
        raise ValueError(f"vpc_subnets: {settings.vpc} needs the ids of its private subnets")
    for name, start in (("vpc_subnets", "subnet-"), ("vpc_security_groups", "sg-")):
        ids: tuple[str, ...] = getattr(settings, name)
        if ids and not given:
            raise ValueError(f"{name}: only for a VPC that is there (vpc=vpc-...)")
        for one in ids:
            if not re.fullmatch(f"{start}{NETWORK_ID}", one):
                raise ValueError(f"{name}: {one} is no id, those look like {start}0123456789abcdef0")


def _schedule(settings: DeploySettings) -> None:
    if settings.schedule_up and not settings.schedule_down:
        raise ValueError("schedule_down: a schedule that only turns on saves nothing; set it too")
    try:
        zoneinfo.ZoneInfo(settings.schedule_timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"schedule_timezone: {settings.schedule_timezone} is no time zone") from None
