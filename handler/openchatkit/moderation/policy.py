"""What to do about a verdict: allow, warn or override, and what the user reads instead.

The policy is a YAML file that its owner reads and changes; `policy.yaml` beside this module is the
default and explains every key. Rules add up: the strictest action of the likeliest label, of every
label above its own probability threshold, and of `harm` above its thresholds is the one taken. A kind
of harm may have stricter thresholds of harm of its own, or be switched off; judges that tell no kind
(see `labels.CategorisedVerdict`) are under the general rules alone.

`dry_run` records what the policy would do and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from openchatkit.moderation.disguise import clean
from openchatkit.moderation.glossary import LANGUAGES, is_unknown, language_of
from openchatkit.moderation.labels import CATEGORIES, LABELS, CategorisedVerdict
from openchatkit.moderation.segments import segments
from openchatkit.ports import Direction, Verdict
from openchatkit.settings import Probability, SettingsError

Action = Literal["allow", "warn", "override"]

DEFAULT_POLICY = Path(__file__).with_name("policy.yaml")

LANGUAGE_CHARACTERS = 1_000
"""Of the human's text, by which the language of a reply is chosen."""
UNKNOWN_PIECE_CHARACTERS = 240
"""A piece of this length in an unknown language makes the text one: more text around it does not hide it."""

_STRICTNESS: dict[Action, int] = {"allow": 0, "warn": 1, "override": 2}


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and what to do about the text it is about."""

    action: Action
    """What is done. Always `allow` in a dry run."""
    reply: str
    """What the user reads instead; empty unless the action is `override`."""
    ruled: Action
    """What the policy's rules say, in a dry run too: what is counted and stored."""
    verdict: Verdict

    @property
    def blocked(self) -> bool:
        """Whether the text must not be used."""
        return self.action == "override"

    @property
    def rank(self) -> tuple[int, float]:
        """Order of decisions: the higher one is the worse one."""
        return _STRICTNESS[self.ruled], self.verdict.harm


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HarmThresholds(_Strict):
    """From which harm on to act; None switches a threshold off."""

    warn: Probability | None
    override: Probability | None

    def actions(self, harm: float) -> list[Action]:
        """Return the actions whose threshold `harm` reaches."""
        limits: dict[Action, float | None] = {"warn": self.warn, "override": self.override}
        return [action for action, limit in limits.items() if limit is not None and harm >= limit]


class Thresholds(_Strict):
    """Rules on numbers instead of on the likeliest label."""

    harm: HarmThresholds
    probability: dict[str, Probability | None] = {}

    @field_validator("probability")
    @classmethod
    def _names_labels(cls, value: dict[str, float | None]) -> dict[str, float | None]:
        _only_known("label", value, LABELS)
        return value


Reply = Annotated[str, Field(min_length=1, max_length=2_000)]


_REPLY_NAMES = ("default", *LABELS, *CATEGORIES)

Texts = dict[str, Reply]
"""Replies by kind of harm or by label; `default` for all else."""


class LanguageReplies(_Strict):
    """Replies in one language; what is missing here is said in the policy's main language."""

    input: Texts = {}
    output: Texts = {}

    @field_validator("input", "output")
    @classmethod
    def _names_kinds(cls, value: Texts) -> Texts:
        _only_known("reply", value, _REPLY_NAMES)
        return value


class Replies(LanguageReplies):
    """Override replies; a kind of harm goes before a label, both before `default`."""

    input: Texts
    output: Texts
    languages: dict[str, LanguageReplies] = {}

    @field_validator("input", "output")
    @classmethod
    def _has_default(cls, value: Texts) -> Texts:
        if not value.get("default", "").strip():
            raise ValueError("needs a reply named default")
        return value

    @field_validator("languages")
    @classmethod
    def _names_languages(cls, value: dict[str, LanguageReplies]) -> dict[str, LanguageReplies]:
        _only_known("language", value, LANGUAGES)
        return value

    def choose(self, direction: Direction, names: Iterable[str], language: str | None) -> str:
        """Return the first reply there is of `names`, in `language` where that says anything."""
        own = self.languages.get(language or "", LanguageReplies())
        texts = getattr(own, direction) or getattr(self, direction)
        fallback: str = getattr(self, direction)["default"]
        return next((texts[name] for name in names if name in texts), fallback).strip()


class CategoryRule(HarmThresholds):
    """Thresholds of a kind of harm, or `off`."""

    off: bool = False


def _switch(value: object) -> object:
    # YAML reads `off` as false.
    return {"warn": None, "override": None, "off": True} if value in ("off", False) else value


class ModerationPolicy(_Strict):
    """A policy file, checked. `load` reads one, `decide` applies it."""

    version: Literal[1]
    dry_run: bool = False
    labels: dict[str, Action]
    thresholds: Thresholds
    unknown_language: Action = "allow"
    categories: dict[str, Annotated[CategoryRule, BeforeValidator(_switch)]] = {}
    replies: Replies

    @field_validator("labels")
    @classmethod
    def _names_every_label(cls, value: dict[str, Action]) -> dict[str, Action]:
        _only_known("label", value, LABELS)
        missing = [label for label in LABELS if label not in value]
        if missing:
            raise ValueError(f"says nothing about {missing[0]!r}")
        return value

    @field_validator("categories")
    @classmethod
    def _names_categories(cls, value: dict[str, CategoryRule]) -> dict[str, CategoryRule]:
        _only_known("category", value, CATEGORIES)
        return value

    @classmethod
    def load(cls, path: Path | None = None) -> ModerationPolicy:
        """Return the policy of a file, or the one that comes with the package.

        Raises:
            SettingsError: the file cannot be read, or a key is unknown, missing, repeated or bad.
        """
        path = path or DEFAULT_POLICY
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"moderation_policy: {path.name} cannot be read") from error

    @classmethod
    def parse(cls, text: str) -> ModerationPolicy:
        """Return the policy that YAML text describes; raises `SettingsError` as `load` does."""
        try:
            values = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 (a SafeLoader)
        except yaml.YAMLError as error:
            raise SettingsError(f"moderation_policy: not valid YAML ({_where(error)})") from None
        if not isinstance(values, dict):
            raise SettingsError("moderation_policy: must be a mapping")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            rule = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
            raise SettingsError(f"moderation_policy: {name}: {rule.removeprefix('Value error, ')}") from None

    def decide(
        self, verdict: Verdict, direction: Direction, human: str = "", bot: str | None = None
    ) -> Decision:
        """Return what to do about a human's text (`input`) or a bot's (`output`).

        Args:
            verdict: of a moderator, checked.
            direction: whose text it is about.
            human: the human's text, whose language the reply takes where the policy has it.
            bot: the bot's text if that was judged; `unknown_language` is about the one that was.
        """
        category = verdict.category if isinstance(verdict, CategorisedVerdict) else None
        actions = [*self._rules(verdict, category), self._language_rule(human if bot is None else bot)]
        ruled = max(actions, key=_STRICTNESS.__getitem__)
        action: Action = "allow" if self.dry_run else ruled
        reply = ""
        if action == "override":
            names = [name for name in (category, verdict.label, "default") if name is not None]
            reply = self.replies.choose(direction, names, language_of(human[:LANGUAGE_CHARACTERS]))
        return Decision(action, reply, ruled, verdict)

    def _language_rule(self, text: str) -> Action:
        if self.unknown_language == "allow":
            return "allow"
        pieces = segments(clean(text), UNKNOWN_PIECE_CHARACTERS, UNKNOWN_PIECE_CHARACTERS // 3)
        return self.unknown_language if any(map(is_unknown, pieces)) else "allow"

    def _rules(self, verdict: Verdict, category: str | None) -> list[Action]:
        own = self.categories.get(category) if category is not None else None
        if own is not None and own.off:
            return ["allow"]
        actions: list[Action] = [self.labels[verdict.label]]
        actions += [
            self.labels[label]
            for label, threshold in self.thresholds.probability.items()
            if threshold is not None and verdict.scores[label] >= threshold
        ]
        for thresholds in filter(None, (self.thresholds.harm, own)):
            actions += thresholds.actions(verdict.harm)
        return actions


def _only_known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(known)}")


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence: the owner would read one rule, we another."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                problem = f"repeated key {key!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _where(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return "unreadable"
