"""Servers side by side on this machine, their order alternating; one line a bar, exit code 1 on a miss."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from hack.bench.inference import bars, servers
from hack.bench.inference.load import Reading
from hack.demo.model import fetch
from runtime.codec.v2 import HEADER_LENGTH

_LENET = (1, 28, 28)
_LINE = (3, 48, 320)
_BINARY = {"Content-Type": "application/octet-stream"}
Cells = dict[int, list[Reading]]


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return f"{len(os.sched_getaffinity(0))} cores, {model}, load {load:.2f} at the start"


def _ours_request(body: bytes) -> bytes:
    return servers.raw_request("/v2/models/m/infer", body, {**_BINARY, HEADER_LENGTH: "0"})


def lenet(rounds: int, seconds: float, folder: Path) -> tuple[list[bars.Bar], Mapping[str, object]]:
    import numpy

    model = _exported("lenet")
    body = numpy.random.default_rng(1).random(_LENET, dtype="float32").tobytes()
    with ExitStack() as stack:
        port = stack.enter_context(servers.ours(model, folder))
        said = servers.parameters(port)
        places = {"ours": (port, _ours_request(body))}
        engine, threads = str(said["engine"]), int(str(said["threads"]))
        for wait in (1, 10):
            peer = servers.mosec(model, folder, engine=engine, threads=threads, shape=_LENET, wait=wait)
            places[f"mosec, wait {wait} ms"] = (
                stack.enter_context(peer),
                servers.raw_request("/inference", body, _BINARY),
            )
        _same({name: servers.answer(*place) for name, place in places.items()})
        cells: dict[str, Cells] = {name: {1: [], 32: []} for name in places}
        for turn in range(rounds):
            order = list(places) if turn % 2 == 0 else list(places)[::-1]
            for connections in (1, 32):
                for name in order:
                    port, request = places[name]
                    reading = servers.loaded(port, request, connections=connections, seconds=seconds)
                    cells[name][connections].append(reading)
    _table(cells)
    ours = cells.pop("ours")
    return bars.against_peer(ours, cells), {"model": said, "ours": _wire({"": ours}), **_wire(cells)}


def _exported(kind: str) -> Path:
    """The folder of one of the tests' networks. Imported by name: their exporter is written against paddle's
    own types, which the type checker is not to follow from here.
    """
    support = importlib.import_module("tests.support.models")
    folder: Path = support.export([support.Net(kind=kind)])[0]
    return folder


def _same(answers: Mapping[str, bytes]) -> None:
    """All gave the same numbers; ours has a JSON head before them."""
    import numpy

    values = {name: numpy.frombuffer(body[-40:], dtype="float32") for name, body in answers.items()}
    first = next(iter(values.values()))
    for name, value in values.items():
        if not numpy.allclose(value, first, rtol=1e-3, atol=1e-5):
            raise RuntimeError(f"{name} answers {value}, not {first}")


def recognition(rounds: int, seconds: float, folder: Path) -> tuple[list[bars.Bar], Mapping[str, object]]:
    import numpy

    model = folder / "recognition"
    model.mkdir()
    for name, content in fetch().files.items():
        (model / name).write_bytes(content)
    body = numpy.full(_LINE, 0.5, dtype="float32").tobytes()
    document = {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": [1, *_LINE],
                "parameters": {"binary_data_size": len(body)},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(document).encode()
    headers = {**_BINARY, HEADER_LENGTH: str(len(head))}
    request = servers.raw_request("/v2/models/m/infer", head + body, headers)
    ours: list[Reading] = []
    alone: list[float] = []
    with servers.ours(model, folder) as port:
        said = servers.parameters(port)
        engine, threads = str(said["engine"]), int(str(said["threads"]))
        for turn in range(rounds):
            for which in ("ours", "bare") if turn % 2 == 0 else ("bare", "ours"):
                if which == "ours":
                    ours.append(servers.loaded(port, request, connections=8, seconds=seconds))
                else:
                    rate = servers.bare(
                        model, engine=engine, threads=threads, shape=_LINE, rows=1, seconds=seconds
                    )
                    alone.append(rate)
    _table({"recognition, ours": {8: ours}})
    print(
        f"  recognition, bare predictor ({engine}, {threads} threads): {statistics.median(alone):.1f} rows/s"
    )
    return [bars.against_bare(ours, alone)], {"model": said, "ours": _wire({"": {8: ours}}), "bare": alone}


def _table(cells: Mapping[str, Cells]) -> None:
    for name, by_connections in cells.items():
        for connections, readings in by_connections.items():
            rate = statistics.median(r.rate for r in readings)
            p50 = statistics.median(r.p50 for r in readings) * 1e3
            p99 = statistics.median(r.p99 for r in readings) * 1e3
            errors = sum(r.errors for r in readings)
            print(
                f"  {name:<20} c={connections:<3} {rate:9.1f} requests/s  p50 {p50:7.2f} ms"
                f"  p99 {p99:7.2f} ms  errors {errors}",
                flush=True,
            )


def _wire(cells: Mapping[str, Cells]) -> dict[str, object]:
    return {
        name: {str(c): [asdict(reading) for reading in readings] for c, readings in by.items()}
        for name, by in cells.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hack.bench.inference", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each cell")
    parser.add_argument("--only", choices=["lenet", "recognition"])
    options = parser.parse_args(arguments)
    print(f"machine: {_machine()}")
    found: list[bars.Bar] = []
    detail: dict[str, object] = {"machine": _machine()}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("lenet", lenet), ("recognition", recognition)):
            if options.only in (None, name):
                held, what = part(options.rounds, options.seconds, Path(folder))
                found += held
                detail[name] = what
    for bar in found:
        print(bar)
    target = Path(__file__).resolve().parents[3] / ".local" / "bench"
    target.mkdir(parents=True, exist_ok=True)
    wire = [{"name": b.name, "value": b.value, "limit": b.limit, "holds": b.holds} for b in found]
    (target / "runtime.json").write_text(json.dumps({"bars": wire, "detail": detail}, indent=1))
    return 0 if all(bar.holds for bar in found) else 1


if __name__ == "__main__":
    sys.exit(main())
