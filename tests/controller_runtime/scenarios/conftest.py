"""An API server of the scenarios' own, with an audit log: they kill it, compact it and install kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from controller_runtime.testing import Envtest

# Watches of Secrets read etcd itself, so that a compaction is felt without a restart of the server.
UNCACHED = "--watch-cache-sizes=secrets#0"


@pytest.fixture(scope="package")
def server() -> Iterator[Envtest]:
    with Envtest(audit=True, apiserver_args=[UNCACHED]) as env:
        yield env


@pytest.fixture
def space(server: Envtest, request: pytest.FixtureRequest) -> str:
    """A fresh namespace on `server`, named after the test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return server.create_namespace(name[:40].strip("-"))
