"""Settings from strings and values, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openchatkit.settings import Settings, SettingsError


def test_strings_of_a_properties_file_are_read() -> None:
    settings = Settings.from_mapping(
        {
            "model": "/opt/ml/model",
            "temperature": "0.2",
            "max_new_tokens": "64",
            "create_table": "true",
            "sqlite_path": "/tmp/x.sqlite",
            "retention_days": "30",
        }
    )
    assert (settings.temperature, settings.max_new_tokens, settings.create_table) == (0.2, 64, True)
    assert settings.sqlite_path == Path("/tmp/x.sqlite")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "model: "),
        ({"model": "m", "temprature": "1"}, "temprature: "),
        ({"model": "m", "temperature": "hot"}, "temperature: "),
        ({"model": "m", "engine": "gpt"}, "engine: "),
        ({"model": "m", "moderation_output": "later"}, "moderation_output: "),
        ({"model": "m", "moderation": "causal_lm"}, "needs moderation_model"),
        ({"model": "m", "moderation": "remote"}, "needs moderation_endpoint"),
        ({"role": "moderation", "moderation": "remote", "moderation_endpoint": "e"}, "moderation: remote"),
        ({"role": "judge"}, "role: "),
        ({"model": "m", "retention_days": 0}, "retention_days: "),
        ({"model": "m", "turn_timeout_s": 0}, "turn_timeout_s: "),
    ],
)
def test_what_cannot_work_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_mapping(values)


def test_settings_are_frozen() -> None:
    settings = Settings(model="m")
    with pytest.raises(ValueError, match="frozen"):
        settings.model = "n"  # type: ignore[misc]


def test_the_role_moderation_needs_no_chat_model() -> None:
    assert Settings.from_mapping({"role": "moderation"}).model == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_model_len", "1024"),
        ("quantization", "fp8"),
        ("speculation", "ngram"),
        ("moderation_quantization", "fp8"),
    ],
)
def test_what_only_vllm_has_is_refused_for_another_engine(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: only the engine vllm"):
        Settings.from_mapping({"model": "m", name: value})
    assert str(getattr(Settings.from_mapping({"model": "m", "engine": "vllm", name: value}), name)) == value


def test_a_judge_may_not_take_all_the_memory() -> None:
    with pytest.raises(SettingsError, match="moderation_gpu_memory"):
        Settings.from_mapping({"model": "m", "gpu_memory_utilization": "0.25"})
