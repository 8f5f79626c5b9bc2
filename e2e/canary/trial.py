"""One scenario: a service of its own under load, its record, and what is asked of both."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from e2e.canary import replies as log
from e2e.canary.record import Moment, Recorder, changes, recorded
from e2e.canary.replies import Reply
from e2e.fixtures import CONTAINER_SECURITY, POD_SECURITY, Namespace
from e2e.kube import Kube, condition, status_of, until
from hack.cluster import paths
from hack.images import names

JSON = dict[str, object]
BODY = '{"inputs": {"x": [[1.0, 1.0, 1.0]]}}'
#: Fast enough for a test, slow enough for a scrape every 2 s to show each window.
ANALYSIS: JSON = {"interval": 5, "requiredPasses": 2}


def canary(*weights: int, stable_for: int = 5, analysis: Mapping[str, object] | None = None) -> JSON:
    """An updateStrategy.canary with short times."""
    return {
        "steps": [{"weight": weight} for weight in weights],
        "stableForSeconds": stable_for,
        "analysis": {**ANALYSIS, **(analysis or {})},
    }


@dataclass(slots=True)
class Trial:
    """`begin` starts the first version, the record and the load; `change` asks for another version; `finish`
    ends the load. What happened is then in `replies` and `moments`.
    """

    kube: Kube
    ns: Namespace
    keys: Mapping[str, str]
    title: str
    name: str = "m"
    replicas: int = 2
    sla: int = 250
    provider: str = "Envoy"
    strategy: JSON = field(default_factory=lambda: canary(20))
    replies: list[Reply] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)
    _recorder: Recorder | None = None
    _loads: int = 0
    _running: list[str] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    # What is asked for.

    def model(self, version: str, *, faults: str = "on", **serving: object) -> JSON:
        """The PaddleModel; every version serves the same numbers, its faults are its own."""
        block: JSON = {
            "replicas": self.replicas,
            "latencySLAMilliseconds": self.sla,
            "pod": {"env": [{"name": "PADDLE_FAULTS", "value": faults}]},
            "updateStrategy": {"type": "Canary", "canary": self.strategy},
            "traffic": {"provider": self.provider},
            **serving,
        }
        return self.ns.model(self.name, self.keys[version], version=version, serving=block)

    def begin(
        self, version: str = "v1.0.0", *, rate: float = 50.0, kept: bool = False, **options: object
    ) -> None:
        """The first version, ready and under load.

        Kept connections that are older than the run lead straight to the pods until they end, for up to six
        minutes: for shares and verdicts each request has its own.
        """
        self.change(version, **options)
        self.ns.phase(self.name, "Ready", within=120)
        self._recorder = self._stack.enter_context(recorded(self.kube, self.ns.name, self.name))
        if rate:
            self.load(rate, kept=kept)

    def change(self, version: str, **options: object) -> float:
        """Asks for `version`; when."""
        if version not in self.versions:
            self.versions.append(version)
        self.kube.apply(self.model(version, **options))  # type: ignore[arg-type]
        return time.time()

    def command(self, verb: str, *arguments: str) -> str:
        """`kubectl paddle canary <verb>`; what it prints. Fails if it does."""
        from cli.main import main  # the plugin's own code, in this process

        os.environ.setdefault("KUBECTL", str(paths.kubectl()))
        options = [self.name, "-n", self.ns.name, "--kubeconfig", str(self.kube.kubeconfig), *arguments]
        return run_cli(main, ["canary", verb, *options])

    # The load.

    def load(self, rate: float, *, kept: bool = True, headers: Mapping[str, str] | None = None) -> str:
        """Another load; returns once its first reply is there."""
        self._loads += 1
        name = f"load-{self.name}-{self._loads}"
        url = f"http://{self.name}.{self.ns.name}.svc/predict"
        source = Path(__file__).with_name("load.py").read_text()
        arguments = [url, BODY, str(rate), "900", "kept" if kept else "new"]
        arguments += [f"{key}={value}" for key, value in (headers or {}).items()]
        self.kube.apply(load_pod(self.ns.name, name, ["python", "-c", source, *arguments]))
        until(
            lambda: (
                '"replies"'
                in self.kube.attempt("-n", self.ns.name, "logs", name, "--limit-bytes=2000").stdout
            ),
            within=90,
            what=lambda: f"no reply to {name}",
            every=0.5,
        )
        self._running.append(name)
        return name

    def stop(self, name: str) -> list[Reply]:
        """Ends one load; its replies, which are then among `replies`, too."""
        self.kube.attempt("-n", self.ns.name, "exec", name, "--", "python", "-c", "import os; os.kill(1, 10)")

        def ended() -> bool:
            return status_of(self.kube.get("pod", name, self.ns.name)).get("phase") in ("Succeeded", "Failed")

        until(ended, within=60, what=lambda: f"{name} still runs")
        self._running.remove(name)
        found, done = log.parse(self.kube.run("-n", self.ns.name, "logs", name, timeout=120))
        assert done, f"the log of {name} has no end"
        self.replies = sorted([*self.replies, *found], key=lambda reply: reply.at)
        return found

    def finish(self) -> list[Reply]:
        """Ends all loads; every reply."""
        for name in list(self._running):
            self.stop(name)
        return self.replies

    def close(self) -> None:
        self._stack.close()

    # What happened.

    @property
    def moments(self) -> list[Moment]:
        return changes(self._recorder.moments) if self._recorder is not None else []

    def service(self) -> JSON:
        found = self.kube.get("paddleservice", self.name, self.ns.name)
        assert found is not None
        return found

    def canary(self) -> Mapping[str, object]:
        found = status_of(self.kube.get("paddleservice", self.name, self.ns.name)).get("canary")
        return found if isinstance(found, Mapping) else {}

    def wait(
        self, what: str, holds: Callable[[Mapping[str, object]], object], *, within: float
    ) -> Mapping[str, object]:
        """status.canary once `holds(status.canary)`."""
        last: Mapping[str, object] = {}

        def check() -> object:
            nonlocal last
            last = self.canary()
            return holds(last)

        until(check, within=within, what=lambda: f"{what}: {self.told()}; {dict(last)}", every=0.5)
        return last

    def phase(self, *phases: str, within: float = 90.0, **fields: object) -> Mapping[str, object]:
        """status.canary once it is in one of `phases`, with these fields."""

        def holds(state: Mapping[str, object]) -> bool:
            return state.get("phase", "Idle") in phases and all(
                state.get(name, 0) == value for name, value in fields.items()
            )

        return self.wait(f"{' or '.join(phases)} {fields or ''}", holds, within=within)

    def ending(self, run: int, *, within: float) -> Mapping[str, object]:
        """The history's entry of the run, once it has ended."""

        def of_run(state: Mapping[str, object]) -> list[Mapping[str, object]]:
            history = state.get("history") or []
            assert isinstance(history, list)
            return [entry for entry in history if entry.get("run") == run]

        return of_run(self.wait(f"the end of run {run}", of_run, within=within))[-1]

    def told(self) -> str:
        """What the operator says it waits for."""
        return str(
            condition(self.kube.get("paddleservice", self.name, self.ns.name), "Progressing").get("message")
        )

    def pods(self, revision: str) -> list[dict[str, object]]:
        return self.ns.pods(f"serving.paddlepaddle.org/revision={revision}")

    def fault(self, revision: str, **fault: float) -> None:
        """Switches the faults of every pod of a revision."""
        for pod in self.pods(revision):
            name = pod["metadata"]["name"]  # type: ignore[index]
            path = f"/api/v1/namespaces/{self.ns.name}/pods/{name}:8081/proxy/faults"
            self.kube.run("replace", "--raw", path, "-f", "-", stdin=json.dumps(fault))

    def steady(self, weight: int) -> Iterator[tuple[float, float]]:
        """The times in which `weight` was verified and did not change."""
        ordered = self.moments
        for one, after in zip(ordered, [*ordered[1:], None], strict=True):
            if one.phase == "Analysing" and one.weight == weight and one.verified:
                yield one.at, after.at if after is not None else time.time()


def load_pod(namespace: str, name: str, command: Sequence[str]) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": POD_SECURITY,
            "containers": [
                {
                    "name": "load",
                    "image": names.RUNTIME,
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(command),
                    "securityContext": CONTAINER_SECURITY,
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                }
            ],
        },
    }


def run_cli(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    assert code == 0, f"kubectl paddle {' '.join(arguments)}: {err.getvalue().strip()}"
    return out.getvalue()
