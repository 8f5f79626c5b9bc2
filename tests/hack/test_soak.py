"""When a soak's readings count as flat, what is read, and that the picture is one."""

from __future__ import annotations

import os
from xml.etree import ElementTree

import pytest

from hack.bench.soak import judge, picture, watch
from hack.bench.soak.judge import BOUNDS, Bound

BOUND = Bound(name="front", title="memory", rise=8.0, unit="MiB")


def row(*values: float) -> list[tuple[float, float]]:
    return [(float(at), value) for at, value in enumerate(values)]


def test_a_level_row_with_noise_is_flat() -> None:
    bar = judge.flat(BOUND, row(*(100.0 + (at % 3) for at in range(100))))
    assert abs(bar.value) < 0.2
    assert bar.holds


def test_a_leak_is_told_whatever_its_shape() -> None:
    steady = judge.flat(BOUND, row(*(100.0 + at * 0.2 for at in range(100))))
    assert steady.value == pytest.approx(0.2 * 79)
    assert not steady.holds
    assert not judge.flat(
        BOUND, row(*(100.0 + 10.0 * (at // 20) for at in range(100)))
    ).holds  # a reload each


def test_what_rises_at_the_start_only_is_warm_up() -> None:
    assert judge.flat(BOUND, row(*(min(at, 20) * 5.0 for at in range(101)))).holds


@pytest.mark.parametrize("readings", [[], row(5.0), [(1.0, 5.0), (1.0, 9.0)]])
def test_too_few_readings_rise_by_nothing(readings: list[tuple[float, float]]) -> None:
    assert judge.flat(BOUND, readings).value == 0.0


def test_what_a_process_holds_is_read() -> None:
    before = watch.held(os.getpid(), [])
    descriptor = os.memfd_create("soak")
    try:
        after = watch.held(os.getpid(), [os.getpid()])
    finally:
        os.close(descriptor)
    assert set(before) == {bound.name for bound in BOUNDS}
    assert after["descriptors"] == before["descriptors"] + 1
    assert after["memfds"] == before["memfds"] + 1
    assert (before["processes"], after["processes"]) == (1, 2)
    assert before["front"] > 1
    assert after["workers"] > 1
    assert watch.held(os.getpid(), [2**22 + 1])["workers"] == 0  # it has ended


def test_the_picture_has_a_panel_for_each() -> None:
    readings = {bound.name: row(1.0, 2.0, 3.0, 4.0, 5.0) for bound in BOUNDS}
    root = ElementTree.fromstring(picture.svg(readings, [2.0], 4.0))
    kinds = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert kinds.count("polyline") == len(BOUNDS)
    assert picture.svg({}, [], 0.0).endswith("</svg>")
