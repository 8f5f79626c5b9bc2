"""Prepares the machine and runs the whole suite once.

    python -m hack.test [pytest arguments]

As root: the binaries, a node and the images come first (each is a no-op when it is already there), so that no
test waits for a build, and a node that was started here is taken down again. Without root the binaries are
built and the node's tests are one named skip, unless REQUIRE_NODE=1, which makes them an error.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Three processes on two cores: one for the node's tests, and those of API servers wait for half of their time
# (conftest.py says who runs what).
WHOLE = (
    *("-n", "3"),
    "--cov",
    "--cov-config=pyproject.toml",
    "--cov-report=term:skip-covered",
    "--durations=15",
    "-m",
    "not slow",
)


def step(title: str, *command: str) -> None:
    """Runs one preparation; its failure ends the run with its own exit code."""
    started = time.monotonic()
    print(f"==> {title}", flush=True)
    code = subprocess.run([sys.executable, "-m", *command], cwd=ROOT).returncode
    if code:
        print(f"==> {title}: failed with exit code {code}", flush=True)
        sys.exit(code)
    print(f"==> {title}: {time.monotonic() - started:.0f} s", flush=True)


def node_answers() -> bool:
    """Whether a cluster that is not ours to stop answers already."""
    if os.environ.get("KUBECONFIG"):
        return True
    status = subprocess.run(
        [sys.executable, "-m", "hack.cluster", "status"], cwd=ROOT, capture_output=True, timeout=60
    )
    return status.returncode == 0


def main(arguments: Sequence[str]) -> int:
    root = os.geteuid() == 0
    required = os.environ.get("REQUIRE_NODE") == "1"
    whole = not any(not argument.startswith("-") for argument in arguments)
    if required and not root and not os.environ.get("KUBECONFIG"):
        print("REQUIRE_NODE=1, but a node needs root: run as root, or name a cluster with KUBECONFIG")
        return 1
    started_here = False
    step("binaries", "hack.cluster", "binaries")
    try:
        if root and whole:
            if not node_answers():
                started_here = True
                step("node", "hack.cluster", "up")
            step("images", "hack.images", "all")
        options = WHOLE if whole else ()
        return subprocess.run([sys.executable, "-m", "pytest", *options, *arguments], cwd=ROOT).returncode
    finally:
        if started_here:
            subprocess.run([sys.executable, "-m", "hack.cluster", "down"], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
