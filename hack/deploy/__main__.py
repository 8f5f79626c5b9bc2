"""`python -m hack.deploy install | up | down | dry-run`, on the cluster of KUBECONFIG or the local node."""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from hack.cluster import paths
from hack.deploy import dry_run, render, rollout
from hack.deploy.kubectl import JSON, Kubectl, KubectlError, text
from hack.deploy.rollout import RolloutError
from hack.images import build, names

MANAGER = "paddle-deploy"
CONFIG = paths.ROOT / "config"
PROMETHEUS = "http://prometheus.paddle-monitoring.svc:9090"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m hack.deploy", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="only the CRDs")
    up = commands.add_parser("up", help="CRDs and the operator; waits until it runs")
    up.add_argument("--watch-namespaces", default="", metavar="A,B", help="Roles there, and no ClusterRole")
    up.add_argument("--operator-image", default=os.environ.get("OPERATOR_IMAGE", ""))
    up.add_argument("--runtime-image", default=os.environ.get("RUNTIME_IMAGE", ""))
    up.add_argument("--router-image", default=os.environ.get("ROUTER_IMAGE", ""))
    up.add_argument("--minio-endpoint", default=os.environ.get("MINIO_ENDPOINT", ""), metavar="URL")
    up.add_argument(
        "--prometheus",
        default=os.environ.get("PROMETHEUS_URL", ""),
        metavar="URL",
        help="what judges canaries; on a local cluster its own add-on",
    )
    up.add_argument("--replicas", type=int, default=None)
    up.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    up.add_argument("--arg", action="append", default=[], help="one more argument for the operator")
    commands.add_parser("down", help="every model and service, the operator, the CRDs")
    commands.add_parser("dry-run", help="have a temporary API server judge every manifest")
    return result


def local_image(kubectl: Kubectl, name: str) -> str:
    """On our own node the tag that names the newest build's content, so that a new build rolls out."""
    ours = kubectl.kubeconfig == paths.KUBECONFIG and os.environ.get("CLUSTER") != "kind"
    return build.pinned(name) if ours else ""


def local_prometheus(kubectl: Kubectl) -> str:
    """The add-on in config/local/prometheus, where it is that of a cluster of ours."""
    ours = kubectl.kubeconfig == paths.KUBECONFIG or os.environ.get("CLUSTER") == "kind"
    return PROMETHEUS if ours else ""


def install(kubectl: Kubectl) -> None:
    definitions = kubectl.kustomize(CONFIG / "crd")
    kubectl.apply(definitions, manager=MANAGER)
    found = [f"crd/{text(item, 'metadata', 'name')}" for item in definitions]
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *found)


def up(kubectl: Kubectl, options: render.Options, *, timeout: float = 120.0) -> float:
    """Applies everything and waits for the operator; returns the seconds it took.

    Raises KubectlError or RolloutError, which say what was refused or what blocks.
    """
    started = time.monotonic()
    install(kubectl)
    objects = render.render(
        kubectl.kustomize(CONFIG / "default"), kubectl.kustomize(CONFIG / "rbac" / "namespaced"), options
    )
    rest = [item for item in objects if item.get("kind") != "CustomResourceDefinition"]
    if options.watch_namespaces:
        kubectl.run("delete", "clusterrole,clusterrolebinding", "-l", render.PART_OF, "--ignore-not-found")
    kubectl.apply(namespaces_first(rest), manager=MANAGER)
    rollout.wait(kubectl, render.NAMESPACE, render.NAME, timeout=timeout)
    return time.monotonic() - started


def namespaces_first(objects: Sequence[JSON]) -> list[JSON]:
    return sorted(objects, key=lambda item: item.get("kind") != "Namespace")


def down(kubectl: Kubectl) -> None:
    """Models first, so that the operator still tidies up after them."""
    kinds = "paddlemodels.serving.paddlepaddle.org,paddleservices.serving.paddlepaddle.org"
    if kubectl.call("get", kinds, "-A").returncode == 0:
        deleted = kubectl.call("delete", kinds, "-A", "--all", "--timeout=60s", timeout=90.0)
        if deleted.returncode != 0:
            print("deploy: some objects did not go within 60 s: taking their finalizers away")
            for item in kubectl.items(kinds, "-A"):
                where = ["-n", text(item, "metadata", "namespace"), text(item, "metadata", "name")]
                patch = '{"metadata": {"finalizers": null}}'
                kubectl.call("patch", text(item, "kind").lower(), *where, "--type=merge", "-p", patch)
    routers = "deployments,configmaps,poddisruptionbudgets,networkpolicies"
    chosen = "serving.paddlepaddle.org/role=router"
    kubectl.run("delete", routers, "-A", "-l", chosen, "--ignore-not-found", "--wait=false")
    roles = ["role,rolebinding", "-A", "-l", render.PART_OF]
    kubectl.run("delete", *roles, "--ignore-not-found")
    kubectl.run("delete", "-k", str(CONFIG / "default"), "--ignore-not-found", "--timeout=90s", timeout=120.0)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        if options.command == "dry-run":
            return dry_run.run()
        kubectl = Kubectl()
        if problem := kubectl.reachable():
            raise KubectlError(problem)
        if options.command == "install":
            install(kubectl)
            print("deploy: the CRDs are installed")
        elif options.command == "down":
            down(kubectl)
            print("deploy: removed")
        else:
            wanted = render.Options(
                operator_image=options.operator_image or local_image(kubectl, names.OPERATOR),
                runtime_image=options.runtime_image or local_image(kubectl, names.RUNTIME),
                router_image=options.router_image or local_image(kubectl, names.ROUTER),
                minio_endpoint=options.minio_endpoint,
                prometheus=options.prometheus or local_prometheus(kubectl),
                watch_namespaces=tuple(filter(None, options.watch_namespaces.split(","))),
                replicas=options.replicas,
                arguments=tuple(options.arg),
            )
            seconds = up(kubectl, wanted, timeout=options.timeout)
            print(f"deploy: the operator runs in namespace {render.NAMESPACE} ({seconds:.1f} s)")
    except (KubectlError, RolloutError) as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
