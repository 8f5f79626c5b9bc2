"""The operator is killed over and over while models come, change and go; then everything must be as asked."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller_runtime.testing import Envtest
from hack.bench.scale.store import tiny_store
from tests.support.objectstore import ACCESS_KEY, SECRET_KEY, ObjectStore

from .chaos import VERSIONS, Operator, State, Users, playing_kubelet
from .mirror import eventually

pytestmark = pytest.mark.apiserver


@asynccontextmanager
async def real_store() -> AsyncIterator[str]:
    with ObjectStore.start() as store:
        for version in VERSIONS:
            files = {"inference.json": b"{}", "inference.pdiparams": version.encode()}
            store.put_all("models", {f"net/{version}/{name}": data for name, data in files.items()})
        yield store.endpoint


@pytest.mark.parametrize(
    ("kills", "models", "longest"),
    [
        pytest.param(20, 4, 0.3, id="short"),
        pytest.param(200, 50, 1.5, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
async def test_the_operator_is_killed_again_and_again(
    apiserver: Envtest, namespace: str, tmp_path: Path, kills: int, models: int, longest: float
) -> None:
    """`longest`: seconds that an operator lives at most after it began to work."""
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(2**32))
    print(f"CHAOS_SEED={seed}")
    chance = random.Random(seed)
    kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig")
    operator = Operator(kubeconfig, namespace, tmp_path / "operator.log")
    began = time.monotonic()
    phases: Counter[str] = Counter()
    async with (
        apiserver.client(field_manager="users") as client,
        tiny_store() if longest < 1 else real_store() as endpoint,
    ):
        secret = {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY}
        metadata = {"name": "store", "namespace": namespace}
        await client.create(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret}
        )
        users = Users(client, namespace, endpoint, chance)
        state = State(client, namespace, users.wanted)
        with playing_kubelet(kubeconfig, namespace, tmp_path / "kubelet.log"):
            try:
                for number in range(models):
                    await users.create(f"m{number}")
                while operator.kills.total() < kills:
                    operator.start()
                    for _ in range(chance.randrange(4)):
                        await users.change()
                    if chance.random() < 0.25:
                        await asyncio.sleep(chance.uniform(0.0, min(longest, 0.5)))  # while it starts
                    else:
                        await operator.work(chance.uniform(0.0, longest))
                    operator.kill(await state.settled())
                    phases += state.phases
                operator.start()
                killed = time.monotonic()
                try:
                    await eventually(state.right, seconds=60.0 + 3.0 * models)
                except TimeoutError:
                    raise AssertionError(f"after {kills} kills (seed {seed}): {state.wrong[:8]}") from None
            finally:
                operator.stop()
    settling = time.monotonic() - killed
    print(f"{kills} kills in {killed - began:.0f} s by what the operator did: {dict(operator.kills)}")
    print(f"models at the kills, by phase: {dict(phases)}; {users.changes} changes")
    print(f"{len(users.wanted)} models as asked {settling:.1f} s after the last, no orphan, no duplicate")
