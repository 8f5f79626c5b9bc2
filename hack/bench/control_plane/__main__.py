"""`python -m hack.bench.control_plane`: one line a bar; the figures in .local/bench/; exit 1 on a miss."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from controller_runtime.testing import Envtest, EnvtestError

from . import peers
from .measure import machine_cpu, own_cpu
from .phases import Outcome, measure
from .report import Report, machine

QUIET = 0.2
BUILDERS = {"go": peers.go, "kopf": peers.kopf, "ours": peers.ours}


async def run(arguments: argparse.Namespace) -> Report:
    contenders = [BUILDERS[name]() for name in arguments.contenders]
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="control-plane-") as folder,
        Envtest(crds=[peers.HERE / "crd.yaml"]) as env,
    ):
        for number in range(arguments.rounds):
            shift = number % len(contenders)
            for contender in [*contenders[shift:], *contenders[:shift]]:
                await quiet(arguments.patience)
                outcome = await measure(
                    env,
                    contender,
                    objects=arguments.objects,
                    workers=arguments.workers,
                    idle=arguments.idle,
                    folder=Path(folder),
                )
                outcomes.append(outcome)
                walls = ", ".join(f"{name} {value:.2f} s" for name, value in outcome.wall.items())
                others = f"others took {outcome.others:.0%}"
                print(f"round {number + 1} {contender.name:5} {walls}; {others}", flush=True)
    return Report(
        versions={contender.name: contender.version for contender in contenders},
        settings={name: getattr(arguments, name) for name in ("objects", "workers", "rounds", "idle")},
        outcomes=outcomes,
    )


async def quiet(patience: float) -> None:
    """Return when others leave the machine alone for a moment, or after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = machine_cpu() - own_cpu()
        await asyncio.sleep(1.5)
        if machine_cpu() - own_cpu() - before < QUIET * 1.5 * (os.cpu_count() or 1):
            return


def main(argv: Sequence[str] | None = None) -> int:
    flags = argparse.ArgumentParser(prog="python -m hack.bench.control_plane", description=__doc__)
    flags.add_argument("--objects", type=int, default=1000, help="before the start, and again while running")
    flags.add_argument("--workers", type=int, default=10, help="reconciles at once (kopf has its own limits)")
    flags.add_argument("--rounds", type=int, default=3, help="runs of each, the order rotated; medians count")
    flags.add_argument("--idle", type=float, default=10.0, metavar="SECONDS")
    flags.add_argument("--contenders", type=lambda text: text.split(","), default=list(BUILDERS))
    flags.add_argument("--load", type=float, default=1.5, help="refuse above this load average (0: never)")
    flags.add_argument("--patience", type=float, default=0.0, help="seconds to wait for quiet before a run")
    arguments = flags.parse_args(argv)
    unknown = set(arguments.contenders) - set(BUILDERS)
    if unknown:
        flags.error(f"--contenders {','.join(sorted(unknown))}: choose from {','.join(BUILDERS)}")
    load = os.getloadavg()[0]
    if arguments.load and load > arguments.load:
        print(f"load average {load:.2f} is over {arguments.load:g}: others are busy here; wait, or --load 0")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    print(machine(), flush=True)
    try:
        report = uvloop.run(run(arguments))
    except (peers.PeerError, EnvtestError, TimeoutError, RuntimeError) as error:
        print(f"control-plane: {error or type(error).__name__}", file=sys.stderr)
        return 2
    print(report.table())
    bars = report.bars(statistics.median)
    for bar in bars:
        print(bar)
    path = report.write(peers.ROOT / ".local" / "bench" / "control-plane.json", bars)
    print(f"figures: {path.relative_to(peers.ROOT)}")
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
