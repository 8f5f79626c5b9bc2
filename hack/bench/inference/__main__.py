"""Servers side by side on this machine, their order alternating; one line a bar, exit code 1 on a miss."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy

from hack.bench.bars import Bar
from hack.bench.inference import bars, models, peers, reloads, servers
from hack.bench.inference.load import Reading
from hack.bench.inference.models import Model

CONNECTIONS = (1, 8, 32, 128)
Cells = dict[int, list[Reading]]
Found = tuple[list[Bar], Mapping[str, object]]


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


def lenet(options: argparse.Namespace, folder: Path) -> Found:
    model = models.lenet()
    said, cells = _side_by_side(model, peers.PEERS, options, folder)
    _table(model.name, cells)
    ours = cells.pop("ours")
    return bars.lenet(ours, cells), {"model": said, "cells": _wire({"ours": ours, **cells})}


def recognition(options: argparse.Namespace, folder: Path) -> Found:
    """Beside the peers: our server with Paddle's native engine, and the predictor alone."""
    model = models.recognition(folder)
    ones = [peer for peer in peers.PEERS if peer.wait == 1]
    said, cells = _side_by_side(model, ones, options, folder, native=True)
    _table(model.name, cells)
    ours, native = cells.pop("ours"), cells.pop("ours, native engine")
    engine, threads = str(said["engine"]), int(str(said["threads"]))
    alone, mine = [], []
    with servers.ours(folder, *_arguments(model)) as server:
        request = peers.v2(model.input, model.row)
        for turn in range(options.rounds):
            for which in ("ours", "bare") if turn % 2 == 0 else ("bare", "ours"):
                if which == "ours":
                    mine.append(servers.loaded(server.port, request, connections=8, seconds=options.seconds))
                else:
                    alone.append(
                        servers.bare(
                            model.folder, engine=engine, threads=threads, shape=model.row.shape, rows=1,
                            seconds=options.seconds,
                        )
                    )  # fmt: skip
    print(f"  bare predictor ({engine}, {threads} threads): {statistics.median(alone):.1f} rows/s")
    found = bars.recognition(ours, {8: mine}, alone, native)
    detail = {"model": said, "bare": alone, "beside bare": _wire({"ours": {8: mine}})}
    return found, {**detail, "cells": _wire({"ours": ours, "native": native, **cells})}


def reload(options: argparse.Namespace, folder: Path) -> Found:
    """Each model reloaded under a steady load of half of what the server can do."""
    found: list[Bar] = []
    detail: dict[str, object] = {}
    for model in (models.lenet(), models.recognition(folder)):
        name = "" if model.fixed else model.input
        desired = reloads.Desired(folder=folder, models=model.folders, shape=model.row.shape, input=name)
        request = peers.v2(model.input, model.row)
        with reloads.reloadable(desired) as server:
            # Evenly spaced requests are not batched, so that is how its capacity is taken.
            most = servers.loaded(server.port, request, connections=1, seconds=options.seconds)
            phases = reloads.measure(
                server,
                desired,
                request,
                rate=most.rate / 2,
                before=2 * options.seconds,
                times=options.reloads,
            )
        found += bars.reloads(model.name, phases)
        detail[model.name] = reloads.summary(phases, rate=most.rate / 2)
        print(f"  {model.name}, reload: {detail[model.name]}", flush=True)
    return found, detail


def _arguments(model: Model, *more: str) -> list[str]:
    return ["--model", f"m={model.folder}", *more]


def _side_by_side(
    model: Model,
    others: Sequence[peers.Peer],
    options: argparse.Namespace,
    folder: Path,
    *,
    native: bool = False,
) -> tuple[Mapping[str, object], dict[str, Cells]]:
    """What ours says of the model, and the cells by name. Each is measured in turn, while the others, which
    are all started, stand still.
    """
    mine = peers.v2(model.input, model.row)
    places: dict[str, tuple[int, bytes]] = {}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(servers.ours(folder, *_arguments(model)))
        said = server.parameters()
        places["ours"], processes["ours"] = (server.port, mine), server.process
        if native:
            other = stack.enter_context(servers.ours(folder, *_arguments(model, "--engine", "native")))
            name = "ours, native engine"
            places[name], processes[name] = (other.port, mine), other.process
        engine, threads = str(said["engine"]), int(str(said["threads"]))
        for peer in others:
            if options.peers and peer.package not in options.peers.split(","):
                continue
            serving = peers.serving(
                peer, model.folder, folder, engine=engine, threads=threads, shape=model.row.shape
            )
            request = peer.request(model.input, model.row)
            port, processes[peer.name] = stack.enter_context(serving)
            places[peer.name] = (port, request)
        _same({name: servers.answer(*place) for name, place in places.items()})
        for started in processes.values():
            servers.pause(started, True)
        cells: dict[str, Cells] = {name: {c: [] for c in CONNECTIONS} for name in places}
        for turn in range(options.rounds):
            order = list(places) if turn % 2 == 0 else list(places)[::-1]
            for connections in CONNECTIONS:
                for name in order:
                    port, request = places[name]
                    servers.pause(processes[name], False)
                    try:
                        reading = servers.loaded(
                            port, request, connections=connections, seconds=options.seconds
                        )
                    except subprocess.CalledProcessError:
                        logs = {file.name: file.read_text(errors="replace") for file in folder.glob("*.log")}
                        ends = "\n".join(f"{log}: {text[-1500:]}" for log, text in logs.items())
                        raise RuntimeError(f"{name} failed with {connections} connections\n{ends}") from None
                    servers.pause(processes[name], True)
                    cells[name][connections].append(reading)
    return said, cells


def _same(answers: Mapping[str, bytes]) -> None:
    """All gave the same numbers."""
    values = {name: peers.last_values(body) for name, body in answers.items()}
    first = next(iter(values.values()))
    for name, value in values.items():
        if not numpy.allclose(value, first, rtol=1e-2, atol=1e-4):
            raise RuntimeError(f"{name} answers {value}, not {first}")


def _table(title: str, cells: Mapping[str, Cells]) -> None:
    for name, by_connections in cells.items():
        for connections, readings in by_connections.items():
            rate = statistics.median(r.rate for r in readings)
            p50 = statistics.median(r.p50 for r in readings) * 1e3
            p99 = statistics.median(r.p99 for r in readings) * 1e3
            errors = sum(r.errors for r in readings)
            print(
                f"  {title}, {name:<20} c={connections:<3} {rate:9.1f} requests/s  p50 {p50:8.2f} ms"
                f"  p99 {p99:8.2f} ms  errors {errors}",
                flush=True,
            )


def _wire(cells: Mapping[str, Cells]) -> dict[str, object]:
    return {
        name: {str(c): [asdict(reading) for reading in readings] for c, readings in by.items()}
        for name, by in cells.items()
    }


PARTS = {"lenet": lenet, "recognition": recognition, "reload": reload}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hack.bench.inference", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each cell")
    parser.add_argument("--reloads", type=int, default=5, help="under load, of each model")
    parser.add_argument("--only", choices=list(PARTS))
    parser.add_argument("--peers", default="", help="only these, by comma")
    options = parser.parse_args(arguments)
    machine = _machine()
    print(f"machine: {machine}")
    found: list[Bar] = []
    detail: dict[str, object] = {"machine": machine}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in PARTS.items():
            if options.only in (None, name):
                held, what = part(options, Path(folder))
                found += held
                detail[name] = what
    for bar in found:
        print(bar)
    target = Path(__file__).resolve().parents[3] / ".local" / "bench"
    target.mkdir(parents=True, exist_ok=True)
    wire = {"bars": [bar.to_json() for bar in found], "detail": detail}
    (target / "runtime.json").write_text(json.dumps(wire, indent=1))
    return 0 if all(bar.holds for bar in found) else 1


if __name__ == "__main__":
    sys.exit(main())
