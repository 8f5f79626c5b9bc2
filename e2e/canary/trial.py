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
from e2e.kube import Kube, condition, metadata_of, status_of, until
from hack.cluster import paths
from hack.images import names

JSON = dict[str, object]
BODY = '{"inputs": {"x": [[1.0, 1.0, 1.0]]}}'
ASK = """
import http.client, json, sys
given, seen = json.load(sys.stdin), []
for headers in given["headers"]:
    connection = http.client.HTTPConnection(given["host"], timeout=15)
    connection.request("POST", "/predict", given["body"], {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    answer.read()
    seen.append(answer.getheader("X-Model-Version") if answer.status == 200 else f"status {answer.status}")
    connection.close()
print(json.dumps(seen))
"""
#: Fast enough for a test, slow enough for a scrape every 2 s to show each window.
ANALYSIS: JSON = {"interval": 5, "requiredPasses": 2}


def canary(
    *weights: int, stable_for: int = 5, analysis: Mapping[str, object] | None = None, **more: object
) -> JSON:
    """An updateStrategy.canary with short times."""
    return {
        "steps": [{"weight": weight} for weight in weights],
        "stableForSeconds": stable_for,
        "analysis": {**ANALYSIS, **(analysis or {})},
        **more,
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
    rules: Sequence[Mapping[str, object]] = ()
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
            "traffic": {"provider": self.provider, **({"rules": list(self.rules)} if self.rules else {})},
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
        self.prepare(version, rate=rate, kept=kept, **options)
        self.ready_to_change()
        for name in self._running:
            self._answered(name)

    def prepare(
        self, version: str = "v1.0.0", *, rate: float = 50.0, kept: bool = False, **options: object
    ) -> None:
        """Asks for the first version, and for the load: its pod starts while the model is loaded."""
        self.change(version, **options)
        if rate:
            self._send(rate, kept=kept)

    def ready_to_change(self) -> None:
        """Waits for the first version; from here on it is recorded."""
        self.ns.phase(self.name, "Ready", within=120)
        self._recorder = self._stack.enter_context(recorded(self.kube, self.ns.name, self.name))

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
        name = self._send(rate, kept=kept, headers=headers)
        self._answered(name)
        return name

    def _send(self, rate: float, *, kept: bool, headers: Mapping[str, str] | None = None) -> str:
        self._loads += 1
        name = f"load-{self.name}-{self._loads}"
        url = f"http://{self.name}.{self.ns.name}.svc/predict"
        source = Path(__file__).with_name("load.py").read_text()
        how = f"{'kept' if kept else 'new'},wait"
        arguments = [url, BODY, str(rate), "900", how]
        arguments += [f"{key}={value}" for key, value in (headers or {}).items()]
        self.kube.apply(load_pod(self.ns.name, name, ["python", "-c", source, *arguments]))
        self._running.append(name)
        return name

    def _answered(self, name: str) -> None:
        def replied() -> bool:
            log = self.kube.attempt("-n", self.ns.name, "logs", name, "--limit-bytes=2000").stdout
            return '"replies"' in log

        until(replied, within=90, what=lambda: f"no reply to {name}", every=0.5)

    def ask(self, headers: Sequence[Mapping[str, str]]) -> list[str]:
        """The version that answers a request with each of these headers, one after the other. Needs a load,
        from whose pod they are sent.
        """
        given = json.dumps(
            {"host": f"{self.name}.{self.ns.name}.svc", "body": BODY, "headers": list(headers)}
        )
        command = ("exec", "-i", self._running[0], "--", "python", "-c", ASK)
        printed = self.kube.run("-n", self.ns.name, *command, stdin=given)
        return [str(version) for version in json.loads(printed)]

    def stop(self, name: str) -> list[Reply]:
        """Ends one load; its replies, which are then among `replies`, too."""
        self._end(name)
        return self._ended(name)

    def _end(self, name: str) -> None:
        self.kube.attempt("-n", self.ns.name, "exec", name, "--", "python", "-c", "import os; os.kill(1, 10)")

    def _ended(self, name: str) -> list[Reply]:
        def over() -> bool:
            return status_of(self.kube.get("pod", name, self.ns.name)).get("phase") in ("Succeeded", "Failed")

        until(over, within=60, what=lambda: f"{name} still runs")
        self._running.remove(name)
        found, done = log.parse(self.kube.run("-n", self.ns.name, "logs", name, timeout=120))
        assert done, f"the log of {name} has no end"
        self.replies = sorted([*self.replies, *found], key=lambda reply: reply.at)
        return found

    def finish(self) -> list[Reply]:
        """Ends all loads; every reply."""
        for name in self._running:
            self._end(name)
        for name in list(self._running):
            self._ended(name)
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
        """status.canary once `holds(status.canary)`, which sees what is recorded: no kubectl for a look."""
        assert self._recorder is not None, "begin comes first"
        recorder = self._recorder
        last: Mapping[str, object] = {}

        def check() -> object:
            nonlocal last
            found = status_of(recorder.latest).get("canary")
            last = found if isinstance(found, Mapping) else {}
            return holds(last)

        until(check, within=within, what=lambda: f"{what}: {self.told()}; {last}", every=0.1)
        return last

    def phase(self, *phases: str, within: float = 90.0, **fields: object) -> Mapping[str, object]:
        """status.canary once it is in one of `phases`, with these fields."""

        def holds(state: Mapping[str, object]) -> bool:
            return state.get("phase", "Idle") in phases and all(
                state.get(name, 0) == value for name, value in fields.items()
            )

        return self.wait(f"{' or '.join(phases)} {fields or ''}", holds, within=within)

    def ending(self, run: int, *, within: float, attempt: int = 0) -> Mapping[str, object]:
        """The history's entry of the run, once it has ended. attempt: of several at it."""

        def of_run(state: Mapping[str, object]) -> list[Mapping[str, object]]:
            history = state.get("history") or []
            assert isinstance(history, list)
            return [
                entry
                for entry in history
                if entry.get("run") == run and (not attempt or entry.get("attempt") == attempt)
            ]

        return of_run(self.wait(f"the end of run {run}", of_run, within=within))[-1]

    def told(self) -> str:
        """What the operator says it waits for, as recorded."""
        latest = self._recorder.latest if self._recorder is not None else {}
        return str(condition(latest, "Progressing").get("message"))

    def pods(self, revision: str) -> list[dict[str, object]]:
        return self.ns.pods(f"serving.paddlepaddle.org/revision={revision}")

    def ready(self, revision: str) -> list[str]:
        """Names of the revision's ready pods that are to stay."""
        pods = (pod for pod in self.pods(revision) if "deletionTimestamp" not in metadata_of(pod))
        return [
            str(metadata_of(pod)["name"]) for pod in pods if condition(pod, "Ready").get("status") == "True"
        ]

    def routers(self) -> list[str]:
        """Names of the namespace's router pods."""
        names = [str(metadata_of(pod)["name"]) for pod in self.ns.pods()]
        found = [name for name in names if "router" in name]
        assert found, f"no router among {names}"
        return found

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


def load_pod(namespace: str, name: str, command: Sequence[str], **labels: str) -> JSON:
    """A pod of the runtime's image that runs something else."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
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
