"""Brings the node up, takes it down, says how it is.

`up` is idempotent: on a healthy cluster it only looks. On one that is not (killed hard, half started, left by
a checkout that is gone) it ends everything that is left of it and starts again on the same data, so what was
deployed comes back. `down` ends everything and removes everything but the cache.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from hack.cluster import binaries, commands, config, files, host, images, packages, paths, probe, processes
from hack.cluster.config import Plan
from hack.cluster.console import ClusterError, Console
from hack.cluster.processes import Process

RUNNING = paths.RUN / "processes.json"
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "containerd",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
DNS_NAME = "kubernetes.default.svc.cluster.local"


def up(*, console: Console) -> None:
    """Bring the cluster up, or verify it. Raises ClusterError in one line when that cannot be."""
    _require_root()
    with _lock(console):
        plan = files.load_plan()
        if plan is not None and not problems(plan):
            console.say(f"the cluster is up: KUBECONFIG={paths.KUBECONFIG}")
            return
        _refuse_rivals()
        binaries.ensure(console=console)
        packages.ensure(console=console)
        if host.owner() or host.processes_in_cgroups():
            console.say("found a cluster that is not well: ending what is left of it, keeping its data")
            _end_everything()
        _start(plan, console)


def down(*, console: Console) -> None:
    """End the cluster and remove all it left, the cache apart. Nothing to do is fine."""
    _require_root()
    with _lock(console):
        _refuse_rivals()
        console.say("ending the cluster's processes and undoing its changes to this host")
        _end_everything()
        paths.KUBECONFIG.unlink(missing_ok=True)
        for folder in (paths.NODE, paths.LOG):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (paths.LOG.parent, paths.LOCAL):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only when it is empty
        console.say(f"the cluster is gone; programs and images stay in {paths.CACHE}")


def status(*, console: Console) -> bool:
    """Print every component; True when all is well."""
    plan = files.load_plan()
    if plan is None:
        console.say("there is no cluster here: `make cluster-up` makes one")
        return False
    running = processes.load(RUNNING)
    for name in COMPONENTS:
        process = running.get(name)
        alive = process is not None and process.is_alive()
        console.say(f"{name:<24} {f'pid {process.pid}' if process and alive else 'not running'}")
    found = problems(plan)
    for problem in found:
        console.say(f"problem: {problem}")
    if not found:
        console.say(f"all is well at {plan.server}: KUBECONFIG={paths.KUBECONFIG}")
    return not found


def load_image(archive: Path, *, console: Console) -> None:
    """Import a docker-archive into the running cluster's container runtime."""
    if not paths.CONTAINERD_SOCKET.exists():
        raise ClusterError("the cluster is not up: run `make cluster-up` first")
    images.load_archive(archive, console=console)


def problems(plan: Plan) -> list[str]:
    """What is wrong with the running cluster, the most basic first; empty when it is healthy."""
    running = processes.load(RUNNING)
    dead = [name for name in COMPONENTS if name not in running or not running[name].is_alive()]
    if dead:
        return [f"{name} is not running" for name in dead]
    if not paths.KUBECONFIG.exists():
        return [f"{paths.KUBECONFIG} is missing"]
    if not probe.api_ready(plan):
        return ["the API server is not ready"]
    if not probe.kubelet_healthy(plan):
        return ["the kubelet is not healthy"]
    if not probe.node_ready(probe.get(plan, f"/api/v1/nodes/{paths.NODE_NAME}")[1]):
        return ["the node is not Ready"]
    # One lost packet is no problem: three chances.
    if not any(probe.resolve(DNS_NAME) for _ in range(3)):
        return ["the cluster's DNS does not answer"]
    return []


# -- before anything is touched ---


def _require_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            "a node of our own needs root (cgroups, mounts, iptables): run it as root, "
            "or use CLUSTER=kind, or set KUBECONFIG to a cluster you have"
        )


def _refuse_rivals() -> None:
    alive = {name: process for name, process in processes.load(RUNNING).items() if process.is_alive()}
    owner = host.owner()
    if alive and owner != str(paths.ROOT) and Path(owner).is_dir():
        raise ClusterError(
            f"a cluster of the checkout {owner} runs on this host: run `make cluster-down` there first"
        )
    ours = {process.pid for process in alive.values()} | set(host.processes_in_cgroups())
    rivals = processes.find_kubelets(ours=ours)
    if rivals:
        raise ClusterError(
            f"a kubelet that is not ours runs on this host (pid {rivals[0]}): stop it, or use its cluster"
        )


@contextlib.contextmanager
def _lock(console: Console) -> Iterator[None]:
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with (paths.CACHE / "node.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("another command is at work on the cluster: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# -- up ---


class _Starter:
    """Starts components and writes down each one's identity at once, so that no crash can lose it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.groups = host.make_cgroups()
        self.running: dict[str, Process] = {}

    def start(self, command: list[str], *, mounts_of: int | None = None, setup: str = "") -> Process:
        name = Path(command[0]).name
        log = paths.LOG / f"{name}.log"
        try:
            process = processes.spawn(command, log=log, groups=self.groups, mounts_of=mounts_of, setup=setup)
        except RuntimeError as error:
            raise ClusterError(str(error)) from error
        self.running[name] = process
        processes.save(RUNNING, self.running)
        return process

    def wait(self, what: str, name: str, condition: probe.Condition, *, timeout: float = 60.0) -> None:
        """Wait for a condition that the component ``name`` brings about; its death ends the wait."""

        def settled() -> bool:
            return condition() or not self.running[name].is_alive()

        probe.wait(settled, timeout=timeout)
        if not condition():
            state = "ended" if not self.running[name].is_alive() else f"did not get there in {timeout:.0f} s"
            raise ClusterError(f"{what}: {name} {state}: {processes.last_line(paths.LOG / f'{name}.log')}")
        self.console.say(what)


def _start(plan: Plan | None, console: Console) -> None:
    plan = plan or files.make_plan()
    files.write(plan, now=datetime.datetime.now(datetime.UTC))
    host.prepare()
    host.make_bridge(plan.node_ip, files.prefix_length(plan), plan.mtu)
    starter = _Starter(console)
    control_plane, node = commands.control_plane(plan), commands.node(plan)
    starter.start(control_plane["etcd"])
    starter.start(control_plane["kube-apiserver"])
    containerd = _start_containerd(starter)
    starter.wait("API server ready", "kube-apiserver", lambda: probe.api_ready(plan), timeout=120.0)
    began = time.time()
    for name in ("kube-controller-manager", "kube-scheduler"):
        starter.start(control_plane[name])
    starter.start(node["kubelet"], mounts_of=containerd.pid)
    starter.start(node["kube-proxy"])
    _apply(paths.NODE / "coredns.yaml")
    node_path = f"/api/v1/nodes/{paths.NODE_NAME}"
    starter.wait(
        "node Ready", "kubelet", lambda: probe.node_ready(probe.get(plan, node_path)[1], since=began)
    )
    starter.wait("cluster DNS answers", "kubelet", lambda: bool(probe.resolve(DNS_NAME)))
    console.say(f"the cluster is up: KUBECONFIG={paths.KUBECONFIG}")


def _start_containerd(starter: _Starter) -> Process:
    """Start containerd on its kept content, without the containers that a hard kill may have left in it."""
    command = ["containerd", "--config", str(paths.NODE / "containerd.toml")]

    def start() -> Process:
        process = starter.start(command, setup=host.mount_script())
        starter.wait("containerd ready", "containerd", _containerd_answers)
        return process

    process = start()
    if left := images.ctr("containers", "list", "--quiet").split():
        images.ctr("containers", "delete", *left)
        processes.end(lambda: [process.pid], grace=5.0)
        process = start()  # it reads its list of containers only at the start
    for name, reference in (("nodetool", paths.TOOL_IMAGE), ("coredns", config.COREDNS_IMAGE)):
        images.load_archive(images.write_program(name, reference), console=starter.console)
    return process


def _containerd_answers() -> bool:
    try:
        images.ctr("version")
    except ClusterError:
        return False
    return True


def _apply(manifest: Path) -> None:
    command = [
        str(paths.kubectl()),
        "--kubeconfig",
        str(paths.KUBECONFIG),
        "apply",
        "--server-side",
        "-f",
        str(manifest),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60.0)
    if done.returncode:
        raise ClusterError(
            f"{manifest.name} was not accepted: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
        )


# -- down ---


def _end_everything() -> None:
    """End every process of ours, first those that would start others again; then undo the host's changes."""
    running = processes.load(RUNNING)

    def of(*names: str) -> list[int]:
        return [process.pid for name, process in running.items() if name in names and process.is_alive()]

    processes.end(lambda: of("kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"))
    processes.end(lambda: host.processes_in_cgroups(pods_only=True))
    if of("containerd"):
        _forget_containers()
        processes.end(lambda: of("containerd"), grace=3.0)
    left = processes.end(lambda: [*of(*COMPONENTS), *host.processes_in_cgroups()])
    if left:
        raise ClusterError(f"process {left[0]} cannot be ended (is its disk or network file system stuck?)")
    host.restore()
    host.remove_cgroups()


def _forget_containers() -> None:
    """Take the dead containers off containerd's list; whatever resists goes at the next start."""
    with contextlib.suppress(ClusterError):
        if containers := images.ctr("containers", "list", "--quiet").split():
            with contextlib.suppress(ClusterError):  # it may have noticed their death itself
                images.ctr("tasks", "delete", "--force", *containers)
            images.ctr("containers", "delete", *containers)
