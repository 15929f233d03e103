"""The small offline model: its generated text, its tokenizer, and the committed weights."""

from __future__ import annotations

import datetime
import json
import random
from pathlib import Path
from typing import Any

import pytest

from openchatkit.prompt import DEFAULT_PREAMBLE, render_preamble, render_prompt
from recipes.demo_model.corpus.dialogues import NO_PASSAGE, NOT_FOUND, Dialogue, dialogue
from recipes.demo_model.corpus.ranking import blur
from recipes.demo_model.corpus.relations import relations
from recipes.demo_model.corpus.scenes import Passage
from recipes.demo_model.corpus.smalltalk import intents
from recipes.demo_model.corpus.values import fill

MODEL = Path(__file__).resolve().parents[2] / "local" / "demo_model"
LARGEST = 24_000_000
FREE_SLOTS = {"E", "E's", "t", "T", "t+", "tprev", "t?", "T?", "v2"}

FLOORS = {
    ("seen", "both"): 0.92,
    ("held_out", "both"): 0.76,
    ("stories_held_out", "both"): 0.70,
    ("follow_ups", "both"): 0.79,
    ("single_held_out", "both"): 0.98,
    ("small_talk", "declined"): 0.96,
    ("odd_input", "declined"): 0.97,
    ("no_passages", "declined"): 0.95,
    ("no_passages_held_out", "declined"): 0.95,
    ("natural_dev2", "both"): 0.76,
    ("natural_test", "citation"): 0.63,
    ("natural_test", "declined"): 0.73,
    ("natural_test_searched", "citation"): 0.83,
    ("natural_test_searched", "both"): 0.81,
    ("natural_test_searched", "declined"): 0.68,
}
"""A little under what was measured: a retrained model that falls below is worse, not unlucky."""


def _made(seed: int, family: str = "") -> Dialogue:
    return dialogue(random.Random(seed), family)


def test_one_seed_makes_one_dialogue() -> None:
    assert [_made(seed) for seed in range(40)] == [_made(seed) for seed in range(40)]


def test_the_answer_stands_verbatim_in_the_cited_passage() -> None:
    for seed in range(300):
        made = _made(seed, "answered")
        assert made.answer is not None
        assert made.answer in made.passages[made.cited - 1].text
        if len(made.passages) > 1:
            assert made.reply == f"{made.answer} [{made.cited}]"
        else:
            assert made.reply == f"{made.passages[0].text} [1]"


def test_a_declined_question_is_declined() -> None:
    assert {_made(seed, "declined").reply for seed in range(100)} == {NOT_FOUND}


def test_a_question_without_passages_is_declined_in_other_words() -> None:
    made = [_made(seed, "bare") for seed in range(50)]
    assert {example.reply for example in made} == {NO_PASSAGE}
    assert not any(example.passages for example in made)


def test_the_prompt_ends_as_serving_ends_it() -> None:
    assert all(_made(seed).prompt.endswith("<bot>:") for seed in range(200))


def test_every_slot_of_every_template_can_be_filled() -> None:
    rng = random.Random(1)
    for group in relations().values():
        for relation in group:
            assert relation.statements, relation.key
            assert relation.questions, relation.key
            every = [
                *relation.statements,
                *relation.questions,
                *relation.nouns,
                *relation.clauses,
                *relation.unanswered,
            ]
            for slot in {slot for template in every for slot in template.slots} - FREE_SLOTS:
                bare = slot.rstrip("^").removesuffix("'s")
                assert bare in relation.types or fill(rng, slot)


def test_every_intent_has_forty_wordings() -> None:
    rng = random.Random(2)
    for intent in intents():
        said = {rng.choice(intent.wordings).expand(rng, lambda slot: fill(rng, slot)) for _ in range(2000)}
        assert len(said) >= 40, intent.name


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(MODEL))


def test_the_tokenizer_covers_every_byte(tokenizer: Any) -> None:
    texts = [
        "".join(map(chr, range(0x20, 0x250))),
        "Ünïcödé – “quotes” € ₹ ¥ …",
        "日本語 русский العربية हिन्दी 한국어 🙂🚀",
        "\t\n\x01",
    ]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.fixture(scope="module")
def reply() -> Any:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from recipes.demo_model.evaluate import Speaker

    torch.set_num_threads(2)
    speaker = Speaker(MODEL, "cpu", 8)

    def ask(question: str, passages: list[Passage]) -> str:
        preamble = render_preamble(DEFAULT_PREAMBLE, datetime.date(2026, 11, 22))
        prompt = render_prompt(question, preamble=preamble, passages=passages)
        return speaker.replies([prompt])[0]

    return ask


PASSAGES = [
    Passage(
        "Orla Freight annual report 2025",
        "2026-02-14",
        "Revenue was €412.5 million in 2025. It employed 2,310 people.",
    ),
    Passage("Orla Freight annual report 2023", "2024-02-12", "Revenue was €377.1 million in 2023."),
    Passage("Brisk Foods", None, "Brisk Foods is led by Ines Conti."),
]


def test_it_answers_from_the_right_passage(reply: Any) -> None:
    assert (
        reply("What was Orla Freight's revenue in 2025?", PASSAGES)
        == "Revenue was €412.5 million in 2025. [1]"
    )
    assert reply("Who is the CEO of Brisk Foods?", PASSAGES) == "Brisk Foods is led by Ines Conti. [3]"


def test_it_declines(reply: Any) -> None:
    assert reply("Where is Orla Freight based?", PASSAGES) == NOT_FOUND
    assert reply("Where is Orla Freight based?", []) == NO_PASSAGE


def test_it_makes_nothing_up_where_there_is_no_passage(reply: Any) -> None:
    questions = (
        "What is the capital of France?",
        "What is the share price of Apple?",
        "When was the Eiffel Tower built?",
        "Who wrote Hamlet?",
        "What is the revenue of Microsoft in 2025?",
    )
    assert [reply(question, []) for question in questions] == [NO_PASSAGE] * len(questions)


@pytest.mark.parametrize("greeting", ["Hello!", "hello", "hi", "Hey there"])
def test_it_greets(reply: Any, greeting: str) -> None:
    assert reply(greeting, []).startswith("Hello")


def test_any_text_gets_a_short_reply(reply: Any) -> None:
    rng = random.Random(4)
    for _ in range(3):
        signs = [rng.randrange(0x21, 0xD7FF) for _ in range(30)]
        assert len(reply("".join(map(chr, signs)), PASSAGES)) < 300


def test_the_committed_model_is_small() -> None:
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= LARGEST


def test_search_order_keeps_answers_true() -> None:
    firsts = 0
    for seed in range(300):
        made = dialogue(random.Random(seed), "answered", ranked=1.0)
        assert made == dialogue(random.Random(seed), "answered", ranked=1.0)
        assert made.answer is not None
        assert made.answer in made.passages[made.cited - 1].text
        firsts += made.cited == 1
    assert 0.7 < firsts / 300 < 0.95


def test_a_blurred_question_keeps_its_question_word_and_length() -> None:
    question = "When did the company acquire the seal maker?"
    blurred = {blur(random.Random(seed), question) for seed in range(50)}
    assert question not in blurred
    assert all(one.startswith("When did the ") and one.endswith("?") for one in blurred)
    assert blur(random.Random(1), "Why is it?") == "Why is it?"


def test_the_scores_keep_their_floors() -> None:
    scores = json.loads((MODEL / "scores.json").read_text(encoding="utf-8"))["scores"]
    for (name, figure), floor in FLOORS.items():
        assert scores[name][figure] >= floor, name


def test_packed_training_gives_the_logits_of_the_library() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from recipes.demo_model.model import new_model, packed_logits

    torch.manual_seed(1)
    model = new_model(64, layers=2, hidden=64, heads=2, inner=96)
    ids = torch.randint(2, 64, (30,))
    starts = torch.tensor([0, 11, 30], dtype=torch.int32)
    positions = torch.cat([torch.arange(11), torch.arange(19)])
    with torch.no_grad():
        packed = packed_logits(model, ids, positions, starts)
        alone = torch.cat([model(ids[None, :11]).logits[0], model(ids[None, 11:]).logits[0]])
    assert torch.allclose(packed, alone, atol=1e-4)
