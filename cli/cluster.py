"""The API server, through the kubectl that this plugin was started by: its credentials, its contexts."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Protocol

from .errors import CliError, NotFound

GROUP = "serving.paddlepaddle.org"
SERVICES = f"paddleservices.{GROUP}"
MODELS = f"paddlemodels.{GROUP}"
ANALYSES = f"canaryanalyses.{GROUP}"
LABEL_SERVICE = f"{GROUP}/paddle-service"
LABEL_REVISION = f"{GROUP}/revision"
COMMAND = f"canary.{GROUP}/command"

#: Seconds that one call may take.
DEADLINE = 20.0

JSON = dict[str, object]


class Cluster(Protocol):
    """What the commands need of an API server. Every call raises CliError with one line."""

    @property
    def namespace(self) -> str:
        """The one that names are looked up in."""
        ...

    def get(self, kind: str, name: str) -> JSON:
        """Raises NotFound."""
        ...

    def list(self, kinds: Sequence[str], selector: str) -> Sequence[JSON]: ...

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        """Sets the annotation, whatever it was."""
        ...


class Kubectl:
    """kubectl as a child process for each call; flags as kubectl has them, empty for its defaults."""

    def __init__(
        self, *, namespace: str = "", kubeconfig: str = "", context: str = "", program: str = ""
    ) -> None:
        self._program = program or os.environ.get("KUBECTL") or shutil.which("kubectl") or ""
        if not self._program:
            raise CliError("kubectl is not on the PATH: install it, or name it in the variable KUBECTL")
        self._flags = [
            *(["--kubeconfig", kubeconfig] if kubeconfig else []),
            *(["--context", context] if context else []),
        ]
        self._namespace = namespace

    @property
    def namespace(self) -> str:
        if not self._namespace:
            found = self._run("config", "view", "--minify", "-o", "jsonpath={..namespace}")
            self._namespace = found.strip() or "default"
        return self._namespace

    def get(self, kind: str, name: str) -> JSON:
        return _object(self._run("get", kind, name, "-n", self.namespace, "-o", "json"))

    def list(self, kinds: Sequence[str], selector: str) -> Sequence[JSON]:
        arguments = ["get", ",".join(kinds), "-n", self.namespace, "-l", selector, "-o", "json"]
        items = _object(self._run(*arguments)).get("items")
        return items if isinstance(items, list) else []

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        self._run("annotate", kind, name, "-n", self.namespace, "--overwrite", f"{key}={value}")

    def _run(self, *arguments: str) -> str:
        command = [self._program, *self._flags, f"--request-timeout={DEADLINE:g}s", *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=DEADLINE + 5,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise CliError(f"kubectl did not answer within {DEADLINE:g} s: is the API server up?") from None
        except OSError as error:
            raise CliError(f"kubectl cannot be started: {self._program}: {error.strerror}") from None
        if done.returncode:
            raise refused(done.stderr)
        return done.stdout


def _object(text: str) -> JSON:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CliError(f"kubectl printed no object: {text[:80]!r}")
    return found


def refused(said: str) -> CliError:
    """What kubectl said, as one line with the remedy where one is known."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    line = lines[-1] if lines else "kubectl failed and said nothing"
    if "(NotFound)" in line:
        return NotFound(line.partition(": ")[2] or line)
    if "doesn't have a resource type" in line:
        return CliError("this cluster has no paddle-operator: install it first (make deploy)")
    if ("connection" in line and "refused" in line) or "no such host" in line or "i/o timeout" in line:
        return CliError(
            f"the API server does not answer; is the cluster up, the context right? kubectl: {line}"
        )
    if "(Forbidden)" in line:
        return CliError(f"{line.partition(': ')[2] or line}: ask for a Role that allows it")
    return CliError(line)
