"""kubectl as a function: one call, one deadline, one line when it fails."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from hack.cluster import paths

JSON = dict[str, object]


class KubectlError(Exception):
    """A call failed; the text is kubectl's own last word."""


class Kubectl:
    """Calls on one cluster. `kubeconfig` unset: KUBECONFIG, else the local node's."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        self.kubeconfig = kubeconfig or paths.kubeconfig()
        self.program = paths.kubectl()

    def command(self, *arguments: str) -> list[str]:
        return [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]

    def call(
        self, *arguments: str, text: str | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs to its end, whatever the exit code. Raises KubectlError when it does not end in time."""
        try:
            return subprocess.run(
                self.command(*arguments),
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KubectlError(f"kubectl {arguments[0]} did not end within {timeout:.0f} s") from None

    def run(self, *arguments: str, text: str | None = None, timeout: float = 60.0) -> str:
        """Standard output; raises KubectlError when the call fails."""
        result = self.call(*arguments, text=text, timeout=timeout)
        if result.returncode != 0:
            raise KubectlError(result.stderr.strip() or f"kubectl {arguments[0]} failed")
        return result.stdout

    def get(self, *arguments: str) -> JSON:
        """One object, or a List. Raises KubectlError, also when it is not there."""
        found = json.loads(self.run("get", *arguments, "-o", "json"))
        assert isinstance(found, dict)
        return found

    def items(self, *arguments: str) -> list[JSON]:
        found = self.get(*arguments).get("items")
        return found if isinstance(found, list) else []

    def kustomize(self, folder: Path) -> list[JSON]:
        """The documents of a kustomization."""
        return documents(self.run("kustomize", str(folder)))

    def apply(
        self, objects: Iterable[Mapping[str, object]], *, manager: str, dry_run: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Server-side apply. Raises KubectlError with every object that was refused, and why."""
        text = yaml.safe_dump_all([dict(item) for item in objects], sort_keys=False)
        options = ["--server-side", "--force-conflicts", f"--field-manager={manager}"]
        options += ["--dry-run=server"] if dry_run else []
        result = self.call("apply", *options, "-f", "-", text=text, timeout=120.0)
        if result.returncode != 0:
            raise KubectlError(result.stderr.strip())
        return result

    def reachable(self) -> str:
        """Empty when the API server answers, else one line that says what to do."""
        if not self.kubeconfig.is_file():
            return f"there is no {self.kubeconfig}: `make cluster-up`, or set KUBECONFIG"
        result = self.call("version", "--request-timeout=10s", "-o", "json")
        if result.returncode != 0:
            last = (result.stderr.strip().splitlines() or ["no answer"])[-1]
            return f"the cluster of {self.kubeconfig} does not answer: {last}"
        return ""


def documents(text: str) -> list[JSON]:
    return [item for item in yaml.safe_load_all(text) if isinstance(item, dict)]


def field(item: Mapping[str, object] | object, *path: str) -> object:
    """A nested field, or None."""
    current: object = item
    for name in path:
        if not isinstance(current, Mapping):
            return None
        current = current.get(name)
    return current


def fields(item: Mapping[str, object] | object, *path: str) -> list[JSON]:
    """A nested list of objects, or an empty one."""
    found = field(item, *path)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [entry for entry in found if isinstance(entry, dict)]


def text(item: Mapping[str, object] | object, *path: str) -> str:
    found = field(item, *path)
    return found if isinstance(found, str) else ""


def number(item: Mapping[str, object] | object, *path: str) -> int:
    found = field(item, *path)
    return found if isinstance(found, int) else 0
