"""Processes that start in a moment: forked from one that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from controller_runtime.testing._processes import _die_with_parent

ROOT = Path(__file__).parents[3]
_HERE = __name__.rpartition(".")[0]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["controllers.__main__", f"{_HERE}.kubelet", f"{_HERE}.replica"])


def forked(log: Path, program: Callable[..., object], *arguments: object) -> BaseProcess:
    """`program(*arguments)` in a process of its own, output to `log`. It dies with this one, however it ends.

    Python's imports take 1.5 s of a core, which a test that starts a dozen of them has not.
    """
    _prepare()
    process = _FORKS.Process(target=_play, args=(str(log), program, *arguments), daemon=True)
    process.start()
    return process


def _prepare() -> None:
    """Start the process to fork from, without what measures coverage: it could not say so when killed."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        del os.environ[name]
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _play(log: str, program: Callable[..., object], *arguments: object) -> None:
    _die_with_parent()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    raise SystemExit(program(*arguments))
