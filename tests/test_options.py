"""DJL's properties as settings: ours by prefix, DJL's own names, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openchatkit.options import settings_from
from openchatkit.settings import SettingsError

# What DJL Serving adds by itself to the options of a model.
OF_DJL = {
    "engine": "Python",
    "entryPoint": "model.py",
    "async_mode": "true",
    "minWorkers": "1",
    "handler": "handle",
    "device_id": "-1",
    "cluster_size": 1,
    "model_dir": "/opt/ml/model",
    "tensor_parallel_degree": "4",
}


def settings(**options: Any) -> Any:
    return settings_from({**OF_DJL, "model_id": "/weights", **options})


def test_ours_by_their_prefix_and_djls_by_their_names() -> None:
    found = settings(
        ock_role="chat",
        ock_table_name="conversations",
        ock_max_new_tokens="64",
        ock_create_table="true",
        ock_temperature=" 0.2 ",
        dtype="fp16",
        device_map="cuda:0",
        revision="abc",
    )
    assert (found.model, found.revision, found.device_map) == ("/weights", "abc", "cuda:0")
    assert (found.dtype, found.table_name, found.max_new_tokens) == ("float16", "conversations", 64)
    assert (found.create_table, found.temperature) == (True, 0.2)


@pytest.mark.parametrize(("spelt", "meant"), [("fp32", "float32"), ("bf16", "bfloat16"), ("auto", "auto")])
def test_djls_types_of_numbers(spelt: str, meant: str) -> None:
    assert settings(dtype=spelt).dtype == meant


def test_what_vllm_needs() -> None:
    found = settings(
        ock_engine="vllm", max_model_len="2048", gpu_memory_utilization="0.8", quantization="fp8"
    )
    assert (found.engine, found.tensor_parallel_degree, found.max_model_len) == ("vllm", 4, 2048)
    assert (found.gpu_memory_utilization, found.quantization) == (0.8, "fp8")


def test_conversations_outlive_an_instance_unless_told_otherwise() -> None:
    assert settings().store == "dynamodb"
    assert settings(ock_store="sqlite").store == "sqlite"


def test_the_role_moderation_takes_the_model_as_its_judge() -> None:
    found = settings(ock_role="moderation", revision="abc")
    assert (found.role, found.moderation, found.moderation_model) == ("moderation", "causal_lm", "/weights")
    assert (found.moderation_revision, found.model, found.revision) == ("abc", "", None)
    classifier = settings_from({**OF_DJL, "ock_role": "moderation"})
    assert (classifier.moderation, classifier.moderation_model) == ("embedding", None)


def test_lists_nothing_and_empty() -> None:
    found = settings(ock_documents="/a, /b/c.md", ock_retention_days="none", ock_moderation_policy="")
    assert found.documents == (Path("/a"), Path("/b/c.md"))
    assert found.retention_days is None
    assert found.moderation_policy is None
    assert settings(ock_documents='["/a,b"]').documents == (Path("/a,b"),)


def test_the_same_thing_twice_is_fine_and_a_contradiction_is_not() -> None:
    assert settings(ock_model="/weights", dtype="fp16", ock_dtype="float16").dtype == "float16"
    with pytest.raises(SettingsError, match=r"ock_dtype: contradicts dtype"):
        settings(dtype="fp16", ock_dtype="float32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"ock_tabel_name": "t"},
            r"^ock_tabel_name: there is no such option, did you mean ock_table_name\?$",
        ),
        ({"ock_zzz": "t"}, "^ock_zzz: there is no such option$"),
        ({"ock_temperature": "hot"}, "^ock_temperature: "),
        ({"dtype": "int3"}, "^dtype: "),
        ({"ock_role": "judge"}, "^ock_role: "),
        ({"ock_documents": "[/a"}, "^ock_documents: is not JSON"),
        ({"model_id": ""}, "^ock_model: the role chat needs one"),
        ({"model_id": "s3://bucket/weights/"}, r"^model_id: s3://bucket/weights/ has not been downloaded"),
        ({"ock_moderation": "causal_lm"}, "moderation_model"),
        ({"trust_remote_code": "true"}, "^trust_remote_code: refused"),
        ({"ock_trust_remote_code": "True"}, "^ock_trust_remote_code: refused"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_it_was_given(options: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**options)


def test_a_second_model_may_lie_in_s3() -> None:
    found = settings(ock_moderation="causal_lm", ock_moderation_model="s3://bucket/judge/")
    assert found.moderation_model == "s3://bucket/judge/"


def test_remote_code_may_be_switched_off_explicitly() -> None:
    assert settings(trust_remote_code="false").model == "/weights"
