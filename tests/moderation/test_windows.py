"""Nothing that the judge blocks is ever released, whatever the chunks, windows and delays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchatkit.errors import EngineFailed, ModerationUnavailable
from openchatkit.moderation import windows
from openchatkit.moderation.labels import LABELS, verdict_from_scores
from openchatkit.moderation.policy import Decision
from openchatkit.moderation.windows import (
    CONTEXT_CHARACTERS,
    OVERLAP_CHARACTERS,
    Mode,
    Released,
    moderated,
    views,
)
from openchatkit.ports import Chunk

MARKER = "BLOCKME"
CANARY = "canary-6f1d"


def decision(label: str, *, blocked: bool = False) -> Decision:
    rest = 0.1 / (len(LABELS) - 1)
    verdict = verdict_from_scores({name: 0.9 if name == label else rest for name in LABELS})
    action: Literal["allow", "override"] = "override" if blocked else "allow"
    return Decision(action, "no" if blocked else "", action, verdict)


@dataclass
class Source:
    """A source that counts how it was left. `pauses[i]` loop rounds pass before chunk i."""

    pieces: Sequence[str]
    pauses: Sequence[int] = ()
    finish: Literal["stop", "length", "cancelled"] | None = "stop"
    failure: Exception | None = None
    given: int = 0
    closed: bool = False

    async def chunks(self) -> AsyncGenerator[Chunk]:
        try:
            for place, piece in enumerate(self.pieces):
                for _ in range(self.pauses[place % len(self.pauses)] if self.pauses else 1):
                    await asyncio.sleep(0)
                self.given += 1
                yield Chunk(piece, 1)
            if self.failure is not None:
                raise self.failure
            if self.finish is not None:
                yield Chunk("", 0, self.finish)
        finally:
            self.closed = True


@dataclass
class MarkerJudge:
    """Blocks every text that holds its marker, after some rounds of the loop."""

    delays: Sequence[int] = (0,)
    failing: Callable[[int], bool] = lambda call: False
    marker: str = MARKER
    seen: list[str] = field(default_factory=list)

    async def __call__(self, text: str) -> Decision:
        call = len(self.seen)
        self.seen.append(text)
        for _ in range(self.delays[call % len(self.delays)]):
            await asyncio.sleep(0)
        if self.failing(call):
            raise RuntimeError(f"{CANARY}: {text}")
        return decision("needs intervention", blocked=True) if self.marker in text else decision("casual")


async def collect(
    source: Source,
    judge: MarkerJudge,
    *,
    mode: Mode = "stream",
    window: int = 6,
    first: int = 3,
    context: int = CONTEXT_CHARACTERS,
) -> list[Released]:
    stream = moderated(
        source.chunks(),
        judge,
        mode=mode,
        window_tokens=window,
        first_window_tokens=first,
        context_characters=context,
    )
    return [item async for item in stream]


def run(source: Source, judge: MarkerJudge, **options: object) -> tuple[list[Released], Exception | None]:
    """Collect in a fresh loop; what was released before an error comes with it."""
    released: list[Released] = []

    async def main() -> Exception | None:
        before = asyncio.all_tasks()
        try:
            async with contextlib.aclosing(moderated(source.chunks(), judge, **options)) as stream:  # type: ignore[arg-type]
                async for item in stream:
                    released.append(item)
        except (ModerationUnavailable, EngineFailed) as error:
            return error
        finally:
            assert asyncio.all_tasks() == before
        return None

    async def bounded() -> Exception | None:
        async with asyncio.timeout(60):
            return await main()

    return released, asyncio.run(bounded())


def words(text: str) -> list[str]:
    return [word + " " for word in text.split(" ")]


pieces = st.lists(
    st.one_of(
        st.text(alphabet="abB .!?\n。LOCKME", max_size=8),
        st.sampled_from([MARKER, "BLOCK", "ME", "BLO", "CKME", f" {MARKER}. ", "Fine. ", "word ", "x" * 90]),
    ),
    max_size=40,
)


LONGEST_PHRASE = 60
surroundings = st.text(
    alphabet=st.one_of(st.sampled_from(" .!?\n。ab"), st.characters(codec="utf-8")), max_size=300
)
blocked_phrases = (
    st.one_of(
        st.text(alphabet=st.characters(codec="utf-8"), min_size=2, max_size=LONGEST_PHRASE),
        st.sampled_from(
            ["Mix the two. Then wait!", "毒を飲む。今すぐ。", "он умрёт сегодня", "a\u0301\u200bb 🙂\u200d🙂"]
        ),
    )
    .map(str.strip)
    .filter(bool)
)


class TestProperty:
    @settings(max_examples=300, deadline=None)
    @given(
        parts=pieces,
        pauses=st.lists(st.integers(0, 4), min_size=1, max_size=5),
        delays=st.lists(st.integers(0, 12), min_size=1, max_size=5),
        window=st.integers(1, 20),
        first=st.integers(1, 20),
        context=st.integers(20, 300),
        mode=st.sampled_from(["stream", "final"]),
        failing_call=st.one_of(st.none(), st.integers(0, 6)),
        source_fails=st.booleans(),
    )
    def test_what_the_policy_blocks_is_never_released(
        self,
        parts: list[str],
        pauses: list[int],
        delays: list[int],
        window: int,
        first: int,
        context: int,
        mode: Mode,
        failing_call: int | None,
        source_fails: bool,
    ) -> None:
        source = Source(parts, pauses, failure=EngineFailed("gone") if source_fails else None)
        judge = MarkerJudge(delays, failing=lambda call: call == failing_call)
        released, error = run(
            source,
            judge,
            mode=mode,
            window_tokens=window,
            first_window_tokens=first,
            context_characters=context,
        )
        whole, shown = "".join(parts), "".join(item.text for item in released)
        assert whole.startswith(shown)
        assert MARKER not in shown
        assert source.closed
        assert all(item.finish_reason is None for item in released[:-1])
        if error is not None:
            assert isinstance(error, ModerationUnavailable | EngineFailed)
            assert CANARY not in str(error)
            return
        end = released[-1]
        assert end.text == ""
        assert end.finish_reason == ("moderated" if MARKER in whole else "stop")
        if end.finish_reason == "stop":
            assert shown == whole
        else:
            assert end.decision is not None
            assert end.decision.blocked

    @settings(max_examples=200, deadline=None)
    @given(
        phrase=blocked_phrases,
        before=surroundings,
        after=surroundings,
        sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12),
        delays=st.lists(st.integers(0, 12), min_size=1, max_size=5),
        window=st.integers(1, 12),
        context=st.integers(2 * LONGEST_PHRASE, 400),
    )
    def test_a_phrase_that_runs_over_windows_never_leaves_whole(
        self,
        phrase: str,
        before: str,
        after: str,
        sizes: list[int],
        delays: list[int],
        window: int,
        context: int,
    ) -> None:
        """Of any characters, over sentences' ends, in chunks of any size: one view holds all of it."""
        whole, start = before + phrase + after, 0
        parts: list[str] = []
        while start < len(whole):
            size = sizes[len(parts) % len(sizes)]
            parts.append(whole[start : start + size])
            start += size
        judge = MarkerJudge(delays, marker=phrase)
        released, error = run(
            Source(parts), judge, window_tokens=window, first_window_tokens=window, context_characters=context
        )
        assert error is None
        shown = "".join(item.text for item in released)
        assert phrase not in shown
        assert whole.startswith(shown)
        assert released[-1].finish_reason == "moderated"

    @settings(max_examples=100, deadline=None)
    @given(
        parts=pieces,
        leave_after=st.integers(0, 6),
        delays=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    )
    def test_a_consumer_may_leave_at_any_time(
        self, parts: list[str], leave_after: int, delays: list[int]
    ) -> None:
        source = Source(parts)

        async def main() -> None:
            before = asyncio.all_tasks()
            stream = moderated(source.chunks(), MarkerJudge(delays), window_tokens=4)
            async with asyncio.timeout(60):
                async with contextlib.aclosing(stream):
                    for _ in range(leave_after):
                        if await anext(stream, None) is None:
                            break
            assert asyncio.all_tasks() == before

        asyncio.run(main())
        assert source.closed or leave_after == 0


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="abc \n.", max_size=900),
    cuts=st.tuples(st.integers(0, 900), st.integers(0, 900)),
    context=st.integers(20, 400),
)
def test_views_cover_the_window_and_what_stands_around_its_border(
    text: str, cuts: tuple[int, int], context: int
) -> None:
    start, end = sorted(min(cut, len(text)) for cut in cuts)
    found = views(text, start, end, context)
    overlap = min(OVERLAP_CHARACTERS, context // 2)
    for place in range(max(0, start - overlap), max(0, end - overlap) + 1):
        assert any(text[place : min(place + overlap, end)] in view for view in found)
    assert all(len(view) <= context + 40 for view in found)
    assert found[-1] == "" or text[:end].endswith(found[-1])


def test_views_of_a_long_reply_begin_at_few_places() -> None:
    text = "word " * 1000
    starts = [end - len(view) for end in range(100, 5000, 100) for view in views(text, end - 100, end)]
    assert len(starts) == 49
    assert len(set(starts)) == 9


class TestStream:
    async def test_the_first_window_is_short(self) -> None:
        source, judge = Source(words("one two three four five six seven eight nine ten")), MarkerJudge()
        released = await collect(source, judge, window=6, first=3)
        assert released[0].text == "one two three "
        assert judge.seen[0] == "one two three "

    async def test_a_sentence_ends_a_window(self) -> None:
        sentence = f"A whole sentence of {'very ' * 20}many words."
        source = Source(words(f"{sentence} And the next one goes on for a while here"))
        released = await collect(source, MarkerJudge(), window=50, first=50)
        assert released[0].text == sentence

    async def test_numbers_and_very_short_sentences_do_not(self) -> None:
        text = "Yes. It grew by 3.5 per cent to 1.204 billion."
        released = await collect(Source(words(text)), MarkerJudge(), window=50, first=50)
        assert released[0].text.strip() == text

    async def test_short_sentences_are_judged_together(self) -> None:
        source, judge = Source(words("It rose by a tenth in the year. " * 20)), MarkerJudge()
        released = await collect(source, judge, window=50, first=50)
        assert all(len(item.text) >= 100 for item in released[:-2])
        assert len(judge.seen) <= 6

    async def test_a_window_keeps_its_last_word_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(windows, "READING_PACE", 1e9)  # or the second window would hold the rest
        source = Source(["in", "vest", "ment ", "port", "foli", "o ", "the", "ory"])
        released = await collect(source, MarkerJudge(), window=4, first=4)
        assert [item.text for item in released] == ["investment ", "portfolio ", "theory", ""]

    async def test_a_text_without_blanks_is_released_too(self) -> None:
        source = Source(["あ", "い", "う"] * 10)
        released = await collect(source, MarkerJudge(), window=4, first=2)
        assert released[0].text == "あい"
        assert "".join(item.text for item in released) == "あいう" * 10

    async def test_the_judge_sees_the_reply_before_the_window(self) -> None:
        judge = MarkerJudge()
        await collect(Source(words("one two three four five six")), judge, window=3, first=3)
        assert judge.seen == ["one two three ", "one two three four five six "]

    async def test_the_next_window_is_generated_while_one_is_judged(self) -> None:
        source, seen = Source(words("w" * 3 + " " + "x " * 30)), []

        async def judge(text: str) -> Decision:
            before = source.given
            for _ in range(20):
                await asyncio.sleep(0)
            seen.append(source.given - before)
            return decision("casual")

        async for _ in moderated(source.chunks(), judge, window_tokens=4, first_window_tokens=2):
            pass
        assert seen[0] >= 15

    async def test_the_rest_is_judged_beside_the_window_before_it(self) -> None:
        asked: list[str] = []
        both = asyncio.Event()

        async def judge(text: str) -> Decision:
            asked.append(text)
            if len(asked) == 2:
                both.set()
            await asyncio.wait_for(both.wait(), 5)  # the first verdict comes when the second is asked for
            return decision("casual")

        source = Source(words("one two three four five six seven"))
        released = [item async for item in moderated(source.chunks(), judge, first_window_tokens=3)]
        assert [item.text for item in released] == ["one two three ", "four five six seven ", ""]
        assert asked == ["one two three ", "one two three four five six seven "]

    @pytest.mark.parametrize("first_blocked", [True, False])
    async def test_of_two_judgements_the_first_that_blocks_decides(self, first_blocked: bool) -> None:
        async def judge(text: str) -> Decision:
            await asyncio.sleep(0.02)
            whole = text.endswith("seven ")
            return decision("needs intervention" if whole else "casual", blocked=whole or first_blocked)

        source = Source(words("one two three four five six seven"))
        released = [item async for item in moderated(source.chunks(), judge, first_window_tokens=3)]
        assert "".join(item.text for item in released) == ("" if first_blocked else "one two three ")
        assert released[-1].finish_reason == "moderated"
        assert released[-1].verdict is not None
        assert released[-1].verdict.label == ("casual" if first_blocked else "needs intervention")

    async def test_nobody_is_asked_for_a_consumer_that_left(self) -> None:
        running = 0

        async def judge(text: str) -> Decision:
            nonlocal running
            running += 1
            try:
                await asyncio.Event().wait()
            finally:
                running -= 1
            raise AssertionError("never reached")

        stream = moderated(
            Source(words("one two three four five six seven")).chunks(), judge, first_window_tokens=3
        )
        reading = asyncio.ensure_future(anext(stream))
        while running < 2:
            await asyncio.sleep(0.001)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert running == 0

    async def test_a_slow_judge_makes_larger_windows_not_a_queue(self) -> None:
        judge = MarkerJudge(delays=(200,))
        released = await collect(Source(words("x " * 200)), judge, window=4, first=4)
        assert len(judge.seen) <= 4
        assert "".join(item.text for item in released).split() == ["x"] * 200

    @pytest.mark.parametrize("ending", ["", "."])
    async def test_windows_grow_while_the_reader_has_text_left(self, ending: str) -> None:
        judge = MarkerJudge()
        word = "word" * 7 + ending + " "
        released = await collect(Source([word] * 300), judge, window=16, first=4)
        sizes = [item.text.count("w") // 7 for item in released]
        assert sum(sizes) == 300
        # 4, 16, then thrice what has been released, four windows' length at most; sentences at half of it.
        most = [4, 16, 60, 64, 64] if not ending else [4, 8, 18, 32, 32, 32]
        assert sizes[: len(most)] == pytest.approx(most, abs=8)

    async def test_a_reader_who_waits_gets_a_window_as_soon_as_it_is_full(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(windows, "READING_PACE", 1e6)

        async def chunks() -> AsyncGenerator[Chunk]:
            for _ in range(40):
                await asyncio.sleep(0.001)
                yield Chunk("word ", 1)
            yield Chunk("", 0, "stop")

        released = [
            item async for item in moderated(chunks(), MarkerJudge(), window_tokens=8, first_window_tokens=4)
        ]
        assert [item.text.count("w") for item in released] == [4, 8, 8, 8, 8, 4, 0]

    async def test_a_window_that_waits_for_the_reader_is_judged_when_he_is_done(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(windows, "READING_PACE", 4 / 0.2)
        more = asyncio.Event()

        async def chunks() -> AsyncGenerator[Chunk]:
            for _ in range(12):
                await asyncio.sleep(0.002)
                yield Chunk("word ", 1)
            await more.wait()
            yield Chunk("", 0, "stop")

        async with contextlib.aclosing(
            moderated(chunks(), MarkerJudge(), window_tokens=8, first_window_tokens=4)
        ) as stream:
            assert (await anext(stream)).text == "word " * 4
            began = time.monotonic()
            assert (await asyncio.wait_for(anext(stream), 5)).text == "word " * 8
            assert time.monotonic() - began < 1  # nothing more came: the reader's pace alone let it go
            more.set()
            assert (await anext(stream)).finish_reason == "stop"

    async def test_a_block_stops_the_source_at_once(self) -> None:
        source, judge = Source(words(f"fine so far {MARKER} and much more " + "x " * 500)), MarkerJudge()
        released = await collect(source, judge, window=4, first=2)
        assert released[-1].finish_reason == "moderated"
        assert released[-1].decision is not None
        assert released[-1].decision.reply == "no"
        assert source.closed
        assert source.given < 20
        assert released[-1].tokens == source.given

    async def test_a_word_split_by_a_window_border_is_seen_whole(self) -> None:
        source = Source(["a", "b", "c", "BL", "OC", "KM", "E", "d"])
        released = await collect(source, MarkerJudge(), window=1, first=1)
        assert released[-1].finish_reason == "moderated"
        assert MARKER not in "".join(item.text for item in released)

    async def test_one_huge_chunk_is_judged_in_overlapping_views(self) -> None:
        judge = MarkerJudge()
        await collect(Source(["word " * 700]), judge)
        assert len(judge.seen) >= 4
        assert max(map(len, judge.seen)) <= CONTEXT_CHARACTERS + 40

    async def test_the_last_item_carries_the_worst_verdict(self) -> None:
        labels = iter(["casual", "needs caution", "possibly needs caution", "casual", "casual"])

        async def judge(text: str) -> Decision:
            return decision(next(labels))

        items = [
            item
            async for item in moderated(Source(words("a b c d e f g h")).chunks(), judge, window_tokens=2)
        ]
        assert items[-1].verdict is not None
        assert items[-1].verdict.label == "needs caution"
        assert items[0].verdict is None

    async def test_a_cancelled_reply_is_released_as_far_as_it_came(self) -> None:
        released = await collect(
            Source(words("as far as it came"), finish="cancelled"), MarkerJudge(), window=50
        )
        assert "".join(item.text for item in released) == "as far as it came "
        assert released[-1].finish_reason == "cancelled"

    async def test_an_empty_reply_needs_no_judge(self) -> None:
        judge = MarkerJudge()
        released = await collect(Source([]), judge)
        assert released == [Released("", 0, "stop", None)]
        assert judge.seen == []


class TestFailures:
    async def test_a_failing_judge_ends_the_stream_and_is_not_quoted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Source(words(f"{CANARY} one two three four five six"))
        stream = moderated(
            source.chunks(),
            MarkerJudge(failing=lambda call: call == 1),
            window_tokens=3,
            first_window_tokens=2,
        )
        with caplog.at_level(logging.DEBUG):
            assert (await anext(stream)).text == f"{CANARY} one "
            with pytest.raises(ModerationUnavailable) as raised:
                await anext(stream)
        assert await anext(stream, None) is None
        assert source.closed
        assert CANARY not in str(raised.value)
        assert raised.value.__cause__ is None
        assert CANARY not in caplog.text

    async def test_the_engines_error_passes(self) -> None:
        source = Source(words("some words here"), failure=EngineFailed("the model failed"))
        with pytest.raises(EngineFailed, match="the model failed"):
            await collect(source, MarkerJudge(), window=50)
        assert source.closed

    async def test_a_source_that_breaks_off_is_an_error(self) -> None:
        with pytest.raises(EngineFailed):
            await collect(Source(words("some words"), finish=None), MarkerJudge())

    async def test_a_cancelled_consumer_leaves_nothing_running(self) -> None:
        source, judging = Source(words("x " * 50)), asyncio.Event()

        async def judge(text: str) -> Decision:
            judging.set()
            await asyncio.Event().wait()
            raise AssertionError("never reached")

        async def consume() -> None:
            async with contextlib.aclosing(moderated(source.chunks(), judge)) as stream:
                async for _ in stream:
                    raise AssertionError("nothing was cleared")

        task = asyncio.create_task(consume())
        await judging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.closed
        assert asyncio.all_tasks() == {asyncio.current_task()}


class TestModes:
    async def test_final_judges_once_at_the_end(self) -> None:
        judge = MarkerJudge()
        released = await collect(
            Source(words("One sentence. Another sentence. A third.")), judge, mode="final"
        )
        assert judge.seen == ["One sentence. Another sentence. A third. "]
        assert [item.finish_reason for item in released] == [None, "stop"]

    async def test_final_releases_nothing_of_a_blocked_reply(self) -> None:
        released = await collect(Source(words(f"One sentence. {MARKER}")), MarkerJudge(), mode="final")
        assert [item.text for item in released] == [""]
        assert released[0].finish_reason == "moderated"

    async def test_off_passes_everything_through_unjudged(self) -> None:
        judge, source = MarkerJudge(), Source([MARKER, " and ", "more"])
        released = await collect(source, judge, mode="off")
        assert [item.text for item in released] == [MARKER, " and ", "more", ""]
        assert released[-1].decision is None
        assert judge.seen == []
        assert source.closed
