"""Counts and times of a model since the start, in the form of the V2 protocol's statistics extension."""

from __future__ import annotations

from time import time

from runtime.signature import Wire

# Different numbers of rows that are told apart: clients choose them, so their number needs an end.
_MOST_SIZES = 256


class Duration:
    """How often something took place and how long it took in all, in nanoseconds."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = 0
        self.ns = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def to_wire(self) -> Wire:
        return {"count": self.count, "ns": self.ns}


class Compute:
    """The three parts of a run as the worker measured them: copy in, run, copy out."""

    __slots__ = ("infer", "input", "output")

    def __init__(self) -> None:
        self.input = Duration()
        self.infer = Duration()
        self.output = Duration()

    def add(self, times: tuple[int, int, int], count: int = 1) -> None:
        """Each of `count` requests has spent the whole of `times`."""
        self.input.add(times[0] * count, count)
        self.infer.add(times[1] * count, count)
        self.output.add(times[2] * count, count)

    def to_wire(self) -> Wire:
        return {
            "compute_input": self.input.to_wire(),
            "compute_infer": self.infer.to_wire(),
            "compute_output": self.output.to_wire(),
        }


class Statistics:
    """Requests are counted in `success`, `fail` and `queue`; rows in `rows`; runs in `runs` and `batches`."""

    __slots__ = ("_last", "batches", "compute", "fail", "queue", "rows", "runs", "success")

    def __init__(self) -> None:
        self.success = Duration()
        self.fail = Duration()
        self.queue = Duration()
        self.compute = Compute()
        self.batches: dict[int, Compute] = {}
        self.rows = 0
        self.runs = 0
        self._last = 0.0

    def answered(self, ok: bool, seconds: float) -> None:
        (self.success if ok else self.fail).add(int(seconds * 1e9))

    def ran(self, rows: int, requests: int, queued: float, times: tuple[int, int, int]) -> None:
        """A batch of `rows` rows of `requests` requests that waited `queued` seconds in sum; times in ns."""
        self.rows += rows
        self.runs += 1
        self._last = time()
        self.queue.add(int(queued * 1e9), requests)
        self.compute.add(times, requests)
        batch = self.batches.get(rows)
        if batch is None:
            if len(self.batches) >= _MOST_SIZES:
                return
            batch = self.batches[rows] = Compute()
        batch.add(times)

    def to_wire(self, name: str, version: str) -> Wire:
        return {
            "name": name,
            "version": version,
            "last_inference": int(self._last * 1000),
            "inference_count": self.rows,
            "execution_count": self.runs,
            "inference_stats": {
                "success": self.success.to_wire(),
                "fail": self.fail.to_wire(),
                "queue": self.queue.to_wire(),
                **self.compute.to_wire(),
            },
            "batch_stats": [
                {"batch_size": rows, **compute.to_wire()} for rows, compute in sorted(self.batches.items())
            ],
        }
