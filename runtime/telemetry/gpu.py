"""Use and memory of the GPUs that this process can see, read every 15 s through NVML."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.logs import Logger

EVERY = 15.0
_LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """`busy` is the share of the last sampling period in which a kernel ran, from 0 to 1; memory in bytes."""

    index: int
    uuid: str
    busy: float
    used: int
    total: int


def read() -> Sequence[Gpu]:
    """All GPUs, asked anew: a driver that was restarted is found again. Blocks. Raises GpuError."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        raise GpuError(f"{_LIBRARY} is not there") from None
    import pynvml  # 0.2 s that a server without GPUs does not pay

    try:
        pynvml.nvmlInit()
        try:
            found = []
            for index in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                found.append(
                    Gpu(
                        index=index,
                        uuid=pynvml.nvmlDeviceGetUUID(handle),
                        busy=pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
                        used=memory.used,
                        total=memory.total,
                    )
                )
            return found
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise GpuError(str(error)) from None


class GpuError(Exception):
    """NVML is not there, or it refused."""


class Gpus:
    """The last reading. What cannot be read is not there: `latest` is empty then, and `errors` has grown.

    A reading that hangs in the driver is given up after `every` seconds and no other is begun until it ends;
    it has a thread of its own, which never keeps the process alive.
    """

    def __init__(
        self, log: Logger, *, read: Callable[[], Sequence[Gpu]] = read, every: float = EVERY
    ) -> None:
        self.latest: Sequence[Gpu] = ()
        self.errors = 0
        self._log = log
        self._read = read
        self._every = every
        self._told = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._every
            reading = _in_a_thread(self._read)
            done, _ = await asyncio.wait([reading], timeout=self._every)
            if not done:
                self._failed(f"no answer within {self._every:g} s")
                await asyncio.wait([reading])
            error = reading.exception()
            if error is not None:
                self._failed(str(error))
            else:
                self.latest = reading.result()
                self._told = ""
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _failed(self, why: str) -> None:
        self.latest = ()
        self.errors += 1
        if why != self._told:
            self._told = why
            self._log.info("no GPU metrics", why=why)


def _in_a_thread(call: Callable[[], Sequence[Gpu]]) -> asyncio.Future[Sequence[Gpu]]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[Gpu]] = loop.create_future()

    def settle(result: Sequence[Gpu] | Exception) -> None:
        if future.cancelled():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def work() -> None:
        result: Sequence[Gpu] | Exception
        try:
            result = call()
        except Exception as error:
            result = error
        try:
            loop.call_soon_threadsafe(settle, result)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    threading.Thread(target=work, name="nvml", daemon=True).start()
    return future


class GpuCollector(Collector):
    """`labels` are constant and stand on every sample."""

    def __init__(self, gpus: Gpus, labels: Mapping[str, str]) -> None:
        self._gpus = gpus
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        names, values = list(self._labels), list(self._labels.values())
        by_gpu: dict[tuple[str, str], Callable[[Gpu], float]] = {
            ("gpu_utilization", "Share of time in which the GPU ran something, 0 to 1."): lambda g: g.busy,
            ("gpu_memory_utilization", "Memory in use over all memory of the GPU, 0 to 1."): (
                lambda g: g.used / g.total if g.total else 0.0
            ),
            ("gpu_memory_used_bytes", "Memory of the GPU in use, by whomever."): lambda g: g.used,
            ("gpu_memory_total_bytes", "All memory of the GPU."): lambda g: g.total,
        }
        for (name, text), value in by_gpu.items():
            family = GaugeMetricFamily(name, text, labels=["gpu", "uuid", *names])
            for gpu in self._gpus.latest:
                family.add_metric([str(gpu.index), gpu.uuid, *values], value(gpu))
            yield family
        errors = CounterMetricFamily(
            "gpu_scrape_errors", "Readings of the GPUs that failed; without a GPU each one.", labels=names
        )
        errors.add_metric(values, self._gpus.errors)
        yield errors
