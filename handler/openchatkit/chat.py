"""The chat model: from a question, its history and its passages to a clean stream of text.

It builds the prompt within the token budget, runs the engine and cleans what comes out: blanks
around the reply go, and so does every citation `[n]` of a passage that was not in the prompt. It
knows nothing of sessions or moderation.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

from openchatkit import prompt as prompts
from openchatkit.errors import InvalidRequest
from openchatkit.ports import Chunk, Engine, Passage, SamplingParameters
from openchatkit.settings import Settings
from openchatkit.wire import Parameters

# A citation mark, alone or a list, with the blanks before it: they go with it when it is dropped.
_CITATION = re.compile(r"[ \t]*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
# The end of a text that may yet turn out to be trailing blanks or the beginning of a citation.
_UNDECIDED = re.compile(r"\s*(?:\[[\d,\s]{0,24})?$")


class CitationFilter:
    """Drops citations of passages that do not exist and the blanks around a reply.

    Feed it text as it comes; it holds back only what it cannot decide yet.
    """

    def __init__(self, passages: int) -> None:
        self._passages = passages
        self._held = ""
        self._started = False
        self.cited: set[int] = set()
        """Numbers that the text so far cites, all of them in 1..passages."""

    def push(self, text: str) -> str:
        """Return what can be released after `text`."""
        self._held += text
        if not self._started:
            self._held = self._held.lstrip()
            self._started = bool(self._held)
        match = _UNDECIDED.search(self._held)
        decided = match.start() if match else len(self._held)
        ready, self._held = self._held[:decided], self._held[decided:]
        return _CITATION.sub(self._kept, ready)

    def finish(self) -> str:
        """Return the rest, without trailing blanks."""
        rest, self._held = self._held, ""
        return _CITATION.sub(self._kept, rest).rstrip()

    def _kept(self, match: re.Match[str]) -> str:
        numbers = [int(number) for number in match.group(1).split(",")]
        valid = [number for number in numbers if 1 <= number <= self._passages]
        self.cited.update(valid)
        if len(valid) == len(numbers):
            return match.group(0)
        blanks = match.group(0)[: match.group(0).index("[")]
        return f"{blanks}[{', '.join(map(str, valid))}]" if valid else ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A reply in the making: its chunks, the prompt it answers, the passages it may cite."""

    chunks: AsyncGenerator[Chunk]
    prompt: prompts.Prompt
    passages: tuple[Passage, ...]

    def cited_in(self, text: str) -> list[tuple[int, Passage]]:
        """Return the passages that `text` cites, by number."""
        numbers = {int(one) for marks in _CITATION.findall(text) for one in marks.split(",")}
        return [(n, self.passages[n - 1]) for n in sorted(numbers) if 1 <= n <= len(self.passages)]


class ChatModel:
    """A causal language model that answers in a conversation."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        today: Callable[[], datetime.date] = lambda: datetime.datetime.now(datetime.UTC).date(),
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._today = today
        self._render = self._choose_format()

    async def abort(self, request_id: str) -> None:
        """Stop a reply's computation; its chunks end with `cancelled`."""
        await self._engine.abort(request_id)

    def sampling_parameters(self, asked: Parameters) -> SamplingParameters:
        """Return what a request asked for, completed from the settings."""
        settings = self._settings

        def or_default(value: float | None, default: float) -> float:
            return default if value is None else value

        temperature = or_default(asked.temperature, settings.temperature)
        return SamplingParameters(
            temperature=0.0 if asked.do_sample is False else temperature,
            top_k=int(or_default(asked.top_k, settings.top_k)),
            top_p=or_default(asked.top_p, settings.top_p),
            max_new_tokens=int(or_default(asked.max_new_tokens, settings.max_new_tokens)),
            repetition_penalty=or_default(asked.repetition_penalty, settings.repetition_penalty),
            stop=(*prompts.STOP_WORDS, *(asked.stop or ())),
            seed=asked.seed,
        )

    def draft(
        self,
        question: str,
        *,
        history: Sequence[prompts.NumberedExchange],
        passages: Sequence[Passage],
        parameters: SamplingParameters,
        request_id: str,
        instructions: str = "",
    ) -> Draft:
        """Begin a reply.

        Args:
            instructions: further text of the preamble, such as a client's system message.

        Raises:
            InvalidRequest: the question and the new tokens do not fit the model's context.
        """
        context = self._engine.context_length
        budget = context - parameters.max_new_tokens
        if budget < 1:
            raise InvalidRequest(f"parameters.max_new_tokens: the model's context has {context} tokens")
        today = self._today() if self._settings.date_in_preamble else None
        preamble = " ".join(filter(None, (self._settings.preamble, prompts.neutralise(instructions))))
        try:
            prompt = prompts.fit_prompt(
                question,
                preamble=prompts.render_preamble(preamble, today),
                history=[turn for turn in history if turn.bot],
                passages=passages,
                budget=budget,
                render=self._render,
                count_tokens=self._engine.tokenizer.count,
            )
        except prompts.PromptTooLong as error:
            raise InvalidRequest(f"inputs: {error} (context {context}, new tokens asked for)") from error
        kept = tuple(passages[: prompt.passages])
        chunks = self._engine.generate(prompt.text, parameters, request_id)
        return Draft(_cleaned(chunks, CitationFilter(len(kept))), prompt, kept)

    def _choose_format(
        self,
    ) -> Callable[[str, str, Sequence[prompts.Exchange], Sequence[prompts.PassageText]], str]:
        """Return the renderer of the settings' prompt format."""
        tokenizer = self._engine.tokenizer
        chosen = self._settings.prompt_format
        if chosen == "auto":
            try:
                tokenizer.apply_chat_template([{"role": "user", "content": "?"}])
            except ValueError:
                chosen = "openchatkit"
            else:
                chosen = "chat_template"
        if chosen == "chat_template":
            return lambda question, preamble, history, passages: tokenizer.apply_chat_template(
                prompts.render_messages(question, preamble=preamble, history=history, passages=passages)
            )
        return lambda question, preamble, history, passages: prompts.render_prompt(
            question, preamble=preamble, history=history, passages=passages
        )


async def _cleaned(chunks: AsyncGenerator[Chunk], citations: CitationFilter) -> AsyncGenerator[Chunk]:
    """Yield the chunks with their text cleaned; closes `chunks` on every way out."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            text = citations.push(chunk.text)
            if chunk.finish_reason is not None:
                text += citations.finish()
            yield replace(chunk, text=text)
