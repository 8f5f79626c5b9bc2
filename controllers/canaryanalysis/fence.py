"""Whether anybody still waits for an analysis. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from ..resources.wire import integer, text
from .spec import Spec

#: Finished analyses of a service that are kept.
KEPT = 5

_JUDGED = ("Analysing", "Soaking")
_OVER = ("Paused", "RollingBack", "Draining", "Idle")


class Stand(StrEnum):
    """How an analysis stands to its owner: it is awaited, the owner is not there yet, or it has moved on."""

    Awaited = "Awaited"
    Early = "Early"
    Overtaken = "Overtaken"


def fence(canary: Mapping[str, object]) -> tuple[int, int, int]:
    """Of the owner's status.canary; comparable with `Spec.fence`."""
    return integer(canary.get("run")), integer(canary.get("attempt")), integer(canary.get("step"))


def stand(spec: Spec, canary: Mapping[str, object]) -> Stand:
    """By the owner's status.canary. An old one may say Early of what is due, so nothing is given up for it;
    Overtaken is to be confirmed by a live read.
    """
    theirs, phase = fence(canary), text(canary.get("phase"))
    if theirs > spec.fence:
        return Stand.Overtaken
    if theirs < spec.fence:
        return Stand.Early
    if phase in _JUDGED:
        return Stand.Awaited
    return Stand.Overtaken if phase in _OVER else Stand.Early


def waits(spec: Spec, canary: Mapping[str, object]) -> bool:
    """Whether the run is held, or about to be, by the verdict of this very analysis."""
    return fence(canary) == spec.fence and text(canary.get("phase")) in (*_JUDGED, "Paused")


def surplus(finished: Iterable[tuple[tuple[int, int, int], str]], current: tuple[int, int, int]) -> list[str]:
    """Names of the finished analyses that go: all but the newest, and never the current one."""
    newest = sorted(finished, reverse=True)
    return [name for mark, name in newest[KEPT:] if mark != current]
