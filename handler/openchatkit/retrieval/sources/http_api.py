"""Any JSON interface that takes a question and returns texts, by configuration (port `Source`).

The question goes into one parameter of the query string; JMESPath expressions say where the answer has its
list, and where an entry of it has its text. Data only: nothing of the answer is run, and an entry without a
text is passed over.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from openchatkit.ports import Passage, Query
from openchatkit.retrieval.blocks import iso_date, one_line
from openchatkit.retrieval.sources.fetching import FetchFailed, SafeFetcher
from openchatkit.retrieval.sources.results import PassageMaker, Result

MAX_ENTRIES = 50
MAX_TEXT_CHARACTERS = 20_000
MAX_QUERY_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the answer has what, as JMESPath. All but the first are read in each entry of its list."""

    results: str
    text: str
    title: str | None = None
    url: str | None = None
    date: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class HttpApi:
    """An interface: `GET url?parameters&query_parameter=<question>`."""

    url: str
    query_parameter: str
    fields: Fields
    parameters: Mapping[str, str] = field(default_factory=dict)
    count_parameter: str | None = None
    """Takes the number of results, where the interface wants one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent along; keys too."""


class HttpApiSource:
    """Entries of an interface as passages."""

    def __init__(
        self, name: str, api: HttpApi, maker: PassageMaker, fetcher: SafeFetcher, *, results: int
    ) -> None:
        """Join an interface and what reads it.

        Args:
            name: of the source.
            api: where it is, and where its answers have what.
            maker: makes passages.
            fetcher: asks.
            results: asked for, where `count_parameter` is set.

        Raises:
            ValueError: an expression that is no JMESPath, by its field.
        """
        self.name = name
        self._api = api
        self._maker = maker
        self._fetcher = fetcher
        self._results = results
        self._list = _compiled("results", api.fields.results)
        names = ("text", "title", "url", "date", "id")
        given = {key: getattr(api.fields, key) for key in names}
        self._of_entry = {key: _compiled(key, value) for key, value in given.items() if value is not None}

    async def search(self, query: Query, k: int) -> list[Passage]:
        """Return at most `k` passages, best first."""
        parameters = {**self._api.parameters, self._api.query_parameter: query.text[:MAX_QUERY_CHARACTERS]}
        if self._api.count_parameter:
            parameters[self._api.count_parameter] = str(self._results)
        headers = {"Accept": "application/json", **self._api.headers}
        answer = await self._fetcher.get(self._api.url, parameters=parameters, headers=headers, follow=False)
        try:
            found = self._read(answer.content)
        except (ValueError, JMESPathError, RecursionError):
            raise FetchFailed("the answer is not the JSON that was configured") from None
        return await asyncio.to_thread(self._maker.make, query, found, k)

    async def passage(self, passage_id: str) -> Passage | None:
        """Return a passage that was found lately; the interface is not asked again."""
        return self._maker.find(passage_id)

    def _read(self, content: bytes) -> list[Result]:
        entries = self._list.search(json.loads(content))
        if entries is None:
            return []
        if not isinstance(entries, list):
            raise ValueError("no list")  # noqa: TRY004 - as of any answer that is not what was configured
        return [result for entry in entries[:MAX_ENTRIES] if (result := self._result(entry))]

    def _result(self, entry: object) -> Result | None:
        values = {}
        for key, expression in self._of_entry.items():
            value = expression.search(entry)
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                values[key] = str(value)
        text = values.get("text", "")[:MAX_TEXT_CHARACTERS].strip()
        if not text:
            return None
        return Result(
            title=one_line(values.get("title") or values.get("url") or self.name),
            text=text,
            url=values.get("url"),
            date=iso_date(values.get("date", "")),
            id=values.get("id"),
        )


def _compiled(name: str, expression: str) -> ParsedResult:
    try:
        return jmespath.compile(expression)
    except JMESPathError:
        raise ValueError(f"fields.{name}: no JMESPath expression") from None
