"""Who still waits for an analysis."""

import pytest

from controllers.canaryanalysis.fence import Stand, fence, stand, surplus, waits

from .scenes import spec

SPEC = spec(run=2, attempt=2, step=1)


def owner(phase: str = "Analysing", run: int = 2, attempt: int = 2, step: int = 1) -> dict[str, object]:
    return {"phase": phase, "run": run, "attempt": attempt, "step": step}


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        (owner(), Stand.Awaited),
        (owner("Soaking"), Stand.Awaited),
        (owner("Shifting"), Stand.Early),  # a cache that is a little old
        (owner("Preparing"), Stand.Early),
        (owner("Promoting"), Stand.Early),
        (owner("Paused"), Stand.Overtaken),
        (owner("RollingBack"), Stand.Overtaken),
        (owner("Draining"), Stand.Overtaken),
        (owner("Idle"), Stand.Overtaken),
        (owner(run=3, attempt=1, step=0), Stand.Overtaken),
        (owner(attempt=3, step=0), Stand.Overtaken),
        (owner(step=2), Stand.Overtaken),
        (owner(run=1, attempt=9, step=9), Stand.Early),
        (owner(attempt=1, step=9), Stand.Early),
        ({}, Stand.Early),  # or somebody made it up: it is never measured
    ],
)
def test_stands(canary: dict[str, object], expected: Stand) -> None:
    assert stand(SPEC, canary) is expected


def test_a_zero_is_left_out_on_the_wire() -> None:
    assert fence({"phase": "Analysing", "run": 1, "attempt": 1}) == (1, 1, 0)
    assert stand(spec(), {"phase": "Analysing", "run": 1, "attempt": 1}) is Stand.Awaited


def test_only_a_held_run_waits_for_prometheus() -> None:
    assert waits(SPEC, owner("Paused"))
    assert waits(SPEC, owner())
    assert not waits(SPEC, owner("RollingBack"))
    assert not waits(SPEC, owner("Paused", step=2))


def test_the_newest_five_and_the_current_one_stay() -> None:
    marks = [((1, 1, step), f"a{step}") for step in range(8)]
    assert surplus(marks, (9, 9, 9)) == ["a2", "a1", "a0"]
    assert surplus(marks, (1, 1, 1)) == ["a2", "a0"]
    assert surplus(marks[:5], (9, 9, 9)) == []
