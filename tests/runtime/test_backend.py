from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from runtime.worker.backend import Counters, Handle


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    """Whatever a test does, every handle it made is gone at its end."""
    before = Counters.created - Counters.destroyed
    yield
    gc.collect()
    assert Counters.created - Counters.destroyed == before


def test_close_is_idempotent_and_use_after_it_raises() -> None:
    handle = Handle("thing", object)
    assert handle.get() is handle.get()
    handle.close()
    handle.close()
    assert handle.closed
    with pytest.raises(RuntimeError, match="thing is closed"):
        handle.get()


def test_another_thread_may_not_use_it() -> None:
    handle = Handle("thing", object)
    seen: list[str] = []

    def use() -> None:
        try:
            handle.get()
        except RuntimeError as error:
            seen.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == ["thing belongs to another thread; a predictor has exactly one"]
    handle.close()


def test_a_forgotten_handle_is_released_with_a_warning() -> None:
    handle = Handle("thing", object)
    destroyed = Counters.destroyed
    with pytest.warns(ResourceWarning, match="thing was never closed"):
        del handle  # the last reference: the finalizer runs here
    assert Counters.destroyed == destroyed + 1


def test_what_could_not_be_made_is_not_counted() -> None:
    created = Counters.created

    def fail() -> object:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Handle("thing", fail)
    assert Counters.created == created
