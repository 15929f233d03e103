from __future__ import annotations

from pathlib import Path

import pytest

from openchatkit.retrieval.sources.config import FeedEntry, HttpEntry, WebEntry, WikipediaEntry, read_sources
from openchatkit.settings import SettingsError

GOOD = """
allowed_networks: [10.0.0.0/8]
sources:
  - kind: wikipedia
    origin: s3://bucket/indexes/wiki/1/
    w: 2
  - kind: web
    engine: brave
    key_secret: brave-key
    timeout_s: 3
  - kind: feed
    urls: [https://example.com/rss, http://example.com/atom]
  - kind: http
    name: filings
    url: https://filings.internal/api
    query_parameter: q
    fields: {results: hits, text: body}
    header_secrets: {Authorization: filings-token}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "sources.yaml"
    path.write_text(text, "utf-8")
    return path


def test_all_kinds_are_read(tmp_path: Path) -> None:
    file = read_sources(written(tmp_path, GOOD))
    kinds = [type(entry) for entry in file.sources]
    assert kinds == [WikipediaEntry, WebEntry, FeedEntry, HttpEntry]
    assert [entry.name for entry in file.sources] == ["wikipedia", "web", "news", "filings"]
    assert file.sources[1].timeout_s == 3
    assert str(file.allowed_networks[0]) == "10.0.0.0/8"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sources: [{kind: gopher}]", "sources.0: Input tag 'gopher'"),
        ("sources: [{kind: web, engine: brave}]", "key_secret or"),
        (
            "sources: [{kind: web, engine: brave, key_secret: a, key_variable: B}]",
            "key_secret or",
        ),
        ("sources: [{kind: web, engine: searxng}]", "needs url"),
        ("sources: [{kind: web, engine: searxng, url: 'file:///etc'}]", "http or https"),
        ("sources: [{kind: web, engine: searxng, url: 'http://u:p@host/'}]", "without credentials"),
        ("sources: [{kind: feed, urls: [https://a.example/], poll: 3}]", "sources.0.feed.poll: Extra inputs"),
        ("sources: [{kind: feed, urls: []}]", "sources.0.feed.urls"),
        ("sources: [{kind: feed, urls: [https://a.example/], poll_s: 1}]", "poll_s"),
        ("sources: [{kind: feed, name: 'No Good', urls: [https://a.example/]}]", "name"),
        ("sources: [{kind: wikipedia}, {kind: wikipedia}]", "two sources are called wikipedia"),
        ("sources: [{kind: wikipedia, w: 50}]", "sources.0.wikipedia.w"),
        ("sauces: []", "sources"),
        ("just text", "sources.yaml"),
        ("[", "YAML"),
        ("a: &a [*a]", "sources"),
        ("sources: !!python/object/apply:os.system ['true']", "YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_sources(written(tmp_path, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_huge(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_sources(tmp_path / "missing.yaml")
    with pytest.raises(SettingsError):
        read_sources(written(tmp_path, "# " + "x" * 2**21))
