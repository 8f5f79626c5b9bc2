"""Which kind of cluster the commands work on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from hack.cluster import kind, node
from hack.cluster.console import ClusterError, Console


class Cluster(Protocol):
    """What every kind of cluster can do."""

    def up(self, *, console: Console) -> None:
        """Bring it up, or verify and repair it."""

    def down(self, *, console: Console) -> None:
        """Take it down."""

    def status(self, *, console: Console) -> bool:
        """Say how it is; True when all is well."""

    def load_image(self, archive: Path, *, console: Console) -> None:
        """Import a docker-archive."""


def choose() -> Cluster:
    """The kind of cluster that CLUSTER names: node (the default) or kind."""
    flavours: dict[str, Cluster] = {"node": node, "kind": kind}
    name = os.environ.get("CLUSTER") or "node"
    if name not in flavours:
        raise ClusterError(f"CLUSTER={name} is unknown: use node (the default) or kind")
    return flavours[name]
