"""A service's canary as time went on: each change of its status, with the moment in which it was seen."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.kube import Kube, status_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """at: seconds since the epoch. weight: of the candidate, asked for; `verified` says if it is in force."""

    at: float
    phase: str
    run: int = 0
    step: int = 0
    attempt: int = 0
    stable: str = ""
    candidate: str = ""
    weight: int = 0
    verified: bool = True
    pause: str = ""
    service_phase: str = ""


def moment(at: float, service: Mapping[str, object]) -> Moment | None:
    """None for a service that has no canary yet."""
    status = status_of(service)
    canary = status.get("canary")
    if not isinstance(canary, Mapping) or not canary:
        return None
    traffic = canary.get("traffic") or {}
    weights = {pair["revision"]: pair.get("weight", 0) for pair in traffic.get("weights") or []}
    return Moment(
        at=at,
        phase=str(canary.get("phase") or "Idle"),
        run=canary.get("run", 0),
        step=canary.get("step", 0),
        attempt=canary.get("attempt", 0),
        stable=canary.get("stable", ""),
        candidate=canary.get("candidate", ""),
        weight=weights.get(canary.get("candidate", ""), 0),
        verified=bool(traffic.get("verifiedAt")) or not weights,
        pause=canary.get("pause", ""),
        service_phase=str(status.get("phase", "")),
    )


def changes(moments: Sequence[Moment]) -> list[Moment]:
    """Without those that say the same as the one before."""
    kept: list[Moment] = []
    for one in moments:
        if not kept or _said(kept[-1]) != _said(one):
            kept.append(one)
    return kept


def _said(one: Moment) -> tuple[object, ...]:
    return (one.phase, one.run, one.step, one.attempt, one.stable, one.candidate, one.weight, one.verified,
            one.pause, one.service_phase)  # fmt: skip


def documents(text: str) -> tuple[list[dict[str, object]], str]:
    """The whole JSON documents at the start of `text`, and the rest."""
    decoder, place = json.JSONDecoder(), 0
    found: list[dict[str, object]] = []
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        try:
            document, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            return found, text[place:]
        found.append(document)


@dataclass(slots=True)
class Recorder:
    """`moments` grows while the recording runs, `latest` is the service as it was seen last. A watch that
    breaks is begun again.
    """

    kube: Kube
    namespace: str
    name: str
    moments: list[Moment] = field(default_factory=list)
    latest: Mapping[str, object] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        while not self._stop.is_set():
            command = self.kube.command(
                *("-n", self.namespace, "get", "paddleservice", self.name, "-o", "json", "--watch")
            )
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                self._process = process
                if self._stop.is_set():
                    process.terminate()
                self._read(process)
            self._stop.wait(0.3)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        buffer = ""
        while chunk := os.read(process.stdout.fileno(), 1 << 16):
            buffer += chunk.decode(errors="replace")
            found, buffer = documents(buffer)
            for document in found:
                self.latest = document
                seen = moment(time.time(), document)
                if seen is not None:
                    self.moments.append(seen)

    def stop(self) -> None:
        self._stop.set()
        if self._process is not None:
            self._process.terminate()


@contextmanager
def recorded(kube: Kube, namespace: str, name: str) -> Iterator[Recorder]:
    """Records the service `name` for as long as the block lasts."""
    recorder = Recorder(kube, namespace, name)
    thread = threading.Thread(target=recorder.run, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        recorder.stop()
        thread.join(10.0)
