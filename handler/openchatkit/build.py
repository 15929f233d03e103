"""The composition root: from settings to a running service.

The only place that knows every concrete class, and the only one with lazy imports: a process loads
PyTorch, boto3 or Faiss when its settings ask for them. Everything here blocks; a server calls it in
a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from openchatkit.chat import ChatModel
from openchatkit.invocations import Answering, Invocations, JudgingInvocations
from openchatkit.judging import JudgingService
from openchatkit.moderation.counts import Counts
from openchatkit.moderation.model import ModerationModel
from openchatkit.moderation.passages import PassageScreen
from openchatkit.moderation.policy import ModerationPolicy
from openchatkit.ports import Closing, ConversationStore, DomainGuard, Encoder, Engine, Moderator, Retriever
from openchatkit.service import OpenChatKitService
from openchatkit.settings import Settings, SettingsError
from openchatkit.turn import TurnRunner

if TYPE_CHECKING:
    from openchatkit.build_sources import BuiltSource
    from openchatkit.retrieval.document_source import DocumentSource
    from openchatkit.retrieval.encoder import SentenceEncoder


class Progress:
    """Hears what is being loaded. The default says nothing."""

    def step(self, text: str) -> None:
        """A step begins."""

    def documents(self, done: int, total: int) -> None:
        """`done` of `total` sentences have been embedded."""


@dataclass(frozen=True, slots=True)
class _Judge:
    moderator: Moderator
    closing: Sequence[Closing]


def build_answering(settings: Settings, progress: Progress | None = None) -> Answering:
    """Load what the settings' role asks for and return what a host serves; raises as `build_service`."""
    if settings.role == "chat":
        service = build_service(settings, progress)
        return Invocations(service, heartbeat_s=settings.heartbeat_s)
    progress = progress or Progress()
    progress.step("Loading the moderation")
    judge = build_moderator(settings, build_encoder(settings, progress))
    return JudgingInvocations(
        JudgingService(settings=settings, moderator=judge.moderator, closing=judge.closing)
    )


def build_service(settings: Settings, progress: Progress | None = None) -> OpenChatKitService:
    """Load everything that the settings ask for and return the service.

    Raises:
        SettingsError: a setting names something that is not there or cannot work.
        StoreUnavailable: the conversation store cannot be opened.
    """
    progress = progress or Progress()
    policy = ModerationPolicy.load(settings.moderation_policy)
    store = build_store(settings)
    progress.step(f"Loading the chat model {settings.model}")
    engine = build_engine(settings, settings.model, settings.revision)
    encoder = build_encoder(settings, progress)
    counts = Counts()
    judge = build_moderator(settings, encoder, counts)
    documents = build_documents(settings, encoder, progress)
    outside = build_outside_sources(settings, encoder, progress)
    retriever = build_retriever(settings, documents, outside)
    guard = build_guard(settings, encoder, documents)
    runner = TurnRunner(
        settings=settings,
        chat=ChatModel(engine, settings),
        moderator=judge.moderator,
        policy=policy,
        retriever=retriever,
        encoder=encoder if retriever is not None or guard is not None else None,
        guard=guard,
        passage_screen=build_passage_screen(settings, policy, judge.moderator, counts),
        counts=counts,
    )
    return OpenChatKitService(
        settings=settings,
        runner=runner,
        moderator=judge.moderator,
        store=store,
        closing=(engine, *judge.closing),
    )


def build_engine(settings: Settings, model: str, revision: str | None, *, judge: bool = False) -> Engine:
    """Return an engine for a directory or hub id; `judge`: it is for moderation."""
    if settings.engine == "vllm":
        return _build_vllm(settings, model, revision, judge=judge)
    from openchatkit.engines.transformers_engine import TransformersEngine

    return TransformersEngine.load(
        model,
        revision=revision,
        dtype=settings.dtype,
        device_map=settings.device_map,
        max_concurrent_requests=settings.max_concurrent_requests,
    )


def _build_vllm(settings: Settings, model: str, revision: str | None, *, judge: bool) -> Engine:
    if find_spec("vllm") is None:
        raise SettingsError("engine: vllm is not installed here")
    from openchatkit.engines.ending import end_process
    from openchatkit.engines.vllm_engine import VllmEngine, VllmOptions

    share = settings.gpu_memory_utilization
    if settings.role == "chat" and settings.moderation == "causal_lm":
        share = settings.moderation_gpu_memory if judge else share - settings.moderation_gpu_memory
    return VllmEngine.load(
        model,
        VllmOptions(
            revision=revision,
            dtype=settings.dtype,
            tensor_parallel_degree=settings.tensor_parallel_degree,
            memory_share=share,
            max_concurrent_requests=settings.max_concurrent_requests,
            prefix_caching=settings.prefix_caching,
            quantization=settings.moderation_quantization if judge else settings.quantization,
            # A judge is asked for likelihoods of short texts: none of these is for it.
            max_model_len=None if judge else settings.max_model_len,
            speculation=None if judge else settings.speculation,
            recorded_steps=judge and settings.moderation_recorded_steps,
        ),
        on_death=end_process,
    )


def build_store(settings: Settings) -> ConversationStore:
    """Return the conversation store."""
    if settings.store == "sqlite":
        from openchatkit.stores.sqlite import SqliteStore

        return SqliteStore(settings.sqlite_path, retention_days=settings.retention_days)
    import boto3

    from openchatkit.stores.dynamodb import DynamoDbStore, client_config

    client = boto3.client("dynamodb", config=client_config())
    store = DynamoDbStore(client, table_name=settings.table_name, retention_days=settings.retention_days)
    if settings.create_table:
        store.create_table_if_missing()
    return store


def build_encoder(settings: Settings, progress: Progress) -> SentenceEncoder | None:
    """Return the sentence encoder, None where nothing asks for one."""
    asked = (settings.documents, settings.sources, settings.domain_description)
    if not any(asked) and settings.moderation != "embedding":
        return None
    from openchatkit.retrieval.encoder import SentenceEncoder, bundled_minilm_directory

    progress.step("Loading the sentence encoder")
    return SentenceEncoder.load(bundled_minilm_directory())


def build_moderator(settings: Settings, encoder: Encoder | None, counts: Counts | None = None) -> _Judge:
    """Return the judge, guarded so that it fails closed, and what it runs on."""
    closing: tuple[Closing, ...] = ()
    judge: Moderator
    if settings.moderation == "causal_lm":
        from openchatkit.moderation.label_scorer import LabelScorer
        from openchatkit.weights import local_weights

        assert settings.moderation_model is not None
        model = local_weights(settings.moderation_model)
        engine = build_engine(settings, model, settings.moderation_revision, judge=True)
        judge = LabelScorer(engine)
        closing = (engine,)
    elif settings.moderation == "remote":
        from openchatkit.moderation.remote import RemoteModerator, runtime_client

        assert settings.moderation_endpoint is not None
        remote = RemoteModerator(
            runtime_client(settings.moderation_timeout_s),
            endpoint_name=settings.moderation_endpoint,
            variant=settings.moderation_variant,
        )
        judge, closing = remote, (remote,)
    else:
        from openchatkit.moderation.embedding_classifier import EmbeddingClassifier

        assert encoder is not None
        judge = EmbeddingClassifier.load(encoder)
    guarded = ModerationModel(judge, timeout_s=settings.moderation_timeout_s, counts=counts)
    return _Judge(guarded, closing)


def build_passage_screen(
    settings: Settings, policy: ModerationPolicy, moderator: Moderator, counts: Counts
) -> PassageScreen | None:
    """Return what keeps poisoned passages from the prompt, None where it is off."""
    if settings.moderation_passages == "off":
        return None
    judge = moderator if settings.moderation_passages == "judge" else None
    return PassageScreen(policy, counts, moderator=judge)


def build_documents(
    settings: Settings, encoder: SentenceEncoder | None, progress: Progress
) -> list[DocumentSource]:
    """Return the sources over the user's own documents: each index, and one for all loose files."""
    if not settings.documents:
        return []
    from openchatkit.retrieval.document_source import DocumentSource
    from openchatkit.retrieval.manifest import IndexUnusable, is_index
    from openchatkit.retrieval.passages import Window

    assert encoder is not None
    window = Window(sentences=settings.documents_window)
    for path in settings.documents:
        if not path.exists():
            raise SettingsError(f"documents: {path} does not exist")
    progress.step("Reading the documents")
    indexes = [path for path in settings.documents if is_index(path)]
    loose = [path for path in settings.documents if path not in indexes]
    sources = []
    if loose:
        source = DocumentSource.build(
            loose,
            encoder=encoder,
            cache=settings.documents_cache,
            progress=progress.documents,
            window=window,
        )
        sources.append(source)
    for path in indexes:
        try:
            source = DocumentSource.open(path, encoder=encoder, window=window)
        except IndexUnusable as error:
            raise SettingsError(f"documents: {path}: {error}") from None
        # Two indexes of one name stay apart by their places in the settings.
        names, number = {other.name for other in sources}, 2
        while source.name in names:
            source.name = f"{source.name.rpartition('-')[0] if number > 2 else source.name}-{number}"
            number += 1
        sources.append(source)
    return sources


def build_outside_sources(
    settings: Settings, encoder: SentenceEncoder | None, progress: Progress
) -> Sequence[BuiltSource]:
    """Return the sources of the sources file: Wikipedia, the web, interfaces, feeds."""
    if settings.sources is None:
        return ()
    from openchatkit.build_sources import build_sources
    from openchatkit.retrieval.sources.config import read_sources

    assert encoder is not None
    return build_sources(read_sources(settings.sources), encoder, progress.step)


def build_retriever(
    settings: Settings, documents: Sequence[DocumentSource], outside: Sequence[BuiltSource] = ()
) -> Retriever | None:
    """Return the retrieval system over the configured sources, None where there are none."""
    if not documents and not outside:
        return None
    from openchatkit.retrieval.system import RetrievalSystem

    reranker = None
    if settings.reranker is not None:
        from openchatkit.retrieval.reranker import CrossEncoder

        reranker = CrossEncoder.load(settings.reranker)
    names = [source.name for source in (*documents, *(built.source for built in outside))]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"sources: {min(twice)} is the name of a source over documents already")
    return RetrievalSystem(
        [*documents, *(built.source for built in outside)],
        timeout_s=settings.retrieval_timeout_s,
        budgets={built.source.name: built.timeout_s for built in outside if built.timeout_s is not None},
        min_score=settings.retrieval_min_score,
        reranker=reranker,
        reranked=settings.reranker_passages,
        reranker_min_score=settings.reranker_min_score,
    )


def build_guard(
    settings: Settings, encoder: SentenceEncoder | None, documents: Sequence[DocumentSource]
) -> DomainGuard | None:
    """Return the out-of-domain guard, None where it is off."""
    if settings.domain_description is None and not (settings.domain_from_documents and documents):
        return None
    from openchatkit.domain import EmbeddingDomainGuard

    assert encoder is not None
    return EmbeddingDomainGuard(
        encoder,
        description=settings.domain_description,
        threshold=settings.domain_threshold,
        reply=settings.domain_reply,
        nearest=(lambda vector: max(source.similarity(vector) for source in documents))
        if documents
        else None,
    )
