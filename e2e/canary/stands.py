"""The stand-in servers (stand.py) as pods: a webhook of a user, and one between operator and Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.canary.trial import load_pod
from e2e.kube import Kube, condition, status_of, until

PORT = 9090
MONITORING = "paddle-monitoring"
PROMETHEUS = "prometheus"
NAME = "app.kubernetes.io/name"


@dataclass(frozen=True, slots=True)
class Stand:
    """A stand-in that runs."""

    kube: Kube
    namespace: str
    name: str

    @property
    def address(self) -> str:
        """Its pod's."""
        return _address(self.kube, self.namespace, self.name)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{PORT}"

    def mode(self, **mode: object) -> None:
        """What it does from now on; see stand.py."""
        self.kube.run("replace", "--raw", self._path("/mode"), "-f", "-", stdin=json.dumps(mode))

    def asked(self) -> list[dict[str, object]]:
        """The bodies that hooks were asked with."""
        return list(json.loads(self.kube.run("get", "--raw", self._path("/asked"))))

    def _path(self, path: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}:{PORT}/proxy{path}"


def start(kube: Kube, namespace: str, name: str, *arguments: str) -> Stand:
    """A stand-in that answers. It goes with its namespace."""
    source = Path(__file__).with_name("stand.py").read_text()
    pod = load_pod(namespace, name, ["python", "-c", source, *arguments], **{NAME: name})
    pod["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": PORT}]  # type: ignore[index]
    kube.apply(pod)
    stand = Stand(kube, namespace, name)

    def answers() -> bool:
        ready = condition(kube.get("pod", name, namespace), "Ready").get("status") == "True"
        return ready and kube.attempt("get", "--raw", stand._path("/asked")).returncode == 0

    until(answers, within=60, what=lambda: f"{name} does not answer")
    return stand


@contextmanager
def before_prometheus(kube: Kube) -> Iterator[Stand]:
    """The operator's questions go through a stand-in for as long as the block lasts. To be begun while no
    canary is judged: connections that live go on to where they lead.
    """
    behind = kube.list("pods", MONITORING, f"{NAME}={PROMETHEUS}")
    assert len(behind) == 1, f"{len(behind)} pods of Prometheus"
    upstream = f"http://{status_of(behind[0])['podIP']}:{PORT}"
    try:
        stand = start(kube, MONITORING, "stand", upstream)
        _select(kube, stand.name)
        yield stand
    finally:
        _select(kube, PROMETHEUS)
        kube.attempt("-n", MONITORING, "delete", "pod", "stand", "--wait=false")


def _select(kube: Kube, name: str) -> None:
    """Turns the Service of Prometheus to the pods of this name."""
    patch = json.dumps({"spec": {"selector": {NAME: name}}})
    kube.run("-n", MONITORING, "patch", "service", PROMETHEUS, "--type=merge", "-p", patch)


def _address(kube: Kube, namespace: str, name: str) -> str:
    return str(status_of(kube.get("pod", name, namespace))["podIP"])
