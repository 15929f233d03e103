"""From the options of a DJL Serving model to `Settings`.

DJL Serving hands a handler every key of `serving.properties` without its prefix `option.`, and every
environment variable `OPTION_X` as `x` where the file does not set it: the file wins. Of these

* `ock_<setting>` is a setting of this program: `ock_table_name` is `Settings.table_name`;
* DJL's own names of what an engine needs (`model_id`, `dtype`, ...) mean the same setting;
* everything else is DJL's business and not looked at.

A misspelt option of ours is refused by name, and so is one that is given twice and differently.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

from openchatkit.settings import Settings, SettingsError

PREFIX = "ock_"

ENDPOINT_DEFAULTS: Mapping[str, str] = {"store": "dynamodb", "reply_timeout_s": "55"}
"""Where an endpoint differs from the defaults of `Settings`: its disk goes with its instance, and
SageMaker gives a container 60 s for an answer that is not streamed."""

_SAME_NAMES = (
    *("dtype", "device_map", "quantization"),
    *("tensor_parallel_degree", "max_model_len", "gpu_memory_utilization"),
)
_CHAT_NAMES = {"model_id": "model", "revision": "revision"}
_JUDGE_NAMES = {"model_id": "moderation_model", "revision": "moderation_revision"}
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_FALSE = ("", "false", "0", "no", "off")


def settings_from(properties: Mapping[str, Any]) -> Settings:
    """Return the settings that a handler's properties describe.

    Args:
        properties: of the first call of DJL's `handle`; texts, and a few numbers that DJL adds.

    Raises:
        SettingsError: an option is unknown, missing or has a bad value. The message names it as it
            stands among the properties.
    """
    _refuse_remote_code(properties)
    judge = properties.get(f"{PREFIX}role") == "moderation"
    given: dict[str, tuple[str, object]] = {}
    for option, setting in _ours(properties, judge=judge).items():
        text = str(properties[option]).strip()
        if not text:
            continue  # as DJL does with empty variables
        value = _parsed(option, setting, text)
        first, earlier = given.setdefault(setting, (option, value))
        if earlier != value:
            raise SettingsError(f"{option}: contradicts {first}")
    values = {**ENDPOINT_DEFAULTS, **{setting: value for setting, (_, value) in given.items()}}
    if judge and "moderation_model" in values:
        values.setdefault("moderation", "causal_lm")
    try:
        return Settings.from_mapping(values)
    except SettingsError as error:
        name, colon, rule = str(error).partition(": ")
        shown = given[name][0] if name in given else f"{PREFIX}{name}"
        raise SettingsError(
            f"{shown}{colon}{rule}" if name in Settings.model_fields else str(error)
        ) from None


def _ours(properties: Mapping[str, Any], *, judge: bool) -> dict[str, str]:
    """Return the options that are settings, with the setting's name."""
    known = Settings.model_fields
    djl = {name: name for name in _SAME_NAMES} | (_JUDGE_NAMES if judge else _CHAT_NAMES)
    found = {}
    for option in properties:
        setting = option.removeprefix(PREFIX) if option.startswith(PREFIX) else djl.get(option)
        if setting is None:
            continue
        if setting not in known:
            close = difflib.get_close_matches(setting, known, n=1)
            hint = f", did you mean {PREFIX}{close[0]}?" if close else ""
            raise SettingsError(f"{option}: there is no such option{hint}")
        found[option] = setting
    return found


def _parsed(option: str, setting: str, text: str) -> object:
    """Return an option's text as `Settings` takes it."""
    annotation = Settings.model_fields[setting].annotation
    forms = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if text.lower() == "none" and type(None) in forms:
        return None
    if any(get_origin(form) in (tuple, list, dict, Mapping) for form in forms):
        if not text.startswith(("[", "{")):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        try:
            return json.loads(text)
        except ValueError:
            raise SettingsError(f"{option}: is not JSON") from None
    if option == "model_id" and text.startswith("s3://"):
        raise SettingsError(
            f"{option}: {text} has not been downloaded; DJL Serving downloads option.model_id, by itself, "
            "where it finds s5cmd or the aws command"
        )
    return _DTYPES.get(text, text) if setting == "dtype" else text


def _refuse_remote_code(properties: Mapping[str, Any]) -> None:
    for option in ("trust_remote_code", f"{PREFIX}trust_remote_code"):
        if str(properties.get(option, "")).strip().lower() not in _FALSE:
            raise SettingsError(f"{option}: refused, no code of a model's repository is ever run")
