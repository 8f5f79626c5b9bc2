"""A manager that runs for as long as a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .._manager import Manager


@asynccontextmanager
async def running(
    manager: Manager, *, started: bool = True, timeout: float = 30.0
) -> AsyncIterator[asyncio.Task[None]]:
    """Run `manager` in the block, from the moment its caches are filled; yields its task.

    At the end it is stopped as by SIGTERM. What it failed with is raised there, unless the block itself
    failed; a failure before it started is raised at once. `started=False`: do not wait for the caches.
    Raises TimeoutError when start or stop take longer than `timeout` seconds; nothing is left running then.
    """
    stop = asyncio.Event()
    task = asyncio.create_task(manager.run(stop), name="manager")
    waiting = asyncio.create_task(manager.started.wait(), name="manager/started")
    try:
        if started:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=timeout)
            if task.done():
                await task
            elif not waiting.done():
                raise TimeoutError(f"the manager did not start within {timeout:g} s")
        yield task
    finally:
        waiting.cancel()
        stop.set()
        await asyncio.wait({task}, timeout=timeout)
        late = not task.done()
        if late:
            task.cancel()
            await asyncio.wait({task}, timeout=timeout)
    if late:
        raise TimeoutError(f"the manager did not end within {timeout:g} s")
    await task
