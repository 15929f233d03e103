"""One local AWS for all functions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.local_aws import LocalAws, serve_aws


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    with serve_aws() as aws:
        yield aws
