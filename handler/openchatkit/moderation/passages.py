"""Screening of passages before they reach the prompt: a page may be poisoned.

Two looks at each passage, both at all its readings (`disguise.readings`):

* rules, always: text that speaks to the model instead of the reader. Orders to drop its instructions,
  role tags and chat-template marks, a new identity, secrets to tell, calls of tools, the same in base64;
* the judge, where the settings ask for it: harm by the policy's rules for input.

What is found is withheld whole and counted; the turn goes on with the rest. A passage that could not be
judged is withheld too. Not in scope: false facts, and orders in wordings that no rule knows. Those meet
the delimiters of the prompt and the moderation of the reply.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections import Counter
from collections.abc import Sequence

from openchatkit.errors import ModerationUnavailable
from openchatkit.moderation.counts import Counts
from openchatkit.moderation.disguise import readings
from openchatkit.moderation.policy import ModerationPolicy
from openchatkit.ports import Moderator, Passage

MAX_DECODED = 16
"""Most base64 runs of one passage that are decoded."""
LEAST_BASE64_CHARACTERS = 24

_BASE64 = re.compile(rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{{LEAST_BASE64_CHARACTERS},}}={{0,2}}")

_RULES_NOUN = (
    r"(?:instructions?|prompts?|rules|guidelines|directions|orders|commands|guardrails|restrictions|"
    r"anweisungen|anweisung|regeln|vorgaben|instrucciones|reglas|órdenes|ordenes|consignes|règles|regles|"
    r"istruzioni|regole|instruções|instrucoes|regras|instructies|regels|opdrachten|"
    r"инструкции|инструкций|указания|правила|talimatları|talimatlari|instrukcje|polecenia)"
)
_DROP_VERB = (
    r"(?:ignore|disregard|forget|override|bypass|overwrite|do not follow|don't follow|stop following|neglect|"
    r"ignoriere|ignorieren|vergiss|missachte|ignora|ignorar|olvida|olvide|ignorez|oubliez?|"
    r"dimentica|ignore|esqueça|esqueca|esquece|negeer|vergeet|игнорируй|игнорируйте|забудь|забудьте|"
    r"zignoruj|yok say|görmezden gel)"
)
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_DROP_VERB}\b[^.!?\n]{{0,60}}?\b{_RULES_NOUN}\b",
        rf"\b{_RULES_NOUN}\b[^.!?\n]{{0,30}}?\b(?:yok say|görmezden gel|vergessen|ignorieren)\b",
        r"\b(?:new|updated|real|actual) (?:system )?(?:instructions?|prompt)\s*(?:[:\-]|for (?:the|you))",
        (
            r"\b(?:reveal|print|repeat|show|output|leak|send|tell (?:me|the user)|"
            r"verrate|révèle|revela|rivela)\b[^.!?\n]{0,40}"
            r"\b(?:system|hidden|initial|secret) (?:prompt|instructions?|message)\b"
        ),
        (
            r"\byou are (?:now|no longer) (?:an? |the |in )?(?:\w+ ){0,3}"
            r"(?:ai|assistant|chatbot|bot|model|mode|dan|unrestricted|bound|jailbroken)\b"
        ),
        (
            r"\b(?:attention|note to|message (?:to|for)|dear|hey|instructions? (?:to|for)) "
            r"(?:the |all |any )?(?:ai|llms?|language models?|assistants?|chat ?bots?)\b"
        ),
        (
            r"\b(?:when|if) (?:you are )?(?:an? )?(?:ai|llm|language model|assistant|chat ?bot)\b"
            r"[^.!?\n]{0,60}\b(?:must|should|always|say|answer|respond|recommend)\b"
        ),
        r"\b(?:do not|don't|never) (?:tell|inform|mention|warn|reveal)\b[^.!?\n]{0,30}\b(?:the )?user\b",
        r"\b(?:tell|instruct|convince|urge) the user (?:to|that)\b",
        (
            r"\b(?:respond|reply|answer) (?:only )?(?:with|by saying)\b[^.!?\n]{0,80}"
            r"\b(?:instead|regardless|always|no matter)\b"
        ),
        (
            r"(?:^|[\s\"'<\[(#*>|])(?:system|assistant|developer|human|bot|user)\s*(?:>|\]|\)|\|)?\s*[:：]\s*"
            r"(?=\S)(?:you|ignore|disregard|forget|from now|sure|say|tell|reveal|print|i will|okay|ok\b|new)"
        ),
        r"<\s*/?\s*(?:human|bot|system|assistant|im_start|im_end)\s*>",
        r"<\|[a-z_]{2,24}\|>|\[/?INST\]|<<\s*/?SYS\s*>>",
        r"\bBEGIN (?:SYSTEM|ADMIN) (?:PROMPT|MESSAGE|OVERRIDE)\b",
        r"(?:^|\n)[^\S\n]*#{2,}\s*(?:system|instructions?|assistant|new task)\b",
        (
            r"\{[^{}]{0,80}[\"'](?:tool|tool_call|tool_calls|function|function_call|recipient_name|role)"
            r"[\"']\s*:\s*[\"'{\[]"
        ),
        r"!\[[^\]]{0,80}\]\(\s*https?://[^)\s]{0,200}[?&][^)\s]{0,40}=",
        (
            r"忽略[^。！？\n]{0,20}(?:指令|指示|规则|提示)|(?:指示|指令|ルール)[^。！？\n]{0,12}無視|"
            r"تجاهل[^.!?\n]{0,40}(?:التعليمات|تعليمات|الأوامر)|(?:निर्देशों|निर्देश)[^।!?\n]{0,30}(?:अनदेखा|नज़रअंदाज़)|"
            r"(?:지시|명령)[^.!?\n]{0,12}무시"
        ),
    )
)


class PassageScreen:
    """Withholds passages that must not stand in a prompt."""

    def __init__(
        self, policy: ModerationPolicy, counts: Counts, *, moderator: Moderator | None = None
    ) -> None:
        """Args: `moderator` judges harm as well; None leaves it at the rules."""
        self._policy = policy
        self._counts = counts
        self._moderator = moderator

    async def screen(self, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        """Return the passages that may be used, in their order. Raises nothing."""
        reasons = await asyncio.gather(*(self._reason(passage) for passage in passages))
        for reason, number in Counter(filter(None, reasons)).items():
            self._counts.passages_withheld(reason, number)
        if self._policy.dry_run:
            return tuple(passages)
        return tuple(each for each, reason in zip(passages, reasons, strict=True) if reason is None)

    async def _reason(self, passage: Passage) -> str | None:
        """Return why a passage is withheld, None where it is not."""
        text = f"{passage.title}\n{passage.text}"
        if speaks_to_the_model(text):
            return "injection"
        if self._moderator is None:
            return None
        try:
            verdict = await self._moderator.judge(text)
        except ModerationUnavailable:
            return "unavailable"
        return "harm" if self._policy.decide(verdict, "input").ruled == "override" else None


def speaks_to_the_model(text: str) -> bool:
    """Return whether a text gives the model orders or plays one of the prompt's roles."""
    found = [text, *readings(text)]
    found += [reading for decoded in _decoded(text) for reading in (decoded, *readings(decoded))]
    return any(pattern.search(each) for each in found for pattern in _PATTERNS)


def _decoded(text: str) -> list[str]:
    """Return what the base64 in a text says, where it says anything."""
    found = []
    for match in list(_BASE64.finditer(text))[:MAX_DECODED]:
        run = match.group().rstrip("=").translate(str.maketrans("-_", "+/"))
        try:
            found.append(base64.b64decode(run + "=" * (-len(run) % 4)).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found
