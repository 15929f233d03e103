"""All knobs of a deployment in one frozen object; every default is written here and only here.

`DeploySettings.from_context` reads them from CDK context: `cdk.json`, `cdk.context.json`, `-c key=value`.
An unknown key or a bad value is refused by name, in one line, before anything is synthesized. What
depends on several settings at once is checked in `stacks/checks.py`.

Not here: the chatbot's own settings (`handler/openchatkit/settings.py`); those that a deployment does
not decide by itself are passed on in `chat_options` and `moderation_options`. This module needs
pydantic alone, no CDK, so that commands can read the same settings.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stacks import checks
from stacks.instances import INSTANCE_TYPES, InstanceType
from stacks.models import MODELS, ModelFacts, Role

MAX_TIMEOUT_S = 3600
"""SageMaker's own bound on start-up and download."""
CDK_KEY = re.compile(r"[@:/-]|^$")
"""Context keys with one of these characters belong to the CDK; ours are words joined by underscores."""
UTILIZATION_ALONE = 0.9
UTILIZATION_COLOCATED = 0.62
"""Beside a moderation model with `moderation_gpu_memory_utilization`; measured with vLLM (docs/LOG.md)."""


class SettingsError(ValueError):
    """A setting is unknown or has a value that cannot work; the message names it, in one line."""


def _absent_if_empty(value: object) -> object:
    # `-c alarm_email=` is how a command line takes a setting back.
    return None if isinstance(value, str) and not value.strip() else value


def _words(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _mapping(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "{}")
    except ValueError:
        raise ValueError("is not a JSON object") from None


def _option_text(value: object) -> object:
    return json.dumps(value) if isinstance(value, bool | int | float | list | dict) else value


Text = Annotated[str, Field(min_length=1, max_length=1024)]
Revision = Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")]
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
Count = Annotated[int, Field(ge=1, le=100)]
Degree = Annotated[int | None, Field(ge=1, le=8), BeforeValidator(_absent_if_empty)]
Timeout = Annotated[int, Field(ge=60, le=MAX_TIMEOUT_S)]
Share = Annotated[float, Field(gt=0, le=0.98)]
Cron = Annotated[
    str | None, Field(pattern=r"^(cron|rate|at)\([^()]{1,200}\)$"), BeforeValidator(_absent_if_empty)
]
Words = Annotated[tuple[Text, ...], BeforeValidator(_words)]
Options = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Annotated[Text, BeforeValidator(_option_text)]],
    BeforeValidator(_mapping),
]


class DeploySettings(BaseModel):
    """The settings of one deployment. Times are in seconds unless the name says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*$", max_length=30)] = (
        "OpenChatKit"
    )
    """First part of every stack's name; the endpoint carries it in lower case with hyphens."""

    # the models
    chat_model: ModelId = "togethercomputer/GPT-NeoXT-Chat-Base-20B"
    """Hub id of the model that answers."""
    chat_revision: Revision = ""
    """Its commit, 40 hexadecimal digits. Empty: the first synthesis asks the hub for the newest commit and
    keeps it in `cdk.context.json`, as the CDK does with what it looks up."""
    moderation_model: ModelId = "togethercomputer/GPT-JT-Moderation-6B"
    """Hub id of the model that judges what goes in and what comes out."""
    moderation_revision: Revision = ""
    """As `chat_revision`."""
    weights: Literal["deploy", "staged"] = "deploy"
    """`deploy`: the deployment brings the weights from the hub to the bucket and waits; `staged`: they are
    there already (`ock stage`)."""
    hub_token_secret: Annotated[Text | None, BeforeValidator(_absent_if_empty)] = None
    """Name or ARN of the Secrets Manager secret with a hub token; gated models need one."""

    # the container
    image: Text = "asset"
    """`asset`: built here with Docker; `codebuild`: built in the account; or the URI of an image in ECR, with
    its tag or digest."""
    startup_timeout_s: Timeout = 1800
    """Until a container answers its health check; it copies its weights from S3 in this time."""
    download_timeout_s: Timeout = 600
    """For the handler bundle."""
    chat_options: Options = {}
    """Further settings of the chat container, by their names in `handler/openchatkit/settings.py`; a JSON
    object. Those that the stacks set themselves are refused."""
    moderation_options: Options = {}
    """As `chat_options`, of the moderation container."""

    # retrieval
    sources_file: Annotated[Text | None, BeforeValidator(_absent_if_empty)] = None
    """A file that names what the chat answers from (docs/sources.md): indexes below `indexes/` of the bucket,
    Wikipedia, web search, interfaces, feeds. It goes into the chat bundle."""
    source_secrets: Words = ()
    """Names or ARNs of the Secrets Manager secrets that it mentions, with commas between them."""

    # the engine
    engine: Literal["vllm", "transformers"] = "vllm"
    dtype: Literal["float16", "bfloat16"] = "float16"
    quantization: Literal["none", "fp8"] = "none"
    """Of the chat model's weights; `fp8` halves them. GPUs from compute capability 8.0 on."""
    moderation_quantization: Literal["none", "fp8"] = "none"
    """The same of the moderation model's; where `placement` is `colocated` it leaves the chat model more of
    the GPUs' time as well."""
    max_model_len: Annotated[int | None, Field(ge=128), BeforeValidator(_absent_if_empty)] = None
    """Tokens of prompt and reply together; None: what the model was trained for."""
    tensor_parallel_degree: Degree = None
    """GPUs that share the chat model; None: all of the instance."""
    moderation_tensor_parallel_degree: Degree = None
    """The same for the moderation model on instances of its own."""
    gpu_memory_utilization: Annotated[Share | None, BeforeValidator(_absent_if_empty)] = None
    """Share of each GPU that the chat model's engine takes; None: 0.9, and 0.62 where `placement` is
    `colocated`."""
    moderation_gpu_memory_utilization: Annotated[Share | None, BeforeValidator(_absent_if_empty)] = None
    """The same for the moderation model; None: 0.9, and 0.25 where `placement` is `colocated`."""

    # instances
    placement: Literal["variants", "colocated"] = "variants"
    """`variants`: each model has its own instances; `colocated`: both share the chat model's."""
    chat_instance_type: str = "ml.g5.12xlarge"
    moderation_instance_type: str = "ml.g5.xlarge"
    chat_instances_min: Count = 1
    chat_instances_max: Count = 1
    """Above `chat_instances_min`: the variant scales."""
    chat_concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    """Requests at once on an instance that scaling aims at."""
    moderation_instances_min: Count = 1
    moderation_instances_max: Count = 1
    moderation_concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    update_policy: Literal["blue_green", "canary", "rolling"] = "blue_green"
    """How a new version takes over. `blue_green` and `canary` need twice the instances for a while; `rolling`
    replaces half of them at a time and needs two of each variant."""
    schedule_up: Cron = None
    """When the endpoint goes on, as EventBridge Scheduler writes it: `cron(0 7 ? * MON-FRI *)`."""
    schedule_down: Cron = None
    """When it goes off."""
    schedule_timezone: Annotated[str, Field(pattern=r"^[A-Za-z_]+(/[A-Za-z_+\-0-9]+)*$")] = "UTC"

    # network
    vpc: Annotated[str, Field(pattern=r"^(off|create|vpc-([0-9a-f]{8}|[0-9a-f]{17}))$")] = "off"
    """`off`: SageMaker's own network; `create`: a VPC without a way to the internet, with endpoints to the
    services in use; or the id of a VPC that is there."""
    vpc_subnets: Words = ()
    """Subnet ids, with commas between them; a VPC that is there needs them."""
    vpc_security_groups: Words = ()
    """Security group ids for the containers; none: the stack makes one that lets HTTPS out only."""

    # what is kept
    removal: Literal["destroy", "retain"] = "destroy"
    """`destroy`: `cdk destroy` leaves nothing that costs money; `retain`: bucket, key, table, images and logs
    stay."""
    empty_on_destroy: bool = True
    """Whether a function empties the bucket before it is deleted, where `removal` is `destroy`. Without it a
    bucket with weights must be emptied first (`ock sweep --delete`)."""
    log_retention_days: int = 30
    """As CloudWatch knows them: 1, 3, 5, 7, 14, 30, 60, 90, ..."""

    # alarms
    alarm_errors_5xx: Annotated[int, Field(ge=1)] = 5
    """Answers with a status from 500 on, in five minutes."""
    alarm_latency_p90_s: Annotated[float, Field(gt=0, le=900)] = 60
    """Nine of ten answers are complete by then."""
    alarm_gpu_memory_percent: Annotated[float, Field(gt=0, le=100)] = 98
    """Of the GPUs' memory. Engines reserve their share at start, so a lower figure would always alarm."""
    alarm_moderation_unavailable: Annotated[int, Field(ge=1)] = 1
    """Texts in five minutes that could not be judged, and so were blocked."""
    alarm_idle_hours: Annotated[int, Field(ge=0, le=24)] = 3
    """Hours that the endpoint runs, and costs, without a request; 0: no alarm."""
    alarm_email: Annotated[
        str | None, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$"), BeforeValidator(_absent_if_empty)
    ] = None
    """Whom alarms are sent to; a topic is made."""
    alarm_topic_arn: Annotated[
        str | None,
        Field(pattern=r"^arn:aws[\w-]*:sns:[\w-]+:\d{12}:[\w-]+(\.fifo)?$"),
        BeforeValidator(_absent_if_empty),
    ] = None
    """An SNS topic that is there already."""

    @model_validator(mode="after")
    def _fits_together(self) -> DeploySettings:
        checks.check(self)
        return self

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> DeploySettings:
        """Return the settings that a CDK context holds; the CDK's own keys are passed over.

        Raises:
            SettingsError: an unknown key or a bad value, by name, in one line.
        """
        values = {key: value for key, value in context.items() if not CDK_KEY.search(key)}
        # `chat-model` looks like a key of the CDK, but is a misspelt one of ours.
        known = cls.model_fields
        unknown = [key for key in values if key not in known]
        unknown += [key for key in context if CDK_KEY.search(key) and key.replace("-", "_") in known]
        if unknown:
            close = difflib.get_close_matches(unknown[0].replace("-", "_"), known, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise SettingsError(f"{unknown[0]}: there is no such setting{hint}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            rule = " ".join(first["msg"].removeprefix("Value error, ").split())
            raise SettingsError(f"{where}: {rule}" if where else rule) from None

    @property
    def endpoint_name(self) -> str:
        """The endpoint's name: `OpenChatKit` becomes `open-chat-kit`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", self.name).lower()

    @property
    def stack_names(self) -> dict[str, str]:
        """Stack names by part, in the order in which they are deployed."""
        parts = ("Storage", "Image", "Weights", "Endpoint", "Monitoring")
        return {part: f"{self.name}-{part}" for part in parts}

    @property
    def log_group_name(self) -> str:
        """Where SageMaker puts what the containers log; it chooses the name."""
        return f"/aws/sagemaker/Endpoints/{self.endpoint_name}"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The containers, each a production variant of its name."""
        return ("chat",) if self.placement == "colocated" else ("chat", "moderation")

    @property
    def image_is_uri(self) -> bool:
        """Whether `image` names an image that is there already."""
        return self.image not in ("asset", "codebuild")

    def model(self, role: Role) -> str:
        """Return the hub id of a role's model."""
        return self.chat_model if role == "chat" else self.moderation_model

    def revision(self, role: Role) -> str:
        """Return the commit of a role's model, empty where it is not pinned yet."""
        return self.chat_revision if role == "chat" else self.moderation_revision

    def weights_prefix(self, role: Role) -> str:
        """Return the key prefix of a role's weights in the bucket, with a slash at its end."""
        return f"weights/{self.model(role)}/{self.revision(role)}/"

    def facts(self, role: Role) -> ModelFacts | None:
        """Return what is known of a role's model, None where it is not in the table."""
        return MODELS.get(self.model(role))

    def instance_type(self, role: Role) -> InstanceType:
        """Return the instance type that a role's model runs on."""
        shared = role == "chat" or self.placement == "colocated"
        return INSTANCE_TYPES[self.chat_instance_type if shared else self.moderation_instance_type]

    def degree(self, role: Role) -> int:
        """Return how many GPUs share a role's model."""
        shared = role == "chat" or self.placement == "colocated"
        given = self.tensor_parallel_degree if shared else self.moderation_tensor_parallel_degree
        return given or self.instance_type(role).gpus

    def utilization(self, role: Role) -> float:
        """Return the share of each GPU's memory that a role's engine takes."""
        together = self.placement == "colocated"
        if role == "chat":
            return self.gpu_memory_utilization or (UTILIZATION_COLOCATED if together else UTILIZATION_ALONE)
        return self.moderation_gpu_memory_utilization or (0.25 if together else UTILIZATION_ALONE)

    def instances(self, role: Role) -> tuple[int, int]:
        """Return the fewest and the most instances of a role's variant."""
        if role == "chat":
            return self.chat_instances_min, self.chat_instances_max
        return self.moderation_instances_min, self.moderation_instances_max
