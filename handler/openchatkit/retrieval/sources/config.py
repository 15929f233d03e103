"""The file that names the sources beside the user's own documents.

    sources:
      - kind: index
        location: s3://my-bucket/indexes/filings/
      - kind: wikipedia
        origin: s3://my-bucket/indexes/ChristophSchuhmann/wikipedia-3sentence-level-retrieval-index/<commit>/
      - kind: web
        engine: searxng
        url: http://searx.internal:8888
      - kind: feed
        name: news
        urls: [https://example.com/rss]
      - kind: http
        name: filings
        url: https://filings.internal/api/search
        query_parameter: q
        fields: {results: hits, text: body, title: heading, url: link}
        header_secrets: {Authorization: filings-api-token}

Keys stand in Secrets Manager (or, on a laptop, in an environment variable), never in this file. An unknown
key or a bad value is refused by its place and name.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from openchatkit.retrieval.wikipedia import MAX_WINDOW
from openchatkit.retrieval.wikipedia_prepare import DATASET
from openchatkit.settings import SettingsError

MAX_SOURCES = 32
MAX_FILE_BYTES = 2**20


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("an http or https address without credentials")
    return value


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
WebAddress = Annotated[str, Field(max_length=2048), AfterValidator(_web_address)]
Seconds = Annotated[float, Field(gt=0, le=600)]
Results = Annotated[int, Field(ge=1, le=20)]


class Entry(BaseModel):
    """What every source may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: Seconds | None = None
    """Time budget of a query; None takes `retrieval_timeout_s`."""


class IndexEntry(Entry):
    """An index made by `ock index build`, followed while it is used."""

    kind: Literal["index"]
    name: Name
    location: Annotated[str, Field(min_length=1, max_length=2048)]
    """A folder, or `s3://<bucket>/<prefix>/`."""
    refresh_s: Annotated[float, Field(ge=1, le=86_400)] = 20
    """Seconds between two looks for a new state."""


class WikipediaEntry(Entry):
    """A prepared index of Wikipedia, or of anything else in that form."""

    kind: Literal["wikipedia"]
    name: Literal["wikipedia"] = "wikipedia"
    origin: str = DATASET
    """`hf://datasets/<org>/<name>` or `s3://<bucket>/<prefix>/`."""
    revision: str | None = None
    """Commit of a dataset. None takes the newest, which is right for trying out only."""
    directory: Path = Path("/tmp/openchatkit/wikipedia")  # noqa: S108 - an instance's own disk, shared by its workers
    """A local folder that all workers of an instance share."""
    encoder: str = "facebook/contriever-msmarco"
    """Directory, hub id or `s3://` prefix of the encoder that made the index."""
    encoder_revision: str | None = None
    w: Annotated[int, Field(ge=0, le=MAX_WINDOW)] = 5
    w_th: Annotated[float, Field(ge=-1, le=1)] = 0.5
    nprobe: Annotated[int, Field(ge=1)] | None = None


class WebEntry(Entry):
    """A search engine."""

    kind: Literal["web"]
    name: Name = "web"
    engine: Literal["brave", "searxng"]
    url: WebAddress | None = None
    """Of a SearXNG instance; it may stand inside the network."""
    key_secret: str | None = None
    """Name or ARN of the secret that holds Brave's key."""
    key_variable: str | None = None
    """Environment variable that holds it, where there is no Secrets Manager."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Za-z]{2})?$")] | None = None
    results: Results = 8
    fetch_pages: Annotated[int, Field(ge=0, le=5)] = 0
    """Pages that are read beside the snippets: better answers, later."""

    @model_validator(mode="after")
    def _complete(self) -> WebEntry:
        if self.engine == "searxng" and self.url is None:
            raise ValueError("searxng needs url")
        if self.engine == "brave" and (self.key_secret is None) == (self.key_variable is None):
            raise ValueError("brave needs either key_secret or key_variable")
        return self


class FieldsEntry(BaseModel):
    """Where the answer of an interface has what, as JMESPath."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    results: str
    text: str
    title: str | None = None
    url: str | None = None
    date: str | None = None
    id: str | None = None


class HttpEntry(Entry):
    """A JSON interface."""

    kind: Literal["http"]
    name: Name
    url: WebAddress
    """Its host may stand inside the network."""
    query_parameter: str
    count_parameter: str | None = None
    parameters: dict[str, str] = {}
    headers: dict[str, str] = {}
    header_secrets: dict[str, str] = {}
    """Header to the name or ARN of the secret that is its value."""
    fields: FieldsEntry
    results: Results = 8


class FeedEntry(Entry):
    """RSS or Atom feeds."""

    kind: Literal["feed"]
    name: Name = "news"
    urls: Annotated[tuple[WebAddress, ...], Field(min_length=1, max_length=200)]
    poll_s: Annotated[float, Field(ge=5, le=86_400)] = 30
    keep_days: Annotated[float, Field(gt=0, le=3650)] = 90


AnyEntry = Annotated[
    IndexEntry | WikipediaEntry | WebEntry | HttpEntry | FeedEntry, Field(discriminator="kind")
]


class SourcesFile(BaseModel):
    """All of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: Annotated[tuple[AnyEntry, ...], Field(max_length=MAX_SOURCES)]
    allowed_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Networks that pages and feeds may be read from although they are not public."""

    @model_validator(mode="after")
    def _names_differ(self) -> SourcesFile:
        names = [entry.name for entry in self.sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two sources are called {min(twice)}")
        return self


def read_sources(path: Path) -> SourcesFile:
    """Return what a sources file says.

    Raises:
        SettingsError: it cannot be read, or the first thing that is wrong in it.
    """
    try:
        blob = path.read_bytes()[: MAX_FILE_BYTES + 1]
        value = yaml.safe_load(blob) if len(blob) <= MAX_FILE_BYTES else None
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(f"sources: {path} cannot be read as YAML") from None
    try:
        return SourcesFile.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"sources: {path}: {place + ': ' if place else ''}{first['msg']}") from None
