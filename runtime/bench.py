"""`python -m runtime bench`: clients in a closed loop against a server; latencies as a plot and JSON."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from time import perf_counter
from urllib.parse import urlsplit

from runtime.datatypes import BY_NAME

_TIMEOUT = 30.0
_WIDTH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`rows` stand in every open first dimension, `length` in every other open one."""

    url: str = "http://127.0.0.1:8080"
    model: str = ""
    concurrency: int = 8
    seconds: float = 10.0
    warm_up: float = 1.0
    rows: int = 1
    length: int = 1


@dataclass(slots=True, kw_only=True)
class Measured:
    """Latencies in seconds of the requests that got 200, and how all ended: a status, or 0 for no answer."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; 0 of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def histogram(latencies: Sequence[float], *, per_decade: int = 10) -> list[tuple[float, float, int]]:
    """(from, to, count) in seconds, edges equal steps of the logarithm, empty ends left out."""
    if not latencies:
        return []
    steps = Counter(math.floor(math.log10(max(value, 1e-6)) * per_decade) for value in latencies)
    return [
        (10 ** (step / per_decade), 10 ** ((step + 1) / per_decade), steps.get(step, 0))
        for step in range(min(steps), max(steps) + 1)
    ]


def summary(options: Options, measured: Measured) -> dict[str, object]:
    ordered = sorted(measured.latencies)
    milliseconds = {
        name: round(percentile(ordered, share) * 1000, 3)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))
    }
    return {
        "url": options.url,
        "model": options.model,
        "concurrency": options.concurrency,
        "rows": options.rows,
        "seconds": round(measured.seconds, 3),
        "requests": measured.codes.total(),
        "perSecond": round(len(ordered) / measured.seconds, 1) if measured.seconds else 0.0,
        "codes": {str(code): count for code, count in sorted(measured.codes.items())},
        "milliseconds": milliseconds,
        "histogram": [
            {
                "fromMilliseconds": round(low * 1000, 4),
                "toMilliseconds": round(high * 1000, 4),
                "count": count,
            }
            for low, high, count in histogram(ordered)
        ],
    }


def plot(measured: Measured) -> str:
    """One line for each bucket; the longest bar is the fullest one."""
    buckets = histogram(measured.latencies)
    most = max((count for _, _, count in buckets), default=1)
    lines = []
    for low, high, count in buckets:
        bar = "#" * math.ceil(_WIDTH * count / most)
        lines.append(f"{low * 1000:9.3f} - {high * 1000:9.3f} ms {count:8d} {bar}")
    return "\n".join(lines)


class Connection:
    """One kept HTTP/1.1 connection, opened again when the server closes it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """(status, body). Raises OSError, EOFError or TimeoutError."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._ask(request)
        except BaseException:
            self.close()
            raise

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        length = next(
            (
                int(line.partition(":")[2])
                for line in head.split("\r\n")
                if line.startswith("content-length:")
            ),
            0,
        )
        body = await reader.readexactly(length)
        if "\r\nconnection: close" in head:
            self.close()
        return status, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def request(options: Options, host: str, metadata: dict[str, object]) -> bytes:
    """The V2 request with binary tensors of zeros that the metadata asks for."""
    inputs, blobs = [], []
    tensors = metadata["inputs"]
    assert isinstance(tensors, list)
    for tensor in tensors:
        given = tensor["shape"]
        shape = [
            length if length >= 0 else options.rows if index == 0 else options.length
            for index, length in enumerate(given)
        ]
        size = prod(shape) * BY_NAME[tensor["datatype"]].size
        blobs.append(bytes(size))
        inputs.append(
            {
                "name": tensor["name"],
                "datatype": tensor["datatype"],
                "shape": shape,
                "parameters": {"binary_data_size": size},
            }
        )
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(blobs)
    return (
        f"POST /v2/models/{options.model}/infer HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def run(options: Options) -> Measured:
    """Asks for the model's inputs, then lets the clients loop. Raises ValueError or OSError."""
    url = urlsplit(options.url)
    if url.scheme != "http" or not url.hostname:
        raise ValueError(f"--url {options.url!r} must be http://host:port")
    host, port = url.hostname, url.port or 80
    first = Connection(host, port)
    path = f"/v2/models/{options.model}"
    status, body = await first.ask(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    first.close()
    if status != 200:
        raise ValueError(f"{path} answers {status}: {body[:200].decode(errors='replace')}")
    message = request(options, host, json.loads(body))
    measured = Measured(seconds=options.seconds)
    begin = perf_counter() + options.warm_up

    async def client() -> None:
        connection = Connection(host, port)
        while (asked := perf_counter()) < begin + options.seconds:
            try:
                code, _ = await connection.ask(message)
            except (OSError, EOFError, TimeoutError):
                code = 0
                await asyncio.sleep(0.01)
            now = perf_counter()
            if asked >= begin:
                measured.codes[code] += 1
                if code == 200:
                    measured.latencies.append(now - asked)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(options.concurrency):
            group.create_task(client())
    measured.seconds = perf_counter() - begin
    return measured


def main(options: Options, *, as_json: bool) -> int:
    """0 when every request got 200, 1 when some did not, 2 when there was nothing to ask."""
    try:
        measured = asyncio.run(run(options))
    except (ValueError, OSError, EOFError) as error:
        print(f"runtime: {error}", file=sys.stderr)
        return 2
    found = summary(options, measured)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print(plot(measured))
        print(" ".join(f"{name} {value} ms" for name, value in found["milliseconds"].items()))  # type: ignore[attr-defined]
        print(f"{found['requests']} requests, {found['perSecond']} per second, codes {found['codes']}")
    return 0 if set(measured.codes) == {200} else 1
