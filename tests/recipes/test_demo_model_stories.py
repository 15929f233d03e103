"""The stories of the small model's training text, and questions on them with what a search brings."""

from __future__ import annotations

import random
import re

import pytest

from recipes.demo_model.corpus import library
from recipes.demo_model.corpus.dialogues import NOT_FOUND, dialogue
from recipes.demo_model.corpus.entities import entity, period
from recipes.demo_model.corpus.ranking import blur_foreign
from recipes.demo_model.corpus.relations import articles
from recipes.demo_model.corpus.reports import MAX_CHARACTERS, MAX_SENTENCES, Report, report
from recipes.demo_model.corpus.stories import HELD_OUT, Story, Telling, clashes, stories, told
from recipes.demo_model.corpus.tongues import foreign

EVERY = [story for group in stories().values() for story in group]


def _telling(rng: random.Random, story: Story) -> Telling:
    subject = entity(rng, "body" if story.kind == "rules" else story.kind)
    return Telling(rng, story, subject, period(rng))


@pytest.mark.parametrize("story", EVERY, ids=lambda story: story.key)
def test_every_slot_of_a_story_can_be_filled(story: Story) -> None:
    rng = random.Random(1)
    telling = _telling(rng, story)
    for number, line in enumerate(story.lines):
        for _ in range(5):
            text = telling.write(rng, telling.tell(rng, number).text, ("we", "our"), plural=True)
            assert not re.search(r"[{}<>\[\]\x01-\x03]|(?<!\w)@[a-z]", text), text
        assert line.questions, f"{story.key}: nobody asks for line {number}"
        for _, template in line.questions:
            asked = telling.ask(
                rng, template.expand(rng, lambda slot: "{" + slot + "}"), ("it", "its"), "2025"
            )
            assert not re.search(r"[{}<>\[\]|]|(?<!\w)@[a-z]", asked), asked
    for template in story.unanswered:
        telling.ask(rng, template.expand(rng, lambda slot: "{" + slot + "}"), ("it", "its"), "")


@pytest.mark.parametrize("story", EVERY, ids=lambda story: story.key)
def test_every_tag_that_is_asked_for_can_be_told(story: Story) -> None:
    for line in story.lines:
        parts = {slot[1:] for wording in line.wordings for slot in wording.slots if slot.startswith("<")}
        assert {tag for tag, _ in line.questions if tag} <= parts


def test_held_out_stories_are_never_trained_on() -> None:
    assert {story.key for story in EVERY} >= HELD_OUT
    for kind in stories():
        assert not {story.key for story in told(kind)} & HELD_OUT
        assert {story.key for story in told(kind, held_out=True)} <= HELD_OUT


def test_a_part_is_told_or_left_out_as_asked() -> None:
    rng = random.Random(2)
    story = next(story for story in EVERY if story.key == "disposal")
    telling = _telling(rng, story)
    with_price = [telling.tell(rng, 0, want="price") for _ in range(20)]
    without = [telling.tell(rng, 0, without="price") for _ in range(20)]
    assert all("price" in sentence.parts and "{m1}" in sentence.text for sentence in with_price)
    assert not any("price" in sentence.parts or "{m1}" in sentence.text for sentence in without)


def test_one_story_keeps_its_values() -> None:
    rng = random.Random(3)
    telling = _telling(rng, next(story for story in EVERY if story.key == "takeover"))
    assert {telling.value(rng, "c1") for _ in range(10)} == {telling.value(rng, "c1")}
    assert telling.value(rng, "p1").endswith(telling.value(rng, "p1:last"))
    assert {telling.value(rng, "p1:he") for _ in range(10)} in ({"he"}, {"she"})


def test_a_key_names_one_story() -> None:
    keys = [story.key for story in EVERY]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("plain", "spoken"),
    [
        ("a order, a uninsured loss", "an order, an uninsured loss"),
        ("a one-off charge by a union", "a one-off charge by a union"),
        ("A used car in a European city", "A used car in a European city"),
        ("a only child", "an only child"),
    ],
)
def test_articles_follow_the_sound(plain: str, spoken: str) -> None:
    assert articles(plain) == spoken


def test_stories_that_answer_the_same_are_kept_apart() -> None:
    profile = next(story for story in EVERY if story.key == "profile")
    asked = profile.lines[0].questions[0][1]
    assert clashes(asked, profile)
    assert not clashes(asked, next(story for story in EVERY if story.key == "outage"))


def _reports(number: int, answered: bool, follow: bool = False) -> list[Report]:
    return [report(random.Random(f"{seed}"), answered, follow=follow) for seed in range(number)]


@pytest.mark.parametrize("follow", [False, True])
def test_the_answer_stands_in_the_cited_passage_alone(follow: bool) -> None:
    places = []
    for made in _reports(400, answered=True, follow=follow):
        assert made.answer is not None
        assert made.answer in made.passages[made.cited - 1].text
        holding = [number for number, p in enumerate(made.passages, 1) if made.answer in p.text]
        assert holding == [made.cited]
        places.append(made.cited)
    assert 0.8 < places.count(1) / len(places) < 0.95


@pytest.mark.parametrize("follow", [False, True])
def test_a_declined_question_has_passages_but_no_answer(follow: bool) -> None:
    for made in _reports(300, answered=False, follow=follow):
        assert made.passages
        assert made.question
        assert (made.answer, made.cited) == (None, 0)


def test_a_follow_up_has_a_turn_before_it() -> None:
    for made in _reports(100, answered=True, follow=True):
        assert made.before is not None
        assert re.fullmatch(r".+ \[[123]\]", made.before[1])
    assert all(made.before is None for made in _reports(100, answered=True))


def test_passages_are_as_long_as_those_of_the_search() -> None:
    longest = MAX_CHARACTERS + 400  # a single sentence may be longer than the limit
    for made in _reports(200, answered=True):
        assert 1 <= len(made.passages) <= 5
        assert all(len(passage.text) < longest and "\n" not in passage.text for passage in made.passages)
    assert MAX_SENTENCES == 4


def test_a_question_of_another_period_is_of_a_year_that_no_title_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "DECLINES", ("period",))
    absent = total = 0
    for made in _reports(300, answered=False):
        years = re.findall(r"\b(?:19|20)\d\d\b", made.question)
        if len(years) == 1:
            total += 1
            absent += not any(years[0] in passage.title for passage in made.passages)
    assert total > 100
    assert absent / total > 0.8


def test_a_sibling_answers_only_questions_that_name_their_period() -> None:
    kinds = set()
    for seed in range(600):
        world = library.World(random.Random(seed), answered=True, held_out=False)
        documents = world.documents()
        told_again = any(
            sentence.number == world.asked.number
            for document in documents[1:]
            if document.entity is world.subject
            for telling in document.tellings
            if telling.story.key == world.target.story.key
            for sentence in telling.sentences
        )
        kinds.add(("{t?}" in world.asked.raw, told_again))
    assert (True, True) in kinds
    assert (False, True) not in kinds


def test_a_dialogue_of_a_story_is_declined_or_cited() -> None:
    for seed in range(100):
        assert dialogue(random.Random(seed), "declined", "story").reply == NOT_FOUND
        made = dialogue(random.Random(seed), "answered", "story_held_out")
        assert made.reply == f"{made.answer} [{made.cited}]"


def test_a_blurred_question_keeps_the_words_of_its_answer() -> None:
    sentence = "The bridge was painted in 2021."
    blurred = {
        blur_foreign(random.Random(seed), "When was the bridge coated?", sentence) for seed in range(30)
    }
    assert len(blurred) > 10
    assert all(text.startswith("When was the bridge ") for text in blurred)
    assert blur_foreign(random.Random(1), "Was the bridge painted?", sentence) == "Was the bridge painted?"


def test_invented_names_are_many_and_capitalised() -> None:
    rng = random.Random(5)
    names = {foreign(rng) for _ in range(2000)}
    assert len(names) > 1800
    assert all(name[:1].isupper() or not name[:1].isalpha() or name[:1] == name[:1].upper() for name in names)
    assert any(not name.isascii() for name in names)
