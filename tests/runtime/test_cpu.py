from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime import cpu


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_quota_it_is_the_affinity(tmp_path: Path) -> None:
    assert cpu.available(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("group", "file"), [("/", "cpu.max"), ("/pods/a", "pods/a/cpu.max"), ("/pods/a", "pods/cpu.max")]
)
def test_cgroup_v2_quota_anywhere_on_the_way_up(tmp_path: Path, group: str, file: str) -> None:
    write(tmp_path, "proc/self/cgroup", f"0::{group}\n")
    write(tmp_path, f"sys/fs/cgroup/{file}", "50000 100000\n")
    assert cpu.available(tmp_path) == 0.5
    assert cpu.threads(1, root=tmp_path) == 1


def test_cgroup_v2_max_is_no_limit(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert cpu.available(tmp_path) == len(os.sched_getaffinity(0))


def test_cgroup_v1_quota(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/kubepods/x\n1:memory:/kubepods/x\n")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/kubepods/x/cpu.cfs_quota_us", "75000\n")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/kubepods/x/cpu.cfs_period_us", "100000\n")
    assert cpu.available(tmp_path) == 0.75


@pytest.mark.parametrize("text", ["-1\n", "nonsense\n"])
def test_cgroup_v1_without_a_quota(tmp_path: Path, text: str) -> None:
    write(tmp_path, "proc/self/cgroup", "3:cpu:/\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", text)
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cpu.available(tmp_path) == len(os.sched_getaffinity(0))


def test_threads_are_shared_between_workers_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [cpu.threads(n, root=tmp_path) for n in (1, 2, 3, 20)] == [8, 4, 2, 1]
    assert cpu.threads(4, 6, root=tmp_path) == 6
