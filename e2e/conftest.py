"""The cluster that end-to-end tests run on: whichever there is, else one of our own.

Tests take a kubeconfig path and do not know which cluster is behind it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hack.cluster import ClusterError, Console, binaries, flavour, images, paths

WITHOUT_NODE = "needs a Kubernetes node: run as root, or set KUBECONFIG, or use CLUSTER=kind"


def node_is_possible() -> bool:
    """Whether there is a cluster, or one can be made: by name, by being there already, or by us as root."""
    return bool(
        os.environ.get("KUBECONFIG")
        or os.geteuid() == 0
        or os.environ.get("CLUSTER") == "kind"
        or (paths.KUBECONFIG.exists() and answers(paths.KUBECONFIG))
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where no node can run, all node tests are one named skip; with REQUIRE_NODE=1 they run, and fail.

    The tests that take the cluster down and up again run only when they are asked for (`-m slow`): they must
    not meet tests that use it.
    """
    if "slow" not in (config.option.markexpr or ""):
        _deselect(config, items, [item for item in items if item.path.name == "test_cluster_lifecycle.py"])
    if node_is_possible() or os.environ.get("REQUIRE_NODE") == "1":
        return
    needing = [item for item in items if item.get_closest_marker("cluster")]
    if needing:
        needing[0].add_marker(pytest.mark.skip(reason=f"{len(needing)} node tests: {WITHOUT_NODE}"))
        _deselect(config, items, needing[1:])


def _deselect(config: pytest.Config, items: list[pytest.Item], dropped: Sequence[pytest.Item]) -> None:
    if dropped:
        config.hook.pytest_deselected(items=list(dropped))
        gone = set(map(id, dropped))
        items[:] = [item for item in items if id(item) not in gone]


def kubectl(kubeconfig: Path, arguments: Sequence[str], *, timeout: float = 60.0, stdin: str = "") -> str:
    """Run kubectl; what it prints. A failure fails the test with what kubectl said."""
    done = subprocess.run(
        [str(paths.kubectl()), "--kubeconfig", str(kubeconfig), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout


def answers(kubeconfig: Path) -> bool:
    """Whether an API server behind this kubeconfig says that it is ready."""
    command = [
        str(paths.kubectl()),
        "--kubeconfig",
        str(kubeconfig),
        "get",
        "--raw=/readyz",
        "--request-timeout=5s",
    ]
    return subprocess.run(command, capture_output=True, check=False, timeout=30.0).returncode == 0


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """The kubeconfig of a cluster that answers. One that we bring up ourselves is taken down at the end."""
    named = os.environ.get("KUBECONFIG")
    if named:
        assert answers(Path(named)), (
            f"KUBECONFIG={named} names a cluster that does not answer: start it, or unset it"
        )
        yield Path(named)
        return
    if paths.KUBECONFIG.exists() and answers(paths.KUBECONFIG):
        yield paths.KUBECONFIG
        return
    try:
        ours = flavour.choose()
        ours.up(console=Console())
    except ClusterError as error:
        pytest.fail(f"no cluster to test on: {error}")
    try:
        yield paths.KUBECONFIG
    finally:
        ours.down(console=Console())


@pytest.fixture(scope="session")
def node_tool(cluster: Path) -> str:
    """The reference of our test image (serve, resolve, get, eat, say), there on every node."""
    if not paths.CONTAINERD_SOCKET.exists():
        binaries.ensure(["nodetool"], console=Console())
        archive = images.write_program("nodetool", paths.TOOL_IMAGE)
        flavour.choose().load_image(archive, console=Console())
    return paths.TOOL_IMAGE
