"""What node tests do on a host where no node can run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from hack.cluster import paths

# A user without root, a cluster or kind.
RUN = """
import os, pathlib, sys
os.geteuid = lambda: 1000
from hack.cluster import paths
paths.KUBECONFIG = pathlib.Path(sys.argv[1])
import pytest
options = ["-q", "-rs", "-p", "no:cacheprovider", "-p", "no:cov", *sys.argv[2:]]
sys.exit(pytest.main(["e2e/test_cluster.py", *options]))
"""


def pytest_without_a_node(kubeconfig: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("KUBECONFIG", "CLUSTER", "REQUIRE_NODE")
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(kubeconfig), *arguments],
        env={**kept, "PYTHONPATH": str(paths.ROOT), **environment},
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120.0,
    )
    return done.returncode, done.stdout


def test_all_node_tests_together_are_one_named_skip(tmp_path: Path) -> None:
    code, text = pytest_without_a_node(tmp_path / "absent")
    assert code == 0, text
    assert "1 skipped" in text
    assert re.search(r"\b[2-9] node tests: needs a Kubernetes node: run as root, or set KUBECONFIG", text)
    assert "passed" not in text


def test_a_required_node_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    code, text = pytest_without_a_node(tmp_path / "absent", "-k", "ready", REQUIRE_NODE="1")
    assert code == 1, text
    assert "no cluster to test on: a node of our own needs root" in text


def test_a_named_cluster_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("apiVersion: v1\nkind: Config\n")
    named = {"KUBECONFIG": str(tmp_path / "kubeconfig")}
    code, text = pytest_without_a_node(tmp_path / "absent", "-k", "ready", **named)
    assert code == 1, text
    assert "names a cluster that does not answer: start it, or unset it" in text
