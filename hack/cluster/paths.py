"""Where the local cluster keeps things.

Three places, and nothing outside them survives `down`:

- ``CACHE``: the user's cache folder. Programs, images and the containerd content; kept for the next ``up``.
- ``NODE`` and ``LOG`` under the checkout's ignored ``.local``: the cluster's data, keys, configuration, logs.
- ``RUN``: sockets, and the record of what was changed on the host. Fixed, because a host has room for one
  node only, and volatile, because a reboot undoes those changes.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddle-operator"
BIN = CACHE / "bin"
GO = CACHE / "go"
CONTAINERD_ROOT = CACHE / "containerd"

LOCAL = ROOT / ".local"
KUBECONFIG = LOCAL / "kubeconfig"
NODE = LOCAL / "node"
LOG = LOCAL / "log" / "node"
DEVICE_PLUGINS = NODE / "kubelet" / "device-plugins"
"""The kubelet's device-plugin folder as seen from the host; inside pods it is the usual
``/var/lib/kubelet/device-plugins``."""

RUN = Path("/run/paddle-operator")
CONTAINERD_SOCKET = RUN / "containerd.sock"
CONTAINERD_NAMESPACE = "k8s.io"

NODE_NAME = "paddle-node"
NODE_LABEL = "paddle-operator.local/node"
CNI_NETWORK = "paddle-local"
BRIDGE = "paddle0"
CGROUP = "paddle-local"
TOOL_IMAGE = "docker.io/library/paddle-nodetool:1"
"""An image of ours that is always on the node: pause, serve, resolve, get, eat, say (go/nodetool)."""


def kubectl() -> Path:
    """The kubectl of the running Python environment, else the one on PATH.

    Raises FileNotFoundError, with the remedy, when there is none.
    """
    beside = Path(sys.prefix) / "bin" / "kubectl"
    if beside.exists():
        return beside
    found = shutil.which("kubectl")
    if found is None:
        raise FileNotFoundError("kubectl is neither in the Python environment nor on PATH: run `make venv`")
    return Path(found)


def kubeconfig() -> Path:
    """KUBECONFIG when set, else the local cluster's."""
    return Path(os.environ.get("KUBECONFIG") or KUBECONFIG)
