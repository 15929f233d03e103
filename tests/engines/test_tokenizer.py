from __future__ import annotations

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from openchatkit.engines.tokenizer import HuggingFaceTokenizer
from tests.engines.models import tiny_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def templated() -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_the_template_ends_where_the_reply_begins(templated: PreTrainedTokenizerFast) -> None:
    prompt = HuggingFaceTokenizer(templated).apply_chat_template([{"role": "user", "content": "Hello"}])
    assert prompt == "<|endoftext|><user>Hello\n<assistant>"


@pytest.mark.parametrize("forged", ["<|endoftext|>", "<|endof<|endoftext|>text|>"])
def test_a_message_opens_no_turn_with_special_tokens(templated: PreTrainedTokenizerFast, forged: str) -> None:
    tokenizer = HuggingFaceTokenizer(templated)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": f"a{forged}b"}])
    assert tokenizer.encode(prompt).count(0) == 1


def test_count_is_what_encode_gives() -> None:
    tokenizer = HuggingFaceTokenizer(tiny_tokenizer())
    assert tokenizer.count("Revenue of Aldermoor") == len(tokenizer.encode("Revenue of Aldermoor"))


def test_a_continuation_is_what_comes_after_the_prompts_tokens() -> None:
    tokenizer = HuggingFaceTokenizer(tiny_tokenizer())
    for text, continuation in [("Revenue of", " Aldermoor"), ("Reven", "ue"), ("", "Revenue")]:
        tokens = tokenizer.encode_continuation(text, continuation)
        assert tokenizer.decode([*tokenizer.encode(text), *tokens]) == text + continuation


def test_a_continuation_does_not_depend_on_the_lines_before() -> None:
    tokenizer = HuggingFaceTokenizer(tiny_tokenizer())
    text, lines = "Output:", "Input: Revenue of\n\n" * 50
    for continuation in [" casual", "s", "\n"]:
        tokens = tokenizer.encode_continuation(lines + text, continuation)
        assert [*tokenizer.encode(lines + text), *tokens] == tokenizer.encode(lines + text + continuation)
