"""Conditions: a pure merge of what holds now into what status said before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from .reasons import Reason

Status = Literal["True", "False", "Unknown"]

#: The CRD's maximum; a longer message is cut, never refused by the API server after the work is done.
MAX_MESSAGE = 1024


class Type(StrEnum):
    Ready = "Ready"
    Available = "Available"
    Progressing = "Progressing"
    Degraded = "Degraded"
    ArtifactResolved = "ArtifactResolved"
    DeletionBlocked = "DeletionBlocked"
    Drifted = "Drifted"
    NameConflict = "NameConflict"
    AnalysisAvailable = "AnalysisAvailable"
    TrafficVerified = "TrafficVerified"
    Reconciling = "Reconciling"
    Stalled = "Stalled"


#: Present only while True: kstatus and Argo CD read their mere presence.
ONLY_WHILE_TRUE = frozenset(
    {Type.Reconciling, Type.Stalled, Type.DeletionBlocked, Type.Drifted, Type.NameConflict}
)


@dataclass(frozen=True, slots=True)
class Condition:
    type: Type
    status: Status
    reason: Reason
    message: str = ""


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(
    previous: Iterable[Mapping[str, object]],
    current: Iterable[Condition],
    *,
    generation: int,
    now: datetime,
) -> list[dict[str, object]]:
    """The condition list to write: sorted by type, lastTransitionTime moved only when the status changed.

    A type that `current` does not mention is dropped, and so is one of ONLY_WHILE_TRUE that is not True.
    """
    before = {str(item.get("type")): item for item in previous}
    merged: list[dict[str, object]] = []
    for condition in sorted(current, key=lambda item: item.type):
        if condition.type in ONLY_WHILE_TRUE and condition.status != "True":
            continue
        old = before.get(condition.type)
        unchanged = old is not None and old.get("status") == condition.status
        since = old.get("lastTransitionTime") if old is not None and unchanged else None
        merged.append(
            {
                "type": str(condition.type),
                "status": condition.status,
                "reason": str(condition.reason),
                "message": one_line(condition.message),
                "observedGeneration": generation,
                "lastTransitionTime": since or timestamp(now),
            }
        )
    return merged


def find(status: Mapping[str, object], type_: Type) -> Mapping[str, object]:
    """The condition of this type in a status as it is on the wire; empty if there is none."""
    listed = status.get("conditions")
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, Mapping) and item.get("type") == type_:
            return item
    return {}


def one_line(message: str) -> str:
    """`message` on one line, cut to the CRD's maximum."""
    flat = " ".join(message.split())
    return flat if len(flat) <= MAX_MESSAGE else flat[: MAX_MESSAGE - 3] + "..."
