"""A worker that gets ready beside others stands back, and is their equal afterwards, without privileges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.worker.calm import NICE, Calm
from tests.runtime.conftest import DEADLINE, ROOT

# Prints what a process is like before, while it is calm, in a thread aside, in one that was started
# meanwhile, and after; the thread that was started meanwhile is the kind that OpenMP keeps.
PROGRAM = """
import json, os, sys, threading
from runtime.worker.calm import Calm

def state(task):
    return [os.getpriority(os.PRIO_PROCESS, task), os.sched_getscheduler(task)]

me = threading.get_native_id()
found = {"before": state(me)}
calm = Calm(sys.argv[1] == "calm")
calm.begin()
found["aside"] = calm.aside(lambda: state(threading.get_native_id()))
gate, born, kept = threading.Event(), threading.Event(), []
def stay():
    kept.append(threading.get_native_id())
    born.set()
    gate.wait()
thread = threading.Thread(target=stay)
thread.start()
born.wait()
found["meanwhile"], found["kept meanwhile"] = state(me), state(kept[0])
calm.end()
found["after"], found["kept after"] = state(me), state(kept[0])
gate.set()
calm.leave()
found["leaving"] = state(me)
print(json.dumps(found))
"""


def looked(*words: str) -> Mapping[str, Sequence[int]]:
    # Without CAP_SYS_NICE, as in a pod: only what anybody may take back is got back.
    drop = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*drop, sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    found: Mapping[str, Sequence[int]] = json.loads(done.stdout)
    return found


def test_what_is_given_up_comes_back() -> None:
    found = looked("calm")
    nice, policy = found["before"]
    lowest = min(nice + NICE, 19)
    assert found["aside"] == [lowest, os.SCHED_BATCH]
    for name in ("meanwhile", "kept meanwhile"):
        assert found[name] == [nice, os.SCHED_BATCH]
    for name in ("after", "kept after"):
        assert found[name] == [nice, policy]
    assert found["leaving"][0] == lowest


def test_a_worker_beside_nobody_gives_nothing_up() -> None:
    found = looked("no")
    assert found["aside"] == found["meanwhile"] == found["kept meanwhile"] == found["before"]


@pytest.mark.parametrize("wanted", [True, False])
def test_what_fails_aside_fails_here(wanted: bool) -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        Calm(wanted).aside(fail)


def standing_back(pid: int) -> bool:
    """Whether a process's main thread is nicer than ours, or any thread is scheduled as a batch job."""
    policies = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            policies.add(os.sched_getscheduler(int(task.name)))
    nice = os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    return nice or policies != {os.sched_getscheduler(0)}
