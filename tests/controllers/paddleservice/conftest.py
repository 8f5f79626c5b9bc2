from collections.abc import AsyncIterator

import pytest

from controller_runtime.testing import Envtest

from .canaries import Canaries
from .harness import Harness


@pytest.fixture
async def harness(apiserver: Envtest, namespace: str) -> AsyncIterator[Harness]:
    async with apiserver.client() as client:
        yield Harness(client, namespace)


@pytest.fixture
async def canaries(apiserver: Envtest, namespace: str) -> AsyncIterator[Canaries]:
    async with apiserver.client() as client:
        yield Canaries(client, namespace)
