from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from openchatkit.retrieval.sources.fetching import FetchPolicy
from tests.retrieval.sources.web import Web, serve_web

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@pytest.fixture
def web() -> Iterator[Web]:
    with serve_web() as web:
        yield web


@pytest.fixture
def policy() -> FetchPolicy:
    """Loopback is allowed; the rest is as in production."""
    return FetchPolicy(allowed_networks=LOOPBACK, timeout_s=60)
