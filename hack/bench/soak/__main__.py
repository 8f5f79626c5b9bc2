"""Hours of load with a reload every few minutes: nothing lost, nothing grows. Exit code 1 when it does."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hack.bench.bars import Bar
from hack.bench.inference import models, peers, reloads, servers, steady
from hack.bench.soak import judge, picture, watch

_LOOK = 2.0  # seconds between two readings
_REPORT = Path(__file__).resolve().parents[3] / ".local" / "report"
# A reload shorter before the end than this is not begun: its outcome would not be seen.
_LAST = 30.0


def soak(options: argparse.Namespace, folder: Path) -> tuple[list[Bar], dict[str, object], str]:
    """The bars, the figures and the picture."""
    model = models.lenet()
    desired = reloads.Desired(folder=folder, models=model.folders, shape=model.row.shape)
    request = peers.v2(model.input, model.row)
    readings: dict[str, list[tuple[float, float]]] = {bound.name: [] for bound in judge.BOUNDS}
    asked_at: list[float] = []
    took: list[float] = []
    unready = 0
    with reloads.reloadable(desired) as server:
        most = servers.loaded(server.port, request, connections=1, seconds=3.0)
        rate = min(options.rate, most.rate / 2)
        with reloads.steady_load(server, request, rate=rate) as samples:
            start = time.monotonic()
            due = start + options.every
            while (now := time.monotonic()) < start + options.seconds:
                if now >= due and now < start + options.seconds - _LAST:
                    due += options.every
                    asked_at.append(now - start)
                    desired.change()
                    reloads.until_reloaded(server, desired)
                    took.append(time.monotonic() - now)
                unready += not server.ready()
                # Between two versions there are two of everything, as there should be.
                for name, value in watch.held(server.pid, server.workers()).items():
                    readings[name].append((time.monotonic() - start, value))
                time.sleep(_LOOK)
    bars = [judge.flat(bound, readings[bound.name]) for bound in judge.BOUNDS]
    lost = sum(sample.status != 200 for sample in samples)
    bars += [
        Bar("soak: requests lost", float(lost), 0.0, "requests"),
        Bar("soak: looks at which it was not ready", float(unready), 0.0, "looks"),
        Bar("soak: reloads", float(len(took)), float(max(1, len(asked_at))), "", least=True),
    ]
    detail: dict[str, object] = {
        "seconds": options.seconds,
        "rate": round(rate, 1),
        "requests": len(samples),
        "milliseconds": _latencies(samples),
        "reloads": {"at": [round(at, 1) for at in asked_at], "seconds": [round(s, 2) for s in took]},
        "load": os.getloadavg()[0],
        "readings": readings,
    }
    return bars, detail, picture.svg(readings, asked_at, options.seconds)


def _latencies(samples: Sequence[steady.Sample]) -> dict[str, float]:
    ordered = sorted(sample.latency for sample in samples)
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: round(reloads.quantile(ordered, share) * 1e3, 2) for name, share in shares.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hack.bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--every", type=float, default=300.0, help="seconds between two reloads")
    parser.add_argument(
        "--rate", type=float, default=100.0, help="requests a second, half of capacity at most"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        bars, detail, image = soak(options, Path(folder))
    for bar in bars:
        print(bar)
    readings = detail.pop("readings")
    print(json.dumps(detail))
    _REPORT.mkdir(parents=True, exist_ok=True)
    wire = {"bars": [bar.to_json() for bar in bars], "detail": {**detail, "readings": readings}}
    (_REPORT / "soak-runtime.json").write_text(json.dumps(wire, indent=1))
    (_REPORT / "soak-runtime.svg").write_text(image)
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
