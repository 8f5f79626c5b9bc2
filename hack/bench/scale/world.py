"""The cluster of the scale run: a real API server, controller-manager and scheduler; kwok plays the nodes."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import yaml
from aiohttp import web

import controller_runtime as ctrl
from controller_runtime.testing import Envtest, EnvtestError
from controller_runtime.testing._processes import Process, find_binary, free_ports
from hack.cluster import binaries
from hack.cluster.console import Console

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
OPERATOR = "scale-operator"
NODES = 10
PODS_ADDRESS = "127.0.0.2"
"""Every pod's: a loopback address that nothing else listens on, so the operator's prober needs no option."""
ADMIN_PORT = 8081
KWOK = binaries.Program(
    name="kwok", folder=str(HERE / "kwok"), package="sigs.k8s.io/kwok/cmd/kwok", module="sigs.k8s.io/kwok"
)
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": [OPERATOR], "verbs": ["create", "update", "patch", "delete"]},
        {"level": "None"},
    ],
}
_CONTROLLERS = (
    *("deployment-controller", "replicaset-controller", "garbage-collector-controller"),
    "disruption-controller",
)
_SCHEDULER = {
    "apiVersion": "kubescheduler.config.k8s.io/v1",
    "kind": "KubeSchedulerConfiguration",
    "leaderElection": {"leaderElect": False},
    "clientConnection": {"qps": 5000, "burst": 5000},
}


@contextmanager
def world(console: Console) -> Iterator[tuple[Envtest, list[Process]]]:
    """An API server whose audit log has the operator's writes, and the programs that turn Deployments into
    pods.
    """
    kwok = binaries.provide(KWOK, console=console)
    binaries.ensure(["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"], console=console)
    server = Envtest(
        crds=[ROOT / "config" / "crd"],
        audit=_AUDIT,
        apiserver_args=[
            "--service-cluster-ip-range=10.96.0.0/14",  # two Services a model
            "--disable-admission-plugins=TaintNodesByCondition",  # nobody here would take the taint away
        ],
        # Compaction comes every five minutes only, and history is what most of the space goes to.
        etcd_args=[f"--quota-backend-bytes={8 << 30}"],
    )
    processes: list[Process] = []
    with server as env, ExitStack() as stack:
        for command in (_controller_manager(env), _scheduler(env), _kwok(env, kwok)):
            process = Process(command, log_file(Path(command[0]).name))
            stack.callback(process.stop, kill=True)
            processes.append(process)
        yield env, [*env.processes, *processes]


def log_file(name: str) -> Path:
    """Where a program's output is kept, emptied; it outlives the run."""
    file = ROOT / ".local" / "bench" / f"scale-{name}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    return file


def _kubeconfig(env: Envtest, name: str) -> Path:
    env.user(name, ["system:masters"])
    return env.kubeconfig(env.directory / f"{name}.kubeconfig", user=name)


def _controller_manager(env: Envtest) -> Sequence[str | Path]:
    own = _kubeconfig(env, "controller-manager")
    (port,) = free_ports(1)
    return [
        find_binary("kube-controller-manager"),
        *(f"--kubeconfig={own}", f"--authentication-kubeconfig={own}", f"--authorization-kubeconfig={own}"),
        *("--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={env.directory / 'kcm'}"),
        *("--leader-elect=false", f"--controllers={','.join(_CONTROLLERS)}"),
        *(
            "--kube-api-qps=5000",
            "--kube-api-burst=5000",
            f"--flex-volume-plugin-dir={env.directory / 'flex'}",
        ),
        *("--concurrent-deployment-syncs=20", "--concurrent-replicaset-syncs=20"),
    ]


def _scheduler(env: Envtest) -> Sequence[str | Path]:
    own = _kubeconfig(env, "scheduler")
    (port,) = free_ports(1)
    file = env.directory / "scheduler.yaml"
    connection = {**_SCHEDULER["clientConnection"], "kubeconfig": os.fspath(own)}  # type: ignore[dict-item]
    file.write_text(yaml.safe_dump({**_SCHEDULER, "clientConnection": connection}))
    return [
        find_binary("kube-scheduler"),
        *(f"--config={file}", f"--authentication-kubeconfig={own}", f"--authorization-kubeconfig={own}"),
        *("--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={env.directory / 'scheduler'}"),
    ]


def _kwok(env: Envtest, program: Path) -> Sequence[str | Path]:
    file = env.directory / "stages.yaml"
    file.write_text((HERE / "stages.yaml").read_text().replace("ADDRESS", PODS_ADDRESS))
    (port,) = free_ports(1)
    return [
        program,
        *(f"--kubeconfig={_kubeconfig(env, 'kwok')}", f"--config={file}", "--manage-all-nodes=true"),
        *(
            "--node-ip=127.0.0.1",
            "--node-lease-duration-seconds=0",
            "-v=WARN",
            f"--server-address=127.0.0.1:{port}",
        ),
    ]


async def make_nodes(client: ctrl.Client) -> None:
    for number in range(NODES):
        name = f"kwok-{number}"
        labels = {"kubernetes.io/hostname": name, "type": "kwok"}
        await client.create(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}
        )


@asynccontextmanager
async def admin_stub() -> AsyncIterator[list[int]]:
    """Answers for every pod's admin port; the list's one item counts the requests."""
    asked = [0]

    async def progress(request: web.Request) -> web.Response:
        asked[0] += 1
        return web.json_response({"stage": "Ready", "models": []})

    application = web.Application()
    application.router.add_get("/progress", progress)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, PODS_ADDRESS, ADMIN_PORT).start()
        yield asked
    finally:
        await runner.cleanup()


class Operator:
    """`python -m controllers` as the user `OPERATOR`, with leader election, on ports of its own."""

    def __init__(self, env: Envtest, namespace: str, workers: int) -> None:
        self.metrics_port, self.health_port = free_ports(2)
        kubeconfig = _kubeconfig(env, OPERATOR)
        self._command = [
            *(sys.executable, "-P", "-m", "controllers", f"--kubeconfig={kubeconfig}"),
            *(
                f"--leader-election-namespace={namespace}",
                f"--workers={workers}",
                "--runtime-image=runtime:1",
            ),
            *(f"--health-address=127.0.0.1:{self.health_port}", "--allowed-endpoints=127.0.0.1"),
            f"--metrics-address=127.0.0.1:{self.metrics_port}",
        ]
        self._log = log_file("operator")
        self.process: Process | None = None

    def start(self) -> None:
        self.process = Process(self._command, self._log)

    @property
    def ended(self) -> bool:
        """By itself."""
        if self.process is None:
            return False
        try:
            self.process.check()
        except EnvtestError:
            return True
        return False

    def stop(self) -> None:
        """With SIGTERM, as a rollout of the operator does."""
        if self.process is not None:
            self.process.stop(timeout=60.0)
            self.process = None
