"""A question on a small library, with the passages that the handler's search would bring.

A passage is a hit with its neighbours, as `openchatkit.retrieval.passages` widens it, and most passages
are of the right document or its siblings. So a title often names the subject where the sentence says `the
company` or `we`, the sentence that answers stands among others on the same matter, and the same figure of
another year is next to it. Similarity is approximated by words in common; the place of the right passage
is drawn.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from openchatkit.prompt import neutralise_passage
from recipes.demo_model.corpus import disguise, ranking
from recipes.demo_model.corpus.entities import Entity, entity, lookalike, period, possessive
from recipes.demo_model.corpus.facts import loosen
from recipes.demo_model.corpus.library import Document, Line, World, choices, label, write
from recipes.demo_model.corpus.scenes import Passage
from recipes.demo_model.corpus.stories import Sentence, Telling, subject_of, told
from recipes.demo_model.corpus.table import table
from recipes.demo_model.corpus.template import capitalise

PLACES = (0.85, 0.1)
"""How often the right passage comes first, second; the real search: 84 %, 10 %."""
COUNTS = (1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5)
"""Passages that are asked for; the handler's default is 3, the demonstration model's 2."""
MASKED = 0.3
"""Share of questions whose words, and the stories', are swapped for others."""
BLURRED = 0.1
"""Share of answerable questions with a foreign word in place of one that the sentence lacks anyway."""
LOOSE = 0.5
"""Share of questions that are typed as people type (`facts.loosen`)."""
ROWS = 0.07
"""Share of questions on a row of a table."""
SINGLE = 0.5
"""Share of searches without neighbours (`documents_window` 0, the demonstration model's default)."""
NEIGHBOUR = 0.55
"""How often a sentence joins the hit beside it in the others; that search gives 1.9 sentences a passage."""
MAX_SENTENCES, MAX_CHARACTERS = 4, 700

_STEM = re.compile(r"[a-z]{3,}|\d+")
_LEANING = re.compile(
    r"(?:It|Its|He|His|She|Her|They|Their|This|That|The (?:company|group|firm|deal|business)) "
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a dialogue is made of."""

    passages: tuple[Passage, ...]
    question: str
    answer: str | None
    cited: int
    before: tuple[str, str] | None = None
    """The question before and its answer with a citation, for a follow-up."""


def _stems(text: str) -> set[str]:
    return {word[:5] for word in _STEM.findall(text.lower())}


def _window(
    rng: random.Random, document: Document, hit: int, taken: set[int], neighbour: float
) -> tuple[int, int]:
    """Return the first and last line of the passage around a hit."""
    lines = document.lines
    first = last = hit

    def fits(number: int) -> bool:
        size = sum(len(line.text) + 1 for line in lines[first : last + 1])
        return (
            0 <= number < len(lines)
            and number not in taken
            and last - first + 1 < MAX_SENTENCES
            and size + len(lines[number].text) < MAX_CHARACTERS
        )

    while _LEANING.match(lines[first].text) and hit - first < 2 and fits(first - 1):
        first -= 1
    if first == hit and rng.random() < neighbour and fits(hit - 1):
        first -= 1
    if rng.random() < neighbour and fits(last + 1):
        last += 1
    return first, last


def _search(
    rng: random.Random, documents: Sequence[Document], question: str, target: Line | None
) -> list[tuple[Document, int, int]]:
    """Return spans of lines, best first, each sentence in at most one of them."""
    wanted = _stems(question)
    scored = []
    for document in documents:
        about = _stems(document.title)
        for number, line in enumerate(document.lines):
            words = _stems(line.text)
            score = len(wanted & words) + 0.7 * len(wanted & (about - words)) + rng.gauss(0, 0.7)
            scored.append((score, document, number))
    scored.sort(key=lambda entry: -entry[0])
    total = rng.choice(COUNTS)
    neighbour = 0.0 if rng.random() < SINGLE else NEIGHBOUR
    spans: list[tuple[Document, int, int]] = []
    taken: dict[int, set[int]] = {id(document): set() for document in documents}

    def add(document: Document, number: int) -> None:
        first, last = _window(rng, document, number, taken[id(document)], neighbour)
        taken[id(document)].update(range(first, last + 1))
        spans.append((document, first, last))

    if target is not None:
        place = next((d, n) for d in documents for n, line in enumerate(d.lines) if line is target)
        add(*place)
    for _, document, number in scored:
        if len(spans) >= total:
            break
        if number not in taken[id(document)]:
            add(document, number)
    if target is not None:
        best = spans.pop(0)
        form = rng.random()
        at = 0 if form < PLACES[0] else 1 if form < sum(PLACES) else 2
        spans.insert(min(at, len(spans)), best)
    return spans


def _surface(rng: random.Random, subject: Entity, pronoun: bool) -> tuple[str, str]:
    if pronoun:
        form = rng.random()
        if form < 0.6:
            return subject.pronoun
        if form < 0.75 and subject.kind == "company":
            return ("they", "their")
        generic = rng.choice(subject.generic)
        return (generic, possessive(rng, generic))
    name = subject.short if rng.random() < 0.75 else subject.full
    return (name, possessive(rng, name))


def _before(rng: random.Random, world: World, documents: Sequence[Document]) -> tuple[str, str]:
    """Return an earlier question on the same subject and its answer."""
    own = [
        line
        for document in documents
        if document.entity is world.subject
        for line in document.lines
        if line.sentence is not world.asked.sentence
    ]
    same = [line for line in own if line.telling is world.target]
    if own:
        line = rng.choice(same if same and rng.random() < 0.8 else own)
    else:
        spare = Telling(rng, world.spare(), world.subject, world.when)
        sentence = spare.sentences[0]
        subject = subject_of(rng, world.subject, "name", opening=True)
        line = Line(spare, sentence, neutralise_passage(spare.write(rng, sentence.text, subject, False)))
    questions = line.telling.story.lines[line.sentence.number].questions
    usable = [q for tag, q in questions if not tag or tag in line.sentence.parts] or [questions[0][1]]
    raw = choices(rng.choice(usable), rng)
    asked = line.telling.ask(rng, raw, _surface(rng, world.subject, pronoun=False), _noun(rng, world, False))
    return asked, line.text


def _noun(rng: random.Random, world: World, needed: bool) -> str:
    return world.when.noun(rng) if world.dated and (needed or rng.random() < 0.5) else ""


_SHORT = {
    "why": ("Why?", "And why?", "Why is that?", "How come?", "What was the reason?", "For what reason?"),
    "when": ("When?", "And when?", "When was that?", "When did that happen?"),
    "where": ("Where?", "And where?", "Where was that?"),
    "who": ("Who?", "By whom?", "Who was it?"),
    "price": ("For how much?", "At what price?", "What did it cost?", "How much was it?"),
}


_PERIODS = (
    "And in {}?",
    "What about {}?",
    "And {}?",
    "How about {}?",
    "And for {}?",
    "in {}?",
    "And what about {}?",
)
_ENTITIES = ("What about {}?", "And {}?", "How about {}?", "And at {}?", "And what about {}?", "And for {}?")


def _follow_up(
    rng: random.Random, world: World, documents: Sequence[Document]
) -> tuple[str, tuple[str, str]]:
    """Return a question that leans on the one before, and that one with its answer."""
    cite = f" [{rng.choice((1, 1, 1, 2, 3))}]"
    found = _swapped(rng, world, documents) or _shortened(rng, world, documents)
    if not found:
        earlier, said = _before(rng, world, documents)
        surface, when = _surface(rng, world.subject, True), _noun(rng, world, world.dated)
        question = world.asked.telling.ask(rng, world.asked.raw, surface, when, known=said)
        if rng.random() < 0.12:
            question = f"And {question[:1].lower()}{question[1:]}"
        found = (question, earlier, said)
    question, earlier, said = found
    return question, (earlier, said + cite)


def _shortened(
    rng: random.Random, world: World, documents: Sequence[Document]
) -> tuple[str, str, str] | None:
    """Return `Why?` or the like, after a question on another part of the same sentence."""
    asked = world.asked
    if asked.tag not in _SHORT or asked.number < 0 or rng.random() < 0.5:
        return None
    plain = [q for tag, q in world.target.story.lines[asked.number].questions if not tag]
    if not plain:
        return None
    raw = choices(rng.choice(plain), rng)
    earlier = world.target.ask(rng, raw, _surface(rng, world.subject, False), _noun(rng, world, True))
    lines = [line for line in documents[0].lines if line.sentence is asked.sentence]
    return rng.choice(_SHORT[asked.tag]), earlier, (lines or documents[0].lines)[0].text


def _swapped(rng: random.Random, world: World, documents: Sequence[Document]) -> tuple[str, str, str] | None:
    """Return `And in 2024?` or `And Orla?`, after the same question on another period or entity."""
    asked, target = world.asked, world.target
    name = _surface(rng, world.subject, False)
    if world.decline == "period":
        line = next((line for line in documents[0].lines if line.sentence is asked.sentence), None)
        earlier = target.ask(rng, asked.raw, name, world.when.noun(rng))
        said = (line or documents[0].lines[0]).text
        return _short_of(rng, _PERIODS, world.other_noun(documents)), earlier, said
    told = [
        (document, line)
        for document in documents[1:]
        for line in document.lines
        if document.entity is world.subject
        and line.telling.story.key == target.story.key
        and line.sentence.number == asked.number
    ]
    if world.dated and told and rng.random() < 0.7:
        document, line = rng.choice(told)
        earlier = line.telling.ask(rng, asked.raw, name, document.period.noun(rng))
        return _short_of(rng, _PERIODS, world.when.noun(rng)), earlier, line.text
    if asked.number < 0 or "{E" not in asked.raw or world.subject.kind != "company" or rng.random() > 0.2:
        return None
    other = Telling(rng, target.story, lookalike(rng, world.subject), world.when)
    other.values.update(target.values)
    sentence = other.tell(rng, asked.number, want=asked.tag)
    subject = subject_of(rng, other.entity, "name", opening=True)
    said = neutralise_passage(other.write(rng, sentence.text, subject, False))
    earlier = other.ask(rng, asked.raw, _surface(rng, other.entity, False), _noun(rng, world, False))
    return _short_of(rng, _ENTITIES, name[0]), earlier, said


def _short_of(rng: random.Random, forms: Sequence[str], noun: str) -> str:
    return capitalise(rng.choice(forms).format(noun))


def _swap_word(rng: random.Random, question: str, sentence: str) -> str:
    """Return the question with a decisive word replaced: one that it shares with its sentence."""
    shared = _stems(sentence)
    found = [m for m in re.finditer(r"\b[a-z]{5,}\b", question) if m.group()[:5] in shared]
    if not found:
        return ""
    match = rng.choice(found)
    other = disguise.another(rng, match.group())
    return question[: match.start()] + other + question[match.end() :]


def _question(rng: random.Random, world: World, documents: Sequence[Document]) -> str:
    asked, subject = world.asked, world.subject
    if world.decline == "entity":
        subject = lookalike(rng, subject)
    when = _noun(rng, world, needed=True)
    if world.decline == "period" and world.target.story.timed:
        when = world.other_noun(documents)
    return asked.telling.ask(rng, asked.raw, _surface(rng, subject, pronoun=False), when)


def _settle(rng: random.Random, world: World) -> None:
    """Replace a kind of decline that the story cannot have."""
    nameless = "{E" not in world.asked.raw
    untimed = not world.target.story.timed or "{t?}" not in world.asked.raw
    if (world.decline == "entity" and nameless) or (world.decline == "period" and untimed):
        world.decline = "removed"


def report(rng: random.Random, answered: bool, follow: bool = False, held_out: bool = False) -> Report:
    """Return a question with its passages.

    Args:
        answered: whether a passage holds the answer.
        follow: whether the question leans on one before it.
        held_out: whether it is about a story that training never sees.
    """
    if not held_out and not follow and rng.random() < ROWS:
        return _rows(rng, answered)
    world = World(rng, answered, held_out)
    if follow and world.decline in ("entity", "word"):
        world.decline = "removed"
    _settle(rng, world)
    documents = world.documents()
    if not held_out and world.decline != "missing" and rng.random() < MASKED:
        world.mask(documents)
    dated = rng.random() < 0.85
    for document in documents:
        write(rng, document, dated, world.asked.sentence)
    target = next((line for line in documents[0].lines if line.sentence is world.asked.sentence), None)
    before: tuple[str, str] | None = None
    if follow:
        question, before = _follow_up(rng, world, documents)
    else:
        question = _question(rng, world, documents)
    if world.decline == "word":
        swapped = _swap_word(rng, question, target.text if target else "")
        if not swapped:
            return report(rng, answered, follow, held_out)
        question = swapped
    if answered and target and not follow and rng.random() < BLURRED:
        question = ranking.blur_foreign(rng, question, target.text)
    if rng.random() < LOOSE:
        question = loosen(rng, question)
    spans = _search(rng, documents, question, target if answered else None)
    return _finish(question, spans, target if answered else None, before)


def _finish(
    question: str,
    spans: Sequence[tuple[Document, int, int]],
    target: Line | None,
    before: tuple[str, str] | None,
) -> Report:
    passages = []
    cited = 0
    for number, (document, first, last) in enumerate(spans, 1):
        lines = document.lines[first : last + 1]
        if target is not None and any(line is target for line in lines):
            cited = number
        passages.append(Passage(document.title, document.date, " ".join(line.text for line in lines)))
    return Report(tuple(passages), question, target.text if target else None, cited, before)


def _rows(rng: random.Random, answered: bool) -> Report:
    """Return a question on a row of a table or a list of figures."""
    subject, when = entity(rng, "company"), period(rng)
    name = subject.short
    made = table(rng, subject, when, answered)
    document = Document(subject, when, [], "name", labelled=True)
    document.title = rng.choice(
        (f"{name} key figures {label(rng, when)}", f"{name} annual report {label(rng, when)}",
         f"{name} results {label(rng, when)}", f"{name} fact sheet {label(rng, when)}")
    )  # fmt: skip
    telling = Telling(rng, told("company")[0], subject, when)
    document.date = (
        f"{when.year + 1}-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}" if rng.random() < 0.8 else None
    )
    document.lines = [
        Line(telling, Sentence(n, row, frozenset()), neutralise_passage(row))
        for n, row in enumerate(made.rows)
    ]
    target = document.lines[made.answer] if made.answer is not None else None
    spans = _search(rng, [document], made.question, target)
    return _finish(made.question, spans, target, None)
