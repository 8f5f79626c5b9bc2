"""`python -m controllers`: flags -> manager -> controllers -> run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Sequence

import uvloop

import controller_runtime as ctrl
from artifacts import EndpointPolicy

from . import caches
from .analysis.server import Server, parse_all
from .canaryanalysis.setup import setup as setup_canaryanalysis
from .kinds import FIELD_MANAGER
from .options import Options
from .paddlemodel.reconciler import setup as setup_paddlemodel
from .paddleservice.setup import setup as setup_paddleservice
from .traffic.options import TrafficOptions

_M_MMAP_THRESHOLD = -3


def parser() -> argparse.ArgumentParser:
    """Every flag, its default and what it is for; PADDLE_* in the environment are defaults."""
    flags = argparse.ArgumentParser(prog="python -m controllers", description="The paddle-operator.")
    flags.add_argument(
        "--kubeconfig", default=None, help="unset: the pod's own service account, else ~/.kube/config"
    )
    flags.add_argument(
        "--watch-namespaces",
        default="",
        metavar="A,B",
        help="only these namespaces (Roles are enough); empty: all (a ClusterRole is needed)",
    )
    flags.add_argument("--leader-election", action=argparse.BooleanOptionalAction, default=True)
    flags.add_argument(
        "--leader-election-namespace",
        default=os.environ.get("POD_NAMESPACE", "paddle-system"),
        help="where the Lease lives",
    )
    flags.add_argument("--health-address", default="0.0.0.0:8081", metavar="HOST:PORT")
    flags.add_argument("--metrics-address", default="0.0.0.0:8080", metavar="HOST:PORT")
    flags.add_argument("--workers", type=_positive, default=16, help="reconciles at once, per controller")
    flags.add_argument(
        "--runtime-image",
        default=os.environ.get("PADDLE_RUNTIME_IMAGE", ""),
        help="image of new revisions whose spec names none (or PADDLE_RUNTIME_IMAGE)",
    )
    flags.add_argument(
        "--runtime-version",
        default=os.environ.get("PADDLE_RUNTIME_VERSION", "3.3.1"),
        help="the Paddle version inside that image; compatibility.runtime is compared with it",
    )
    flags.add_argument(
        "--image-pull-policy", choices=("IfNotPresent", "Always", "Never"), default="IfNotPresent"
    )
    flags.add_argument(
        "--minio-endpoint",
        default="http://minio.minio.svc:9000",
        metavar="URL",
        help="where minio://bucket/key points",
    )
    flags.add_argument(
        "--allowed-endpoints",
        default="",
        metavar="HOST[:PORT]|CIDR,...",
        help="endpoints that models may name although they are loopback, link-local or metadata addresses",
    )
    flags.add_argument(
        "--prometheus",
        action="append",
        default=[],
        metavar="[NAME=]URL[,tokenFile=PATH][,caFile=PATH]",
        help="a Prometheus server that canaries may be judged by; again for others. Without NAME: default",
    )
    flags.add_argument(
        "--allow-custom-promql",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="let canaries be judged by queries of users, which may read whatever that server holds",
    )
    flags.add_argument("--resolve-timeout", type=_seconds, default=8.0, metavar="SECONDS")
    flags.add_argument("--drift-interval", type=_seconds, default=600.0, metavar="SECONDS")
    flags.add_argument(
        "--router-image",
        default=os.environ.get("PADDLE_ROUTER_IMAGE", ""),
        help="image of the Envoy routers (or PADDLE_ROUTER_IMAGE); empty: traffic provider Envoy is refused",
    )
    flags.add_argument(
        "--ads-address",
        type=_address,
        default="0.0.0.0:18000",
        metavar="HOST:PORT",
        help="where the leader serves the routers; they find it at POD_IP",
    )
    flags.add_argument(
        "--settle-time",
        type=_seconds,
        default=15.0,
        metavar="SECONDS",
        help="after endpoints or weights have changed, until every client is taken to follow; no less than "
        "the proxies of the slowest node need",
    )
    flags.add_argument("--graceful-timeout", type=_seconds, default=30.0, metavar="SECONDS")
    flags.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return flags


def options(arguments: argparse.Namespace) -> Options:
    """The typed options of the controllers. Raises SystemExit naming the flag that is wrong."""
    if not arguments.runtime_image:
        parser().error("--runtime-image is empty: name the inference image, or set PADDLE_RUNTIME_IMAGE")
    return Options(
        runtime_image=arguments.runtime_image,
        runtime_version=arguments.runtime_version,
        image_pull_policy=arguments.image_pull_policy,
        minio_endpoint=arguments.minio_endpoint,
        endpoint_policy=EndpointPolicy(allow=_list(arguments.allowed_endpoints)),
        resolve_timeout=arguments.resolve_timeout,
        drift_interval=arguments.drift_interval,
        traffic=TrafficOptions(
            image=arguments.router_image,
            pull_policy=arguments.image_pull_policy,
            address=arguments.ads_address,
            advertise=os.environ.get("POD_IP", ""),
            namespace=arguments.leader_election_namespace,
        ),
        workers=arguments.workers,
        settle=arguments.settle_time,
        prometheus=_servers(arguments.prometheus),
        allow_custom_promql=arguments.allow_custom_promql,
    )


def namespaces(arguments: argparse.Namespace) -> list[str] | None:
    """The namespaces to watch, or None for all."""
    return list(_list(arguments.watch_namespaces)) or None


def setup(manager: ctrl.Manager, chosen: Options) -> None:
    """Adds every controller to `manager`; the tests run the same."""
    caches.configure(manager)
    setup_paddlemodel(manager, chosen)
    setup_paddleservice(manager, chosen)
    setup_canaryanalysis(manager, chosen)


async def run(arguments: argparse.Namespace) -> int:
    """Runs until a signal; the exit code says whether the end was asked for."""
    chosen = options(arguments)
    config = (
        ctrl.Config.load(arguments.kubeconfig)
        if arguments.kubeconfig or "KUBERNETES_SERVICE_HOST" not in os.environ
        else ctrl.Config.from_in_cluster()
    )
    election = (
        ctrl.LeaderElection(name=FIELD_MANAGER, namespace=arguments.leader_election_namespace)
        if arguments.leader_election
        else None
    )
    manager = ctrl.Manager(
        config,
        field_manager=FIELD_MANAGER,
        leader_election=election,
        namespaces=namespaces(arguments),
        health_address=arguments.health_address,
        metrics_address=arguments.metrics_address,
        graceful_timeout=arguments.graceful_timeout,
    )
    setup(manager, chosen)
    return await manager.run_until_signal()


def return_large_blocks() -> None:
    """Make this process's large blocks come from the system and go back to it.

    glibc raises the limit to the largest block it saw freed; the pages of the first lists then leave holes of
    megabytes in the heap, a fifth of what thousands of cached objects take.
    """
    with contextlib.suppress(AttributeError, OSError):  # not glibc: nothing to set
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


def main(argv: Sequence[str] | None = None) -> int:
    return_large_blocks()
    arguments = parser().parse_args(argv)
    ctrl.configure_logging(level=arguments.log_level)
    return uvloop.run(run(arguments)) if sys.platform != "win32" else asyncio.run(run(arguments))


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _servers(flags: Sequence[str]) -> tuple[Server, ...]:
    try:
        return parse_all(flags)
    except ValueError as problem:
        parser().error(f"--prometheus: {problem}")


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text} must be HOST:PORT")
    return text


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0 seconds")
    return value


if __name__ == "__main__":
    sys.exit(main())
