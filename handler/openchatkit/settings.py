"""All knobs of the chatbot in one frozen object; every default is written here and only here.

`Settings.from_mapping` takes the strings of `serving.properties` as well as Python values. An
unknown key or a bad value is refused by name before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from openchatkit.prompt import DEFAULT_PREAMBLE

PositiveSeconds = Annotated[float, Field(gt=0, le=3600)]
Probability = Annotated[float, Field(ge=0, le=1)]


class SettingsError(ValueError):
    """A setting is unknown or has a value that cannot work; the message names it."""


class Settings(BaseModel):
    """The settings of one process. Times are in seconds unless the name says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    role: Literal["chat", "moderation"] = "chat"
    """`chat`: the chatbot; `moderation`: judgements alone, with no chat model, store or retrieval."""

    # the chat model
    model: str = ""
    """A directory with a causal language model in safetensors, or a hub id. The role `chat` needs it."""
    revision: str | None = None
    """Commit of a hub id. None takes the newest, which is right for trying out only."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """`vllm` for GPUs; `transformers` runs anywhere."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device_map: str = "auto"
    """As in Accelerate: `auto`, `cpu`, `cuda:0`, ..."""
    max_concurrent_requests: Annotated[int, Field(ge=1, le=4096)] = 32
    """Requests that the engine computes at once; further ones wait."""
    tensor_parallel_degree: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs that share each layer of a model (`vllm`)."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of each GPU's memory for all models of this process together (`vllm`)."""
    moderation_gpu_memory: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of each GPU's memory for a judge beside the chat model, out of `gpu_memory_utilization`."""
    max_model_len: Annotated[int, Field(ge=64)] | None = None
    """Most tokens of a prompt and its reply together (`vllm`); None: what the chat model was made for."""
    prefix_caching: bool = True
    """Whether keys and values of what several prompts begin with are computed once (`vllm`)."""
    quantization: Literal["fp8"] | None = None
    """Of the chat model's weights, while they load (`vllm`)."""
    speculation: Literal["ngram"] | None = None
    """`ngram` guesses that the reply quotes its prompt, and checks several tokens in one step (`vllm`)."""
    prompt_format: Literal["auto", "openchatkit", "chat_template"] = "auto"
    """`auto` takes the tokenizer's chat template where it has one."""
    preamble: str = DEFAULT_PREAMBLE
    date_in_preamble: bool = True

    # sampling, where the request says nothing
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.6
    top_k: Annotated[int, Field(ge=0)] = 40
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] = 256

    # bounds of a turn
    turn_timeout_s: PositiveSeconds = 300
    reply_timeout_s: PositiveSeconds = 300
    """The same for a turn that is not streamed, whose caller hears nothing before its end."""
    max_concurrent_turns: Annotated[int, Field(ge=1)] = 256
    """Turns in flight at once; a further one is refused with `overloaded`."""
    heartbeat_s: PositiveSeconds = 15
    """A stream that has nothing to say for so long sends a blank line, twice that at the latest. Hosts and
    proxies give up on silence: DJL Serving after 120 s, load balancers mostly after 60."""
    history_turns: Annotated[int, Field(ge=0, le=500)] = 50
    """Newest turns that are read for a prompt; the token budget cuts them further."""

    # retrieval
    documents: tuple[Path, ...] = ()
    """Folders or files that become the source `documents`, and index directories (`ock index build`),
    each of which is a source of its own name."""
    documents_cache: Path | None = None
    """Where their index is kept between starts; None indexes anew each time."""
    sources: Path | None = None
    """A YAML file that names further sources: Wikipedia, web search, JSON interfaces, news feeds
    (`retrieval/sources/config.py`)."""
    documents_window: Annotated[int, Field(ge=0, le=3)] = 1
    """Neighbours on each side that a passage of theirs takes in beside the sentence that was found, where
    they are like enough; 0 leaves that sentence alone, with those that it leans on."""
    retrieval_k: Annotated[int, Field(ge=1)] = 3
    retrieval_min_score: Annotated[float, Field(ge=-1, le=1)] = 0.45
    """Score below which a passage is not worth a place in the prompt. On the sample library right
    passages score 0.54 and more, small talk at most 0.34, questions about other things 0.41."""
    retrieval_timeout_s: PositiveSeconds = 5
    reranker: str | None = None
    """Directory or hub id of a cross-encoder that puts the best passages in order; None: their scores do."""
    reranker_passages: Annotated[int, Field(ge=1, le=100)] = 20
    """Passages that it reads for a question; the time it takes grows with them."""
    reranker_min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Its score below which a passage is left out; where all are, the model is given none."""

    # moderation
    moderation: Literal["embedding", "causal_lm", "remote"] = "embedding"
    """`embedding`: a classifier on sentence embeddings; `causal_lm`: labels scored by a model;
    `remote`: a SageMaker endpoint whose container runs the role `moderation`."""
    moderation_model: str | None = None
    """Directory or hub id of the `causal_lm` judge, e.g. GPT-JT-Moderation-6B; or the `s3://` prefix that
    `staging` has put it under."""
    moderation_revision: str | None = None
    """Commit of its hub id, as `revision`."""
    moderation_quantization: Literal["fp8"] | None = None
    """Of that model's weights, while they load (`vllm`): less memory and time beside a chat model."""
    moderation_recorded_steps: bool = True
    """Whether its steps are recorded as CUDA graphs (`vllm`): half the time of a judgement. They are checked
    before the first one; should they be wrong on some GPU, nothing is judged, and this switches them off."""
    moderation_endpoint: str | None = None
    """Name of the endpoint of the `remote` judge."""
    moderation_variant: str | None = None
    """Its production variant, SageMaker's `TargetVariant`; None lets SageMaker choose one."""
    moderation_policy: Path | None = None
    """A policy file; None takes the one that comes with the package."""
    moderation_may_be_disabled: bool = False
    """Whether a request may switch a direction off."""
    moderation_input: Literal["before", "beside"] = "before"
    """`before`: the model is asked when the question has been judged. `beside`: it answers meanwhile, which
    hides the judgement's time; nothing leaves before the verdict, and the answer to a question that the
    policy overrides is stopped and forgotten."""
    moderation_output: Literal["stream", "final", "off"] = "stream"
    """`stream` judges a reply in windows while it grows, `final` once before any of it leaves."""
    moderation_passages: Literal["off", "rules", "judge"] = "rules"
    """Of passages on their way to the prompt: `rules` withholds those that give the model orders, `judge`
    also those that the policy would override; that costs a judgement a passage."""
    moderation_timeout_s: PositiveSeconds = 10
    moderation_window_tokens: Annotated[int, Field(ge=4, le=512)] = 48
    """A window of the reply is judged at a sentence's end, short ones together, or after so many tokens;
    after up to four times as many while a fast reader would still be reading what was released."""

    # out-of-domain guard
    domain_description: str | None = None
    """What the bot is for, in a few sentences or example questions. A question unlike them and unlike
    everything in the documents is overridden; None switches the guard off, but for the next setting."""
    domain_from_documents: bool = False
    """Without a description: the documents alone tell what the bot is for."""
    domain_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.45
    """Least cosine of a question that belongs to it; `ock domain calibrate` fits it to examples."""
    domain_reply: str = "That is outside what I can help with here."

    # conversation
    store: Literal["sqlite", "dynamodb"] = "sqlite"
    sqlite_path: Path = Path("conversations.sqlite")
    table_name: str = "openchatkit-conversations"
    create_table: bool = False
    """Create the DynamoDB table where it is missing. Off where a stack owns the table."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] | None = 90
    """Days after its last change that a conversation is kept; None keeps it."""

    @model_validator(mode="after")
    def _role_has_its_models(self) -> Settings:
        if self.role == "chat" and not self.model:
            raise ValueError("model: the role chat needs one")
        if self.role == "moderation" and self.moderation == "remote":
            raise ValueError("moderation: remote is not for the role moderation, which is what it calls")
        if self.moderation == "causal_lm" and not self.moderation_model:
            raise ValueError("moderation: causal_lm needs moderation_model")
        if self.moderation == "remote" and not self.moderation_endpoint:
            raise ValueError("moderation: remote needs moderation_endpoint")
        return self

    @model_validator(mode="after")
    def _engine_has_its_options(self) -> Settings:
        if self.engine != "vllm":
            for name in ("max_model_len", "quantization", "speculation", "moderation_quantization"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: only the engine vllm has it")
        if self.moderation_gpu_memory >= self.gpu_memory_utilization:
            raise ValueError("moderation_gpu_memory: leaves the chat model nothing of gpu_memory_utilization")
        return self

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings that a mapping describes.

        Raises:
            SettingsError: an unknown key, a missing one or a bad value, by name.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            rule = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{name}: {rule}" if name else rule) from None
