"""What to do about a verdict: allow, warn or override, and what the user reads instead.

The policy is a YAML file that its owner reads and changes; `policy.yaml` beside this module is the
default and explains every key. Rules add up: the strictest action of the likeliest label, of every
label above its own probability threshold, and of `harm` above its thresholds is the one taken.

`dry_run` records what the policy would do and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from openchatkit.moderation.labels import LABELS, CategorisedVerdict
from openchatkit.ports import Direction, Verdict
from openchatkit.settings import Probability, SettingsError

Action = Literal["allow", "warn", "override"]

DEFAULT_POLICY = Path(__file__).with_name("policy.yaml")

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


class Thresholds(_Strict):
    """Rules on numbers instead of on the likeliest label."""

    harm: HarmThresholds
    probability: dict[str, Probability | None] = {}

    @field_validator("probability")
    @classmethod
    def _names_labels(cls, value: dict[str, float | None]) -> dict[str, float | None]:
        _only_known_labels(value)
        return value


Reply = Annotated[str, Field(min_length=1, max_length=2_000)]


class Replies(_Strict):
    """Override replies by kind of harm; `default` is there for every other kind."""

    input: dict[str, Reply]
    output: dict[str, Reply]

    @field_validator("input", "output")
    @classmethod
    def _has_default(cls, value: dict[str, str]) -> dict[str, str]:
        if not value.get("default", "").strip():
            raise ValueError("needs a reply named default")
        return value


class ModerationPolicy(_Strict):
    """A policy file, checked. `load` reads one, `decide` applies it."""

    version: Literal[1]
    dry_run: bool = False
    labels: dict[str, Action]
    thresholds: Thresholds
    replies: Replies

    @field_validator("labels")
    @classmethod
    def _names_every_label(cls, value: dict[str, Action]) -> dict[str, Action]:
        _only_known_labels(value)
        missing = [label for label in LABELS if label not in value]
        if missing:
            raise ValueError(f"says nothing about {missing[0]!r}")
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

    def decide(self, verdict: Verdict, direction: Direction) -> Decision:
        """Return what to do about a human's text (`input`) or a bot's (`output`)."""
        ruled = max(self._rules(verdict), key=_STRICTNESS.__getitem__)
        action: Action = "allow" if self.dry_run else ruled
        reply = self._reply(verdict, direction) if action == "override" else ""
        return Decision(action, reply, ruled, verdict)

    def _rules(self, verdict: Verdict) -> list[Action]:
        actions: list[Action] = [self.labels[verdict.label]]
        actions += [
            self.labels[label]
            for label, threshold in self.thresholds.probability.items()
            if threshold is not None and verdict.scores[label] >= threshold
        ]
        for action in ("warn", "override"):
            threshold = getattr(self.thresholds.harm, action)
            if threshold is not None and verdict.harm >= threshold:
                actions.append(action)
        return actions

    def _reply(self, verdict: Verdict, direction: Direction) -> str:
        replies = self.replies.input if direction == "input" else self.replies.output
        category = verdict.category if isinstance(verdict, CategorisedVerdict) else None
        return replies.get(category or "default", replies["default"]).strip()


def _only_known_labels(names: Iterable[str]) -> None:
    for label in names:
        if label not in LABELS:
            raise ValueError(f"unknown label {label!r}")


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
