"""What the policy file may say, and what follows from a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from openchatkit.moderation.glossary import LANGUAGES
from openchatkit.moderation.labels import HARMFUL, LABELS, verdict_from_scores
from openchatkit.moderation.policy import DEFAULT_POLICY, ModerationPolicy
from openchatkit.ports import Verdict
from openchatkit.settings import SettingsError


def scores(**named: float) -> dict[str, float]:
    """Return probabilities by the labels' first letters apart: `casual`, `needs_intervention`, ..."""
    given = {name.replace("_", " "): value for name, value in named.items()}
    left = (1 - sum(given.values())) / (len(LABELS) - len(given))
    return {label: given.get(label, left) for label in LABELS}


def policy(**changes: object) -> ModerationPolicy:
    values = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    return ModerationPolicy.parse(yaml.safe_dump({**values, **changes}))


NO_THRESHOLDS = {"harm": {"warn": None, "override": None}, "probability": {}}


class TestDefault:
    def test_intervention_overrides_and_casual_passes(self) -> None:
        default = ModerationPolicy.load()
        bad = default.decide(verdict_from_scores(scores(needs_intervention=0.9)), "input")
        assert bad.action == bad.ruled == "override"
        assert bad.blocked
        assert bad.reply
        fine = default.decide(verdict_from_scores(scores(casual=0.9)), "input")
        assert (fine.action, fine.reply, fine.blocked) == ("allow", "", False)

    @pytest.mark.parametrize("label", [label for label in LABELS if label not in HARMFUL])
    def test_a_harmless_label_never_overrides(self, label: str) -> None:
        verdict = verdict_from_scores(scores(**{label.replace(" ", "_"): 0.8}))
        assert not ModerationPolicy.load().decide(verdict, "output").blocked

    def test_the_reply_fits_the_direction(self) -> None:
        default, verdict = ModerationPolicy.load(), verdict_from_scores(scores(needs_intervention=0.9))
        replies = {default.decide(verdict, "input").reply, default.decide(verdict, "output").reply}
        assert len(replies) == 2
        assert all(reply == reply.strip() and len(reply) < 400 for reply in replies)

    def test_self_harm_gets_a_reply_of_its_own(self) -> None:
        default = ModerationPolicy.load()
        bad = scores(needs_intervention=0.9)
        for direction in ("input", "output"):
            known = default.decide(verdict_from_scores(bad, "self_harm"), direction)
            other = default.decide(verdict_from_scores(bad, "weapons"), direction)
            assert "crisis line" in known.reply
            assert other.reply == default.decide(Verdict(known.verdict.label, bad, 1.0), direction).reply


class TestRules:
    def test_the_likeliest_label_acts(self) -> None:
        ruled = policy(
            thresholds=NO_THRESHOLDS,
            labels=dict.fromkeys(LABELS, "allow") | {"possibly needs caution": "warn"},
        )
        assert ruled.decide(verdict_from_scores(scores(possibly_needs_caution=0.9)), "input").action == "warn"
        assert ruled.decide(verdict_from_scores(scores(needs_intervention=0.9)), "input").action == "allow"

    def test_a_label_acts_above_its_threshold_though_another_one_leads(self) -> None:
        ruled = policy(thresholds=NO_THRESHOLDS | {"probability": {"needs intervention": 0.3}})
        assert ruled.decide(verdict_from_scores(scores(casual=0.6, needs_intervention=0.3)), "input").blocked
        assert not ruled.decide(
            verdict_from_scores(scores(casual=0.6, needs_intervention=0.2)), "input"
        ).blocked

    def test_harm_acts_whatever_label_leads(self) -> None:
        ruled = policy(
            thresholds={"harm": {"warn": 0.2, "override": 0.5}, "probability": {}},
            labels=dict.fromkeys(LABELS, "allow"),
        )
        actions = [
            ruled.decide(verdict_from_scores(scores(casual=1 - p, needs_intervention=p)), "input").action
            for p in (0.1, 0.3, 0.7)
        ]
        assert actions == ["allow", "warn", "override"]

    def test_the_strictest_rule_counts(self) -> None:
        ruled = policy(
            thresholds={"harm": {"warn": 0.0, "override": None}, "probability": {}},
            labels=dict.fromkeys(LABELS, "override"),
        )
        assert ruled.decide(verdict_from_scores(scores(casual=1.0)), "input").blocked

    def test_a_dry_run_records_and_does_nothing(self) -> None:
        decision = policy(dry_run=True).decide(verdict_from_scores(scores(needs_intervention=0.9)), "input")
        assert (decision.action, decision.ruled, decision.reply) == ("allow", "override", "")
        assert not decision.blocked

    def test_decisions_rank_by_what_the_rules_say_then_by_harm(self) -> None:
        dry = policy(dry_run=True)
        bad = dry.decide(verdict_from_scores(scores(needs_intervention=0.9)), "input")
        fair = dry.decide(verdict_from_scores(scores(possibly_needs_caution=0.9)), "input")
        good = dry.decide(verdict_from_scores(scores(casual=0.9)), "input")
        assert bad.rank > fair.rank > good.rank


class TestUnknownLanguage:
    FINE = verdict_from_scores(scores(casual=0.9))
    GEORGIAN = "როგორ ხარ დღეს?"
    SHIPPED = ModerationPolicy.load()

    def test_it_passes_by_default(self) -> None:
        assert self.SHIPPED.unknown_language == "allow"
        assert self.SHIPPED.decide(self.FINE, "input", self.GEORGIAN).action == "allow"

    @pytest.mark.parametrize("action", ["warn", "override"])
    def test_it_may_be_acted_upon(self, action: str) -> None:
        strict = policy(unknown_language=action)
        assert strict.decide(self.FINE, "input", self.GEORGIAN).action == action
        assert strict.decide(self.FINE, "input", "Wie geht es dir heute?").action == "allow"
        assert strict.decide(self.FINE, "input", "今天天气怎么样？").action == "allow"

    def test_a_long_text_around_it_does_not_hide_it(self) -> None:
        filler = "The company reported higher revenue for the third quarter. " * 12
        strict = policy(unknown_language="override")
        assert strict.decide(self.FINE, "input", filler + self.GEORGIAN * 12 + filler).blocked
        assert not strict.decide(self.FINE, "input", filler + filler).blocked

    def test_a_reply_is_asked_about_itself(self) -> None:
        strict = policy(unknown_language="override")
        assert strict.decide(self.FINE, "output", "Say hello in Georgian", self.GEORGIAN).blocked
        assert not strict.decide(self.FINE, "output", self.GEORGIAN, "Hello to you too.").blocked

    def test_a_dry_run_only_says_so(self) -> None:
        decision = policy(unknown_language="override", dry_run=True).decide(self.FINE, "input", self.GEORGIAN)
        assert (decision.action, decision.ruled) == ("allow", "override")


class TestFile:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"lables": {}}, "lables: unknown key"),
            ({"labels": {"casual": "allow"}}, "labels: says nothing about"),
            ({"labels": dict.fromkeys(LABELS, "allow") | {"fine": "allow"}}, "unknown label 'fine'"),
            ({"labels": dict.fromkeys(LABELS, "shout")}, "labels.casual"),
            ({"thresholds": {"harm": {"warn": 0.5}}}, "thresholds.harm.override"),
            ({"thresholds": {"harm": {"warn": 0.5, "override": 1.5}}}, "thresholds.harm.override"),
            (
                {"thresholds": {"harm": {"warn": 0.5, "override": "0.5"}}},
                "thresholds.harm.override",
            ),
            ({"thresholds": NO_THRESHOLDS | {"hram": 1}}, "thresholds.hram: unknown key"),
            ({"thresholds": NO_THRESHOLDS | {"probability": {"fine": 0.5}}}, "unknown label 'fine'"),
            ({"replies": {"input": {"default": "x"}}}, "replies.output"),
            (
                {"replies": {"input": {"self_harm": "x"}, "output": {"default": "x"}}},
                "replies.input: needs a reply",
            ),
            ({"version": 2}, "version"),
            ({"unknown_language": "refuse"}, "unknown_language"),
            ({"unknown_languages": "warn"}, "unknown_languages: unknown key"),
            ({"dry_run": "yes please"}, "dry_run"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_mistake_is_refused_by_name(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(SettingsError) as raised:
            policy(**changes)
        assert message in str(raised.value)
        assert str(raised.value).startswith("moderation_policy: ")

    def test_a_repeated_key_is_refused(self) -> None:
        text = DEFAULT_POLICY.read_text(encoding="utf-8") + "\ndry_run: true\n"
        with pytest.raises(SettingsError, match="repeated key 'dry_run'"):
            ModerationPolicy.parse(text)

    @pytest.mark.parametrize("text", ["", "- a\n- b\n", "version: [", "!!python/object:os.system {}"])
    def test_what_is_no_mapping_is_refused(self, text: str) -> None:
        with pytest.raises(SettingsError):
            ModerationPolicy.parse(text)

    def test_a_file_of_the_owners_own(self, tmp_path: Path) -> None:
        file = tmp_path / "policy.yaml"
        file.write_text(DEFAULT_POLICY.read_text(encoding="utf-8").replace("dry_run: false", "dry_run: true"))
        assert ModerationPolicy.load(file).dry_run

    def test_a_missing_file_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"nothing\.yaml cannot be read"):
            ModerationPolicy.load(tmp_path / "nothing.yaml")


class TestCategories:
    FRAUD = verdict_from_scores(scores(casual=0.5, needs_caution=0.3), "fraud")

    def test_a_kind_may_be_stricter(self) -> None:
        strict = policy(categories={"fraud": {"warn": 0.1, "override": 0.3}})
        assert self.FRAUD.harm > 0.3
        assert not ModerationPolicy.load().decide(self.FRAUD, "input").blocked
        assert strict.decide(self.FRAUD, "input").blocked
        assert not strict.decide(verdict_from_scores(self.FRAUD.scores, "hate"), "input").blocked
        assert not strict.decide(verdict_from_scores(self.FRAUD.scores), "input").blocked

    def test_it_cannot_be_laxer_by_thresholds(self) -> None:
        lax = policy(categories={"fraud": {"warn": None, "override": 1.0}})
        assert lax.decide(verdict_from_scores(scores(needs_intervention=0.9), "fraud"), "input").blocked

    @pytest.mark.parametrize("off", ["off", False])
    def test_a_kind_may_be_off(self, off: object) -> None:
        without = policy(categories={"fraud": off})
        bad = scores(needs_intervention=0.9)
        decided = without.decide(verdict_from_scores(bad, "fraud"), "input")
        assert (decided.action, decided.ruled, decided.reply) == ("allow", "allow", "")
        assert without.decide(verdict_from_scores(bad, "hate"), "input").blocked
        assert without.decide(verdict_from_scores(bad), "input").blocked

    def test_yaml_may_write_off(self) -> None:
        text = DEFAULT_POLICY.read_text(encoding="utf-8").replace(
            "categories: {}", "categories: {drugs: off}"
        )
        assert ModerationPolicy.parse(text).categories["drugs"].off

    @pytest.mark.parametrize(
        ("categories", "named"),
        [
            ({"fruad": "off"}, "fruad"),
            ({"fraud": "on"}, "fraud"),
            ({"fraud": {"override": 0.3}}, "warn"),
            ({"fraud": {"warn": 0.1, "override": 3}}, "override"),
            ({"fraud": {"warn": 0.1, "override": 0.3, "stop": 0.3}}, "stop"),
        ],
    )
    def test_what_is_unknown_is_refused_by_name(self, categories: object, named: str) -> None:
        with pytest.raises(SettingsError, match=named):
            policy(categories=categories)


class TestReplies:
    BAD = verdict_from_scores(scores(needs_intervention=0.9), "weapons")
    GERMAN = "Wie kann ich eine Bombe bauen?"

    def replies(self, **languages: object) -> ModerationPolicy:
        texts = {"default": "no", "weapons": "no weapons", "needs intervention": "never"}
        return policy(replies={"input": texts, "output": {"default": "stop"}, "languages": languages})

    def test_a_kind_goes_before_a_label_and_a_label_before_the_default(self) -> None:
        own = self.replies()
        assert own.decide(self.BAD, "input").reply == "no weapons"
        assert own.decide(verdict_from_scores(self.BAD.scores, "hate"), "input").reply == "never"
        assert own.decide(self.BAD, "output").reply == "stop"

    def test_the_language_of_the_human_is_taken(self) -> None:
        own = self.replies(de={"input": {"default": "nein"}})
        assert own.decide(self.BAD, "input", self.GERMAN).reply == "nein"
        assert own.decide(self.BAD, "input", "How can I build a bomb?").reply == "no weapons"
        assert own.decide(self.BAD, "input", "Comment fabriquer une bombe ?").reply == "no weapons"
        assert own.decide(self.BAD, "output", self.GERMAN).reply == "stop"

    def test_a_language_without_a_fitting_reply_takes_the_main_one(self) -> None:
        own = self.replies(de={"input": {"self_harm": "nicht allein"}})
        assert own.decide(self.BAD, "input", self.GERMAN).reply == "no"

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_the_default_policy_speaks_every_language_that_the_judge_reads(self, language: str) -> None:
        default = ModerationPolicy.load().replies
        for direction in ("input", "output"):
            own = default.choose(direction, ["default"], language)
            assert own != default.choose(direction, ["default"], None)
        assert default.choose("input", ["self_harm", "default"], language) not in (
            default.choose("input", ["default"], language),
            default.choose("input", ["self_harm", "default"], None),
        )

    @pytest.mark.parametrize(
        ("replies", "named"),
        [
            ({"input": {"default": "no", "wepons": "x"}, "output": {"default": "no"}}, "wepons"),
            ({"input": {"default": "no"}, "output": {"default": "no"}, "languages": {"xx": {}}}, "xx"),
            (
                {
                    "input": {"default": "no"},
                    "output": {"default": "no"},
                    "languages": {"de": {"in": {"default": "x"}}},
                },
                r"languages\.de\.in",
            ),
        ],
    )
    def test_what_is_unknown_is_refused_by_name(self, replies: object, named: str) -> None:
        with pytest.raises(SettingsError, match=named):
            policy(replies=replies)
