"""Shows `kubectl get paddlemodels -w` while waiting for a model."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from hack.deploy.kubectl import Kubectl, KubectlError, number, text

KIND = "paddlemodels.serving.paddlepaddle.org"


class NotReady(Exception):
    """The model did not become ready; the text is the operator's own one line."""


@contextlib.contextmanager
def shown(kubectl: Kubectl, namespace: str, name: str) -> Iterator[None]:
    """Prints kubectl's watch for as long as the block lasts."""
    print(f"  $ kubectl get paddlemodels {name} -w", flush=True)
    command = kubectl.command("get", KIND, name, "-n", namespace, "-w")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout

        def copy() -> None:
            last = ""
            for line in lines:
                # The AGE column alone is no news.
                news = line.rstrip().rpartition(" ")[0].rstrip()
                if news != last:
                    last = news
                    print(f"  {line}", end="", flush=True)

        copier = threading.Thread(target=copy, daemon=True)
        copier.start()
        try:
            yield
            time.sleep(0.3)  # the watch may be a moment behind
        finally:
            process.terminate()
            copier.join(timeout=5.0)
            sys.stdout.flush()


def wait_ready(kubectl: Kubectl, namespace: str, name: str, *, timeout: float = 180.0) -> str:
    """Waits until the newest spec of the model is Ready; returns its URL.

    Raises NotReady at the deadline or when the operator says Failed, with its message.
    """
    deadline = time.monotonic() + timeout
    while True:
        item = kubectl.get(KIND, name, "-n", namespace)
        status = item.get("status")
        current = number(status, "observedGeneration") == number(item, "metadata", "generation")
        phase = text(status, "phase")
        if current and phase == "Ready":
            return text(status, "url")
        if current and phase == "Failed":
            raise NotReady(f"{name}: {text(status, 'message')}")
        if time.monotonic() > deadline:
            raise NotReady(
                f"{name} is {phase or 'not looked at'} after {timeout:.0f} s: {text(status, 'message')}"
            )
        time.sleep(0.3)


def wait_gone(kubectl: Kubectl, namespace: str, selector: str, *, timeout: float = 60.0) -> int:
    """Waits until no pod is ending any more; returns how many still are at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            pods = kubectl.items("pods", "-n", namespace, "-l", selector)
        except KubectlError:
            pods = []
        ending = sum(1 for pod in pods if text(pod, "metadata", "deletionTimestamp"))
        if not ending or time.monotonic() > deadline:
            return ending
        time.sleep(0.5)
