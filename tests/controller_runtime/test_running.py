"""`running`: the end of a manager, whoever causes it."""

from __future__ import annotations

import asyncio

import pytest

from controller_runtime import Config, Manager
from controller_runtime.testing import running


def manager(grace: float = 1.0) -> Manager:
    """One without caches: it needs no server."""
    return Manager(Config(server="http://127.0.0.1:1"), field_manager="test", graceful_timeout=grace)


async def test_it_runs_in_the_block_and_ends_with_it() -> None:
    made, ran = manager(), asyncio.Event()

    async def work(*_: object) -> None:
        ran.set()
        await asyncio.Event().wait()

    made.add(Work(work))
    async with running(made) as task:
        await asyncio.wait_for(ran.wait(), 10.0)
        assert not task.done()
    assert task.done()


class Work:
    def __init__(self, work: object) -> None:
        self._work = work

    async def run(self) -> None:
        await self._work()  # type: ignore[operator]


async def fail() -> None:
    raise RuntimeError("broken")


async def test_what_it_failed_with_is_raised_at_the_end() -> None:
    async def use() -> None:
        made = manager()
        async with running(made) as task:
            made.add(Work(fail))
            await asyncio.wait({task}, timeout=10.0)

    with pytest.raises(RuntimeError, match="broken"):
        await use()


async def test_the_blocks_own_failure_goes_first() -> None:
    made = manager()

    async def use() -> None:
        async with running(made) as task:
            made.add(Work(fail))
            await asyncio.wait({task}, timeout=10.0)
            raise ValueError("the block's")

    with pytest.raises(ValueError, match="the block's"):
        await use()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("manager")]


async def test_a_failure_before_the_start_is_raised_at_once() -> None:
    made = manager()
    made.add_healthz("x", lambda: "")

    async def never(*_: object) -> None:
        raise RuntimeError("no caches")

    made.cache.wait_synced = never  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no caches"):
        async with running(made):
            raise AssertionError("not reached")


async def test_a_start_that_takes_too_long_is_given_up() -> None:
    made = manager()

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    made.cache.wait_synced = hang  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match=r"did not start within 0\.05 s"):
        async with running(made, timeout=0.05):
            raise AssertionError("not reached")


async def test_without_waiting_the_block_begins_before_the_caches_are_filled() -> None:
    made = manager()

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    made.cache.wait_synced = hang  # type: ignore[method-assign]
    async with running(made, started=False):
        assert not made.started.is_set()
