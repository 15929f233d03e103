"""The whole turn: `OpenChatKitService` as `build.py` composes it, over engines that are given.

Input and output moderation by label scoring, retrieval over a million vectors, SQLite. Two things
differ from production, since random weights judge at random: the policy acts on no verdict (it is
a dry run, every judgement is made), and passages are found by random vectors.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Literal, cast

import faiss
import numpy as np
from transformers import BertConfig, BertModel

from bench.gpu.engines import TEMPERATURE, TOP_K
from bench.gpu.load import Sample
from bench.gpu.shapes import Texts, tokenizer_of
from openchatkit import wire
from openchatkit.chat import ChatModel
from openchatkit.moderation.label_scorer import LabelScorer
from openchatkit.moderation.model import ModerationModel
from openchatkit.moderation.policy import ModerationPolicy
from openchatkit.ports import Embedding, Engine, Passage, Query
from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory
from openchatkit.retrieval.system import RetrievalSystem
from openchatkit.service import OpenChatKitService
from openchatkit.settings import Settings
from openchatkit.stores.sqlite import SqliteStore
from openchatkit.turn import TurnRunner

DIMENSION = 384
QUESTION_WORDS = 20
PASSAGE_WORDS = 30
"""Of each passage, where nothing else is asked for."""
PROBES = 16
ENCODER_TOKENS = 256
CALIBRATIONS = 3
MODERATION_TIMEOUT_S = 120
"""A bench shows how late a judge is; it does not stop for it."""


class RandomLibrary:
    """A `Source` of random unit vectors in an inverted file; a passage's text follows from its row."""

    name = "library"

    def __init__(self, vectors: int) -> None:
        self.passage_words = PASSAGE_WORDS
        random = np.random.default_rng(0)
        lists = max(1, int(vectors**0.5))
        self._index = faiss.index_factory(DIMENSION, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        chunk = min(vectors, 200_000)
        for begin in range(0, vectors, chunk):
            rows = random.standard_normal((min(chunk, vectors - begin), DIMENSION), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            if not self._index.is_trained:
                self._index.train(rows[: 40 * lists])
            self._index.add(rows)
        faiss.extract_index_ivf(self._index).nprobe = min(PROBES, lists)

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return the nearest rows' passages."""
        assert query.embedding is not None
        scores, rows = await asyncio.to_thread(self._index.search, query.embedding.reshape(1, -1), k)
        return [self._passage(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True)]

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a row's passage."""
        return self._passage(int(passage_id), 0.0)

    def _passage(self, row: int, score: float) -> Passage:
        texts = Texts(row)
        return Passage(str(row), self.name, f"Report {row}", texts.words(self.passage_words), score)


def minilm(vocabulary: int) -> SentenceEncoder:
    """Return the sentence encoder; where it is not installed one of random weights and the same layers."""
    try:
        return SentenceEncoder.load(bundled_minilm_directory())
    except FileNotFoundError:
        tokenizer = copy.deepcopy(tokenizer_of(vocabulary))
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
        config = BertConfig(
            vocab_size=vocabulary, hidden_size=DIMENSION, num_hidden_layers=6, num_attention_heads=12,
            intermediate_size=4 * DIMENSION,
        )  # fmt: skip
        model = BertModel(config)
        model.train(False)
        return SentenceEncoder(model, tokenizer, max_tokens=ENCODER_TOKENS)


class TimedScores:
    """The judge's engine as `LabelScorer` uses it, with the seconds of each of its scores."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds: list[float] = []

    async def score(self, prompt: str, choices: Sequence[str]) -> list[float]:
        """Score, and note how long it took."""
        began = time.perf_counter()
        try:
            return await self.engine.score(prompt, choices)
        finally:
            self.seconds.append(time.perf_counter() - began)


class WholeTurns:
    """The chatbot, and clients that ask it questions."""

    def __init__(
        self,
        service: OpenChatKitService,
        encoder: SentenceEncoder,
        judge: TimedScores,
        library: RandomLibrary,
    ) -> None:
        self.service = service
        self.encoder = encoder
        self.judge = judge
        self.judged = True
        """Whether questions and replies are judged."""
        self._library = library

    async def fit(self, prompt_tokens: int | None) -> None:
        """Make passages so long that prompts have so many tokens; None: `PASSAGE_WORDS` each."""
        if prompt_tokens is None:
            self._library.passage_words = PASSAGE_WORDS
            return
        few, many = max(1, prompt_tokens // 16), max(2, prompt_tokens // 5)
        tokens_of = {}
        for words in (few, many):
            self._library.passage_words = words
            samples = [await self.ask(-1 - n, new_tokens=1) for n in range(CALIBRATIONS)]
            tokens_of[words] = statistics.mean(sample.prompt_tokens for sample in samples)
        each = (tokens_of[many] - tokens_of[few]) / (many - few)
        fitted = round(few + (prompt_tokens - tokens_of[few]) / each)
        self._library.passage_words = max(1, fitted)

    async def ask(self, number: int, *, new_tokens: int | None = None) -> Sample:
        """Ask one question."""
        sample, _ = await self.turn(Texts(number).words(QUESTION_WORDS), None, new_tokens)
        return sample

    async def turn(
        self, question: str, session_id: str | None, new_tokens: int | None = None
    ) -> tuple[Sample, str | None]:
        """Ask a question, in a session where there is one; returns the session too."""
        parameters = wire.Parameters(temperature=TEMPERATURE, top_k=TOP_K, max_new_tokens=new_tokens)
        request = wire.ChatRequest(
            inputs=question,
            session_id=session_id,
            parameters=parameters,
            moderation=wire.ModerationOptions(input=self.judged, output=self.judged),
            stream=True,
        )
        began = time.perf_counter()
        began_turn = text_at = 0.0
        async with contextlib.aclosing(self.service.stream(request)) as events:
            async for event in events:
                if isinstance(event, wire.Started):
                    began_turn = time.perf_counter() - began
                if isinstance(event, str) and event:
                    text_at = text_at or time.perf_counter() - began
                if isinstance(event, wire.Reply):
                    total = time.perf_counter() - began
                    details = event.details
                    usage = details.usage
                    sample = Sample(
                        began_turn + (details.timings.first_token or total),
                        text_at or total,
                        total,
                        usage.completion_tokens,
                        usage.prompt_tokens,
                    )
                    return sample, details.session_id
        raise RuntimeError("a turn ended without a reply")


@contextlib.asynccontextmanager
async def whole_turns(
    chat: Engine,
    judge: Engine,
    folder: Path,
    library: RandomLibrary,
    encoder: SentenceEncoder,
    reply_tokens: int,
    moderation_input: Literal["before", "beside"],
) -> AsyncGenerator[WholeTurns, None]:
    """Compose the chatbot over two engines, which stay the caller's."""
    settings = Settings(
        model="random weights",
        sqlite_path=folder / "conversations.sqlite",
        retrieval_min_score=-1,
        max_concurrent_turns=1024,
        max_new_tokens=reply_tokens,
        prompt_format="openchatkit",
        moderation_timeout_s=MODERATION_TIMEOUT_S,
        moderation_input=moderation_input,
        moderation_may_be_disabled=True,
    )
    timed = TimedScores(judge)
    scorer = LabelScorer(cast("Engine", timed))
    moderator = ModerationModel(scorer, timeout_s=settings.moderation_timeout_s)
    runner = TurnRunner(
        settings=settings,
        chat=ChatModel(chat, settings),
        moderator=moderator,
        policy=ModerationPolicy.load(None).model_copy(update={"dry_run": True}),
        retriever=RetrievalSystem(
            [library], timeout_s=settings.retrieval_timeout_s, min_score=settings.retrieval_min_score
        ),
        encoder=encoder,
        guard=None,
    )
    store = SqliteStore(settings.sqlite_path, retention_days=None)
    service = OpenChatKitService(settings=settings, runner=runner, moderator=moderator, store=store)
    try:
        yield WholeTurns(service, encoder, timed, library)
    finally:
        await service.close()


def query_cost(encoder: SentenceEncoder, library: RandomLibrary) -> tuple[float, float]:
    """Return the seconds of one query's embedding and of one search, medians of some."""
    encode, search = [], []
    for number in range(20):
        began = time.perf_counter()
        vector: Embedding = encoder.encode([Texts(number).words(20)])
        encode.append(time.perf_counter() - began)
        began = time.perf_counter()
        asyncio.run(library.search(Query("", vector[0]), 3))
        search.append(time.perf_counter() - began)
    return sorted(encode)[10], sorted(search)[10]
