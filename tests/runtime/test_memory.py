"""Whether a second generation fits: the rule, and what is read of the system for it."""

from __future__ import annotations

from pathlib import Path

from runtime import memory

MIB = 1 << 20


def test_the_larger_guess_counts() -> None:
    assert memory.needed(10 * MIB, 2, 50 * MIB) == 2 * (160 + 20) * MIB
    assert memory.needed(10 * MIB, 1, 900 * MIB) == 900 * MIB


def test_what_does_not_fit_is_refused_with_numbers() -> None:
    assert memory.refusal(500 * MIB, 600 * MIB, 1000 * MIB) == ""
    assert memory.refusal(500 * MIB, None, None) == ""
    text = memory.refusal(600 * MIB, 600 * MIB, 1000 * MIB)
    assert text.startswith("a second generation needs about 600 MiB and 550 MiB are free of 1000 MiB: raise")
    # What another model that loads at the same time will take is not there for this one.
    assert memory.refusal(500 * MIB, 600 * MIB, 1000 * MIB, promised=100 * MIB)
    assert "and 0 MiB are free:" in memory.refusal(MIB, 0, None, promised=MIB)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_caches_are_free(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/"
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 9999999 kB\nMemAvailable: 8000000 kB\n",
            group + "memory.max": f"{1000 * MIB}\n",
            group + "memory.current": f"{700 * MIB}\n",
            group + "memory.stat": f"anon 1\ninactive_file {200 * MIB}\n",
        },
    )
    assert memory.free(root) == (500 * MIB, 1000 * MIB)
    write(root, {"proc/meminfo": "MemAvailable: 1024 kB\n"})
    assert memory.free(root) == (MIB, 1000 * MIB)
    write(root, {group + "memory.max": "max\n"})
    assert memory.free(root) == (MIB, None)


def test_version_one_and_nothing_at_all(tmp_path: Path) -> None:
    assert memory.free(tmp_path) == (None, None)
    group = "sys/fs/cgroup/memory/"
    files = {"memory.limit_in_bytes": "1000\n", "memory.usage_in_bytes": "400\n", "memory.stat": ""}
    root = write(tmp_path, {group + name: text for name, text in files.items()})
    assert memory.free(root) == (600, 1000)
    write(root, {group + "memory.limit_in_bytes": "9223372036854771712\n"})
    assert memory.free(root) == (None, None)


def test_only_a_processes_own_pages_count(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/7/status": "VmRSS: 900 kB\nRssAnon:\t 100 kB\n"})
    assert memory.resident([7, 8], root) == 100 << 10
