"""A worker that gets ready beside those that serve takes what they leave, and is an equal once it serves.

What a process without privileges gives up it may get back or not: a raised nice value never, the scheduling
policy and the slice at any time. So what a thread of its own can do is done by one that is nice and ends; the
rest, whose threads stay (OpenMP's inherit all this, and serve later), is only a batch job.

Being nice is not enough: a thread that runs keeps its CPU for some 3 ms when another one wakes, and an engine
with two threads wakes them a hundred times in a run. What serves asks for short slices; a thread with a
shorter slice than the running one goes first when it wakes (Linux 6.12; before that it has no effect).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NICE = 10
_SLICE = 300_000  # nanoseconds, of what serves
_SETATTR = {"x86_64": 314, "aarch64": 274}
# struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTR = struct.Struct("<IIQiIQQQ")


class Calm:
    """`aside`, and what the process does between `begin` and `end`, stand back if `wanted`.

    Best effort: where the kernel refuses, a reload costs others more, and works.
    """

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def aside(self, work: Callable[[], T]) -> T:
        """Does `work` in a nice thread that ends; what it raises is raised here. Work whose threads are used
        later must not go aside: they would stay nice.
        """
        if not self.wanted:
            return work()
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            _stand_back(threading.get_native_id())
            try:
                found.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="aside")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def begin(self) -> None:
        if self.wanted:
            _schedule(0, os.SCHED_BATCH, 0)
        else:
            prompt()

    def end(self) -> None:
        """All threads are equals of the others again."""
        if self.wanted:
            self.wanted = False
            for task in Path("/proc/self/task").iterdir():
                _schedule(int(task.name), os.SCHED_OTHER, _SLICE)

    @staticmethod
    def leave() -> None:
        """For good: what is left to do is to give memory back."""
        _stand_back(0)


def prompt() -> None:
    """For a thread that serves, and those it starts."""
    _schedule(0, os.SCHED_OTHER, _SLICE)


def _stand_back(thread: int) -> None:
    """Below what it was: the whole process may be nice already."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICE))


def _schedule(thread: int, policy: int, slice_: int) -> None:
    with suppress(OSError):
        os.sched_setscheduler(thread, policy, os.sched_param(0))
    number = _SETATTR.get(platform.machine())
    if number is None:
        return
    with suppress(OSError, AttributeError):
        nice = os.getpriority(os.PRIO_PROCESS, thread)
        attributes = _ATTR.pack(_ATTR.size, policy, 0, nice, 0, slice_, 0, 0)
        ctypes.CDLL(None).syscall(number, thread, attributes, 0)
