"""What a user has: kubectl, and a way to wait for what it shows."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from hack.cluster import paths


@dataclass(frozen=True, slots=True)
class Kube:
    """kubectl on one cluster. Every call has a deadline; a failure carries what kubectl said."""

    kubeconfig: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(paths.kubectl()), "--kubeconfig", str(self.kubeconfig), *arguments]

    def run(self, *arguments: str, stdin: str = "", timeout: float = 60.0) -> str:
        """What kubectl prints; an AssertionError with its message if it fails."""
        done = self.attempt(*arguments, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def attempt(
        self, *arguments: str, stdin: str = "", timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def apply(self, *documents: Mapping[str, object]) -> None:
        self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def refusal(self, document: Mapping[str, object]) -> str:
        """What the API server says against `document`; fails if it says nothing."""
        done = self.attempt("apply", "-f", "-", stdin=yaml.safe_dump(document))
        assert done.returncode != 0, f"accepted: {document}"
        return done.stderr

    def get(self, kind: str, name: str, namespace: str) -> dict[str, object] | None:
        done = self.attempt("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def list(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, object]]:
        labels = ["-l", selector] if selector else []
        found = json.loads(self.run("-n", namespace, "get", kind, *labels, "-o", "json"))
        return list(found["items"])

    def wait(
        self,
        kind: str,
        name: str,
        namespace: str,
        holds: Callable[[dict[str, object]], object],
        *,
        within: float = 60.0,
    ) -> dict[str, object]:
        """The object once `holds(object)`, which sees its states as they come; fails with the last one after
        `within` seconds. It is watched: a kubectl for each look would be the largest load on a small machine.
        """
        end = time.monotonic() + within
        last: dict[str, object] | None = None
        watch = ("-n", namespace, "get", kind, f"--field-selector=metadata.name={name}", "-o", "json", "-w")
        while time.monotonic() < end:  # a watch may end before
            for last in self._documents(watch, end):
                if holds(last):
                    return last
        raise AssertionError(f"after {within:g} s: {kind} {namespace}/{name}: {describe(last)}")

    def _documents(self, arguments: Sequence[str], end: float) -> Iterator[dict[str, object]]:
        """JSON documents as kubectl prints them, until it ends or the clock is at `end`."""
        with subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            try:
                printed = b""
                while select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                    data = os.read(process.stdout.fileno(), 1 << 20)
                    if not data:
                        return
                    *documents, printed = (printed + data).split(b"\n}\n")
                    for document in documents:
                        yield json.loads(document + b"}")
            finally:
                process.kill()

    def phase(
        self, name: str, namespace: str, phase: str, *, within: float = 60.0, generation: int = 0
    ) -> dict[str, object]:
        """The PaddleModel once it is in `phase` (and has seen `generation`)."""

        def holds(model: dict[str, object]) -> bool:
            status = status_of(model)
            seen = status.get("observedGeneration") or 0
            assert isinstance(seen, int)
            return status.get("phase") == phase and seen >= generation

        return self.wait("paddlemodel", name, namespace, holds, within=within)

    def post(self, namespace: str, service: str, path: str, body: str) -> subprocess.CompletedProcess[str]:
        """POST to a Service through the API server, which works on every cluster."""
        uri = f"/api/v1/namespaces/{namespace}/services/{service}:http/proxy{path}"
        return self.attempt("create", "--raw", uri, "-f", "-", stdin=body)

    def predict(self, namespace: str, service: str, inputs: Mapping[str, object]) -> dict[str, object]:
        done = self.post(namespace, service, "/predict", json.dumps({"inputs": inputs}))
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    @contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """A local port that leads to `target`'s port while the block runs."""
        process = subprocess.Popen(
            self.command("-n", namespace, "port-forward", target, f":{port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, f"port-forward {target}: {line}"
            yield int(found.group(1))
        finally:
            process.terminate()
            process.wait(10)


def until(
    check: Callable[[], object], *, within: float, what: Callable[[], str], every: float = 0.2
) -> object:
    """The first true value of `check`; an AssertionError that says `what()` after `within` seconds."""
    end = time.monotonic() + within
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"after {within:g} s: {what()}"
        time.sleep(every)


def status_of(found: Mapping[str, object] | None) -> dict[str, object]:
    status = found.get("status") if found else None
    return dict(status) if isinstance(status, Mapping) else {}


def spec_of(found: Mapping[str, object]) -> dict[str, object]:
    spec = found.get("spec")
    return dict(spec) if isinstance(spec, Mapping) else {}


def metadata_of(found: Mapping[str, object]) -> dict[str, object]:
    metadata = found.get("metadata")
    assert isinstance(metadata, Mapping)
    return dict(metadata)


def condition(found: Mapping[str, object] | None, type_: str) -> dict[str, object]:
    listed = status_of(found).get("conditions") or []
    assert isinstance(listed, list)
    return next((item for item in listed if item["type"] == type_), {})


def message(found: Mapping[str, object] | None) -> str:
    return str(status_of(found).get("message") or "")


def describe(found: Mapping[str, object] | None) -> str:
    if found is None:
        return "does not exist"
    status = status_of(found)
    reasons = [f"{item['type']}={item['status']}:{item['reason']}" for item in status.get("conditions") or []]  # type: ignore[attr-defined]
    return f"phase {status.get('phase')!r}, message {status.get('message')!r}, {', '.join(reasons)}"
