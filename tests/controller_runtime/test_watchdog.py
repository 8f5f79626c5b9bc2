import asyncio
import threading

import pytest

from controller_runtime._watchdog import Watchdog, task_label

from .fakes import until


class Lags:
    def __init__(self) -> None:
        self.seen: list[float] = []

    def observe(self, amount: float) -> None:
        self.seen.append(amount)


async def test_the_controller_that_blocks_is_named_while_it_blocks() -> None:
    reported = threading.Event()
    labels: list[str] = []

    def blocked(label: str) -> None:
        labels.append(label)
        reported.set()

    lags = Lags()

    async def block() -> None:
        # Holds the event loop until the watchdog's thread has noticed.
        assert reported.wait(10.0)

    async with Watchdog(threshold=0.05, interval=0.01, lag=lags, blocked=blocked) as dog:
        assert dog.silence() < 5.0
        await asyncio.create_task(block(), name="controller/paint/3")
        await until(lambda: max(lags.seen, default=0.0) >= 0.04)
    assert labels[0] == "paint"


async def test_a_quiet_loop_is_not_reported() -> None:
    labels: list[str] = []
    lags = Lags()
    async with Watchdog(threshold=30.0, interval=0.001, lag=lags, blocked=labels.append):
        await until(lambda: len(lags.seen) >= 5)
    assert labels == []


async def test_labels_stay_few() -> None:
    async def nothing() -> None:
        pass

    for name, label in (("controller/a/0", "a"), ("Task-7", "other"), ("manager/elector", "manager/elector")):
        task = asyncio.create_task(nothing(), name=name)
        assert task_label(task) == label
        await task
    assert task_label(None) == "callback"


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="threshold"):
        Watchdog(threshold=0.0)
