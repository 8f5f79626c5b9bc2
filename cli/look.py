"""Reads one service from the cluster."""

from collections.abc import Callable, Sequence

from .cluster import ANALYSES, LABEL_SERVICE, MODELS, SERVICES, Cluster
from .errors import CliError, NotFound
from .reading import Reading, Wire, mapping, read, text


def service(cluster: Cluster, name: str) -> Wire:
    """The PaddleService of that name, which may belong to a PaddleModel of the same name."""
    try:
        return cluster.get(SERVICES, name)
    except NotFound:
        pass
    try:
        model = cluster.get(MODELS, name)
    except NotFound:
        raise CliError(
            f"there is no PaddleService or PaddleModel {name!r} in namespace {cluster.namespace}: "
            "kubectl get paddleservices -A lists them"
        ) from None
    status = mapping(model.get("status"))
    said = text(status.get("message")) or f"it is in phase {text(status.get('phase')) or 'none'}"
    raise CliError(f"PaddleModel {name} serves nothing yet: {said}")


def look(cluster: Cluster, name: str, now: Callable[[], float]) -> Reading:
    """Everything about one service. Who may not see pods or analyses is told so, and sees the rest."""
    found = service(cluster, name)
    others: Sequence[Wire] = ()
    trouble = ""
    try:
        others = cluster.list([ANALYSES, "deployments.apps", "pods"], f"{LABEL_SERVICE}={name}")
    except CliError as error:
        trouble = f"pods and analyses are not shown: {error}"
    return read(found, others, now(), trouble=trouble)
