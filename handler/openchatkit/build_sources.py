"""The composition root's part for sources outside: from the sources file to running sources.

Imported by `build` where the settings name such a file: an endpoint without the web loads none of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openchatkit.origins import OriginUnusable, parse_origin
from openchatkit.ports import Source
from openchatkit.retrieval.encoder import SentenceEncoder
from openchatkit.retrieval.live import LiveIndexSource, parse_place
from openchatkit.retrieval.manifest import IndexUnusable
from openchatkit.retrieval.sentence_table import TableUnusable
from openchatkit.retrieval.sources.config import (
    AnyEntry,
    FeedEntry,
    HttpEntry,
    IndexEntry,
    SourcesFile,
    WebEntry,
    WikipediaEntry,
)
from openchatkit.retrieval.sources.feed import FeedSource
from openchatkit.retrieval.sources.fetching import FetchPolicy, SafeFetcher
from openchatkit.retrieval.sources.http_api import Fields, HttpApi, HttpApiSource
from openchatkit.retrieval.sources.results import PassageMaker, Rescored
from openchatkit.retrieval.sources.web_search import BraveSearch, SearchEngine, SearxngSearch, WebSource
from openchatkit.retrieval.wikipedia import WikipediaIndex, WikipediaSource
from openchatkit.retrieval.wikipedia_prepare import prepare_wikipedia
from openchatkit.settings import SettingsError
from openchatkit.weights import local_weights

AWS = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
DEFAULT_TIMEOUT_S = 10.0
"""Of one fetch by a source that has no time budget of its own; its query's is the system's."""


@dataclass(frozen=True, slots=True)
class BuiltSource:
    """A source and its own time budget, None where it has none."""

    source: Source
    timeout_s: float | None


def build_sources(
    file: SourcesFile, encoder: SentenceEncoder, step: Callable[[str], None]
) -> list[BuiltSource]:
    """Return the sources of a file, ready to be asked. Blocking: Wikipedia may have to be downloaded.

    Args:
        file: what to build.
        encoder: embeds the questions; scores passages on the scale of the user's own documents.
        step: hears what is being done.

    Raises:
        SettingsError: a key, an index or an encoder is not there, or does not fit.
    """
    built = []
    for entry in file.sources:
        step(f"Preparing the source {entry.name}")
        built.append(BuiltSource(_build(entry, file, encoder), entry.timeout_s))
    return built


def _build(entry: AnyEntry, file: SourcesFile, encoder: SentenceEncoder) -> Source:
    if isinstance(entry, IndexEntry):
        try:
            place = parse_place(entry.location)
            return LiveIndexSource.open(place, encoder=encoder, name=entry.name, refresh_s=entry.refresh_s)
        except IndexUnusable as error:
            raise SettingsError(f"sources: {entry.name}: {error}") from error
    if isinstance(entry, WikipediaEntry):
        return Rescored(_wikipedia(entry), encoder)
    timeout_s = entry.timeout_s or DEFAULT_TIMEOUT_S
    policy = FetchPolicy(timeout_s=timeout_s, allowed_networks=file.allowed_networks)
    if isinstance(entry, FeedEntry):
        feed = FeedSource(
            entry.urls, encoder, policy, name=entry.name, poll_s=entry.poll_s, keep_days=entry.keep_days
        )
        feed.start()
        return feed
    maker = PassageMaker(entry.name, encoder)
    if isinstance(entry, WebEntry):
        return _web(entry, policy, maker)
    return _http(entry, timeout_s, maker)


def _wikipedia(entry: WikipediaEntry) -> WikipediaSource:
    try:
        prepared = prepare_wikipedia(parse_origin(entry.origin, revision=entry.revision), entry.directory)
        encoder = SentenceEncoder.load(local_weights(entry.encoder), revision=entry.encoder_revision)
        index = WikipediaIndex.load(prepared, encoder, nprobe=entry.nprobe)
    except (OriginUnusable, TableUnusable) as error:
        raise SettingsError(f"sources: {entry.name}: {error}") from error
    except (OSError, ValueError, RuntimeError) as error:
        # Errors of transformers and Faiss, many lines long; the first says what it is about.
        first = (str(error).splitlines() or [""])[0]
        raise SettingsError(f"sources: {entry.name}: {first}") from error
    return WikipediaSource(index, w=entry.w, w_th=entry.w_th)


def _web(entry: WebEntry, policy: FetchPolicy, maker: PassageMaker) -> WebSource:
    pages = SafeFetcher(policy)
    engine: SearchEngine
    if entry.engine == "brave":
        engine = BraveSearch(pages, _key(entry), language=entry.language)
    else:
        assert entry.url is not None
        engine = SearxngSearch(_trusting(entry.url, policy.timeout_s), entry.url, language=entry.language)
    return WebSource(
        engine, maker, pages, name=entry.name, results=entry.results, fetch_pages=entry.fetch_pages
    )


def _http(entry: HttpEntry, timeout_s: float, maker: PassageMaker) -> HttpApiSource:
    secrets = {header: read_secret(name, entry.name) for header, name in entry.header_secrets.items()}
    api = HttpApi(
        url=entry.url,
        query_parameter=entry.query_parameter,
        fields=Fields(**entry.fields.model_dump()),
        parameters=entry.parameters,
        count_parameter=entry.count_parameter,
        headers=entry.headers | secrets,
    )
    try:
        return HttpApiSource(entry.name, api, maker, _trusting(entry.url, timeout_s), results=entry.results)
    except ValueError as error:
        raise SettingsError(f"sources: {entry.name}: {error}") from None


def _trusting(url: str, timeout_s: float) -> SafeFetcher:
    """Return a fetcher for a host that the operator has named: it may stand inside the network."""
    host = urlsplit(url).hostname
    assert host is not None
    return SafeFetcher(FetchPolicy(timeout_s=timeout_s, trusted_hosts=frozenset({host})))


def _key(entry: WebEntry) -> str:
    if entry.key_secret is not None:
        return read_secret(entry.key_secret, entry.name)
    assert entry.key_variable is not None
    key = os.environ.get(entry.key_variable, "").strip()
    if not key:
        raise SettingsError(f"sources: {entry.name}: the environment has no {entry.key_variable}")
    return key


def read_secret(name: str, source: str) -> str:
    """Return a secret's text from Secrets Manager; it never reaches a log.

    Raises:
        SettingsError: there is no such secret, it may not be read, or it is not text.
    """
    try:
        value = boto3.client("secretsmanager", config=AWS).get_secret_value(SecretId=name).get("SecretString")
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "?")
        raise SettingsError(f"sources: {source}: the secret {name} cannot be read: {code}") from None
    except BotoCoreError as error:
        raise SettingsError(
            f"sources: {source}: the secret {name} cannot be read: {type(error).__name__}"
        ) from None
    if not value or not value.strip():
        raise SettingsError(f"sources: {source}: the secret {name} holds no text")
    return value.strip()
