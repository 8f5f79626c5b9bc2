"""The plugin as one file, started by a real kubectl."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from hack.cluster import paths
from hack.plugin import PluginError, build, sources


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "kubectl-paddle"
    build(path)
    return path


def kubectl(plugin: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`kubectl paddle canary ...` with nothing but the plugin, kubectl and the system's own programs."""
    path = f"{plugin.parent}:{Path(paths.kubectl()).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [str(paths.kubectl()), "paddle", "canary", *arguments],
        env={"PATH": path, "HOME": str(plugin.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_it_runs_from_anywhere_and_says_what_it_can(plugin: Path) -> None:
    done = kubectl(plugin, "--help")
    assert done.returncode == 0, done.stderr
    for word in ("status", "promote", "pause", "resume", "abort", "retry", "history", "explain"):
        assert f"\n    {word} " in done.stdout


def test_without_a_cluster_it_says_so_in_one_line(plugin: Path) -> None:
    done = kubectl(plugin, "status", "ocr", "--kubeconfig", str(plugin.parent / "none"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_same_sources_give_the_same_bytes(plugin: Path, tmp_path: Path) -> None:
    build(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == plugin.read_bytes()
    assert plugin.stat().st_mode & 0o111
    with zipfile.ZipFile(plugin) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_a_package_that_python_does_not_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "__init__.py").write_text("")
    (tmp_path / "cli" / "main.py").write_text("import msgspec\n")
    with pytest.raises(PluginError, match="No module named 'msgspec'"):
        sources(tmp_path)
