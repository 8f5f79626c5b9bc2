"""The same commands on kind, for hosts with Docker and a network (CLUSTER=kind)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from hack.cluster import paths
from hack.cluster.console import ClusterError, Console

CONFIG = Path(__file__).with_name("kind.yaml")
NAME = "paddle-operator"


def up(*, console: Console) -> None:
    """Create the kind cluster, or find it there; its kubeconfig goes to the usual place, never to ~/.kube."""
    _require()
    if NAME in _clusters():
        _kind("export", "kubeconfig", "--name", NAME, "--kubeconfig", str(paths.KUBECONFIG))
        console.say(f"the kind cluster {NAME} is up: KUBECONFIG={paths.KUBECONFIG}")
        return
    console.say(f"creating the kind cluster {NAME} (pulls its node image the first time)")
    paths.LOCAL.mkdir(exist_ok=True)
    _kind(
        "create", "cluster", "--config", str(CONFIG), "--kubeconfig", str(paths.KUBECONFIG), "--wait", "180s"
    )
    console.say(f"the cluster is up: KUBECONFIG={paths.KUBECONFIG}")


def down(*, console: Console) -> None:
    """Delete the kind cluster; nothing to do is fine."""
    _require()
    _kind("delete", "cluster", "--name", NAME, "--kubeconfig", str(paths.KUBECONFIG))
    paths.KUBECONFIG.unlink(missing_ok=True)
    console.say(f"the kind cluster {NAME} is gone")


def status(*, console: Console) -> bool:
    """Say whether the cluster exists."""
    _require()
    exists = NAME in _clusters()
    console.say(f"the kind cluster {NAME} is {'up' if exists else 'not there'}")
    return exists


def load_image(archive: Path, *, console: Console) -> None:
    """Load a docker-archive into every node of the kind cluster."""
    _require()
    _kind("load", "image-archive", str(archive), "--name", NAME)
    console.say(f"loaded {archive.name}")


def _require() -> None:
    for program, remedy in (("docker", "install Docker"), ("kind", "install kind")):
        if shutil.which(program) is None:
            raise ClusterError(
                f"CLUSTER=kind needs {program}, which is not on PATH: {remedy}, or use CLUSTER=node"
            )
    try:
        subprocess.run(["docker", "info"], capture_output=True, check=True, timeout=30.0)
    except (subprocess.SubprocessError, OSError) as error:
        raise ClusterError(
            "CLUSTER=kind needs a running Docker, and `docker info` fails: start it, or use CLUSTER=node"
        ) from error


def _clusters() -> list[str]:
    return _kind("get", "clusters").split()


def _kind(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["kind", *arguments], capture_output=True, text=True, check=False, timeout=900.0
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"kind {arguments[0]} did not end in 900 s: is its image being pulled?") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ClusterError(f"kind {' '.join(arguments[:2])} failed: {reason}")
    return done.stdout
