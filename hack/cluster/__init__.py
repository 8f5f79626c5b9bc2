"""A real Kubernetes node on this host: `python -m hack.cluster up|down|status|binaries|load`."""

from pathlib import Path

from hack.cluster.console import ClusterError, Console

__all__ = ["ClusterError", "Console", "load_image"]


def load_image(archive: Path, *, console: Console | None = None) -> None:
    """Import a docker-archive into the cluster of this environment (CLUSTER=node or kind).

    Quick when the same images are there already. Raises ClusterError, in one line, when it cannot be.
    """
    from hack.cluster.flavour import choose

    choose().load_image(archive, console=console or Console())
