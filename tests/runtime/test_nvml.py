"""GPU metrics, with an NVML of our own where there is none: faked where the shared library is opened."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Sequence

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from runtime.logs import configure
from runtime.telemetry.gpu import Gpu, GpuCollector, GpuError, Gpus, read
from tests.runtime.conftest import DEADLINE

ONE = Gpu(index=0, uuid="GPU-1", busy=0.25, used=6 << 30, total=8 << 30)

# Python functions in the place of the library's: what they are given is what ctypes would pass on.
NVML = """
import ctypes

REAL = ctypes.CDLL
GPUS = [(b"GPU-aaaa", 37, 6 << 30, 8 << 30), (b"GPU-bbbb", 0, 0, 16 << 30)]

def of(handle):
    return GPUS[int(ctypes.cast(handle, ctypes.c_void_p).value) - 1000]

def memory(handle, into):
    into._obj.used, into._obj.total = of(handle)[2:]
    return 0

class Library:
    nvmlInitWithFlags = staticmethod(lambda flags: 0)
    nvmlShutdown = staticmethod(lambda: 0)

    def __init__(self):
        def handle(index, into):
            ctypes.cast(into, ctypes.POINTER(ctypes.c_void_p))[0] = 1000 + index.value
            return 0
        def count(into):
            into._obj.value = len(GPUS)
            return 0
        def uuid(handle, text, size):
            text.value = of(handle)[0]
            return 0
        def rates(handle, into):
            into._obj.gpu = of(handle)[1]
            return 0
        self.nvmlDeviceGetHandleByIndex_v2 = handle
        self.nvmlDeviceGetCount_v2 = count
        self.nvmlDeviceGetUUID = uuid
        self.nvmlDeviceGetUtilizationRates = rates
        self.nvmlDeviceGetMemoryInfo = memory

ctypes.CDLL = lambda name, *rest, **more: (
    Library() if name == "libnvidia-ml.so.1" else REAL(name, *rest, **more)
)
"""


def text(gpus: Gpus) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GpuCollector(gpus, {"revision": "r1"}))
    return generate_latest(registry).decode()


class Reader:
    """Answers as told; `asked` counts."""

    def __init__(self, *answers: Sequence[Gpu] | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    def __call__(self) -> Sequence[Gpu]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def holds(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is looked at has no event of its own
            await asyncio.sleep(0.001)


async def until(gpus: Gpus, condition: Callable[[], object]) -> None:
    """Runs the readings until `condition()` holds."""
    task = asyncio.create_task(gpus.run())
    await holds(condition)
    task.cancel()
    await asyncio.wait([task])


async def test_a_reading_is_four_series_for_each_gpu() -> None:
    gpus = Gpus(configure("error"), read=Reader([ONE]), every=0.01)
    await until(gpus, lambda: gpus.latest)
    out = text(gpus)
    labels = '{gpu="0",revision="r1",uuid="GPU-1"}'
    assert f"gpu_utilization{labels} 0.25" in out
    assert f"gpu_memory_utilization{labels} 0.75" in out
    assert f"gpu_memory_used_bytes{labels} 6.442450944e+09" in out
    assert f"gpu_memory_total_bytes{labels} 8.589934592e+09" in out
    assert 'gpu_scrape_errors_total{revision="r1"} 0.0' in out


async def test_no_gpu_is_no_series_and_an_error_for_each_reading() -> None:
    gpus = Gpus(configure("error"), read=Reader(GpuError("no driver")), every=0.001)
    await until(gpus, lambda: gpus.errors >= 3)
    out = text(gpus)
    assert "gpu=" not in out
    assert "gpu_scrape_errors_total" in out


async def test_what_was_lost_is_not_shown_and_comes_back() -> None:
    reader = Reader([ONE], GpuError("fell off the bus"), [ONE])
    seen: list[int] = []

    def looked() -> Sequence[Gpu]:
        seen.append(len(gpus.latest))  # what is shown when the next reading begins
        return reader()

    gpus = Gpus(configure("error"), read=looked, every=0.3)
    await until(gpus, lambda: len(seen) >= 4)
    assert seen[:4] == [0, 1, 0, 1]
    assert gpus.errors == 1


async def test_a_driver_that_hangs_is_one_error_and_one_thread() -> None:
    free = threading.Event()

    def hang() -> Sequence[Gpu]:
        free.wait(DEADLINE)
        return [ONE]

    gpus = Gpus(configure("error"), read=hang, every=0.01)
    task = asyncio.create_task(gpus.run())
    await holds(lambda: gpus.errors)
    assert len([thread for thread in threading.enumerate() if thread.name == "nvml"]) == 1
    assert not gpus.latest
    free.set()
    await holds(lambda: gpus.latest)
    task.cancel()
    await asyncio.wait([task])
    assert gpus.errors == 1


def test_two_gpus_through_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/runtime/test_monitoring.py does the same in a server."""
    monkeypatch.setattr(ctypes, "CDLL", ctypes.CDLL)  # restored, whatever the stub puts there
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", pynvml.CDLL)
    exec(NVML, {})
    pynvml.CDLL = ctypes.CDLL
    assert read() == [
        Gpu(index=0, uuid="GPU-aaaa", busy=0.37, used=6 << 30, total=8 << 30),
        Gpu(index=1, uuid="GPU-bbbb", busy=0.0, used=0, total=16 << 30),
    ]


def test_a_library_that_is_not_there_or_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(name: str) -> None:
        raise OSError(name)

    def refuse(flags: int = 0) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(ctypes, "CDLL", hidden)
    with pytest.raises(GpuError, match=r"libnvidia-ml\.so\.1 is not there"):
        read()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    with pytest.raises(GpuError, match=r"Driver"):
        read()
