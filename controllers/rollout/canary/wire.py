"""The persisted state as the status holds it. Pure.

A state that cannot be read is an error, never an empty one: an empty one would promote whatever is there.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from ...analysis.verdict import Ledger
from .state import Canary, Ending, Finished, Path, Pause, Phase, Traffic, Way, Weights, mapping

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


def to_wire(state: Canary) -> dict[str, object]:
    """JSON without empty values. Times are RFC 3339 in UTC with microseconds."""
    traffic = state.traffic
    wire: dict[str, object] = {
        "phase": str(state.phase),
        "stable": state.stable,
        "candidate": state.candidate,
        "retiring": state.retiring,
        "run": state.run,
        "step": state.step,
        "attempt": state.attempt,
        "steps": list(state.steps),
        "peak": state.peak,
        "traffic": _pruned(
            {
                "weights": _pairs(traffic.weights),
                "possible": _pairs(traffic.possible),
                "change": traffic.change,
                "askedAt": _time(traffic.asked_at),
                "verifiedAt": None if traffic.verified_at is None else _stamp(traffic.verified_at),
            }
        ),
        "path": {}
        if state.path == Path()
        else _pruned(
            {
                "way": str(state.path.way),
                "since": _time(state.path.since),
                "seenAt": None if state.path.seen_at is None else _stamp(state.path.seen_at),
            }
        ),
        "started": _time(state.started),
        "since": _time(state.since),
        "deadline": _time(state.deadline),
        "until": _time(state.until),
        "pause": state.pause and str(state.pause),
        "ending": state.ending and str(state.ending),
        "reason": state.reason,
        "token": state.token,
        "answer": state.answer,
        "rejected": list(state.rejected),
        "history": [
            _pruned(
                {
                    "run": entry.run,
                    "attempt": entry.attempt,
                    "candidate": entry.candidate,
                    "ending": str(entry.ending),
                    "step": entry.step,
                    "reason": entry.reason,
                    "started": _time(entry.started),
                    "finished": _time(entry.finished),
                }
            )
            for entry in state.history
        ],
        "evidence": state.ledger.to_wire(),
    }
    return _pruned(wire)


def from_wire(raw: Mapping[str, object]) -> Canary:
    """The reverse. {} is a service that never had a canary; ValueError for what cannot be read."""
    if not raw:
        return Canary()
    traffic, path = mapping(raw.get("traffic")), mapping(raw.get("path"))
    pause, ending = _text(raw, "pause"), _text(raw, "ending")
    return Canary(
        phase=_member(Phase, _text(raw, "phase"), "phase"),
        stable=_text(raw, "stable"),
        candidate=_text(raw, "candidate"),
        retiring=_text(raw, "retiring"),
        run=_number(raw, "run"),
        step=_number(raw, "step"),
        attempt=_number(raw, "attempt"),
        steps=tuple(_list(raw, "steps", int)),
        peak=_number(raw, "peak"),
        traffic=Traffic(
            weights=_weights(traffic, "weights"),
            possible=_weights(traffic, "possible"),
            change=_number(traffic, "change"),
            asked_at=_moment(traffic, "askedAt"),
            verified_at=_moment(traffic, "verifiedAt") if "verifiedAt" in traffic else None,
        ),
        path=Path(
            way=_member(Way, _text(path, "way") or Way.Direct, "path.way"),
            since=_moment(path, "since"),
            seen_at=_moment(path, "seenAt") if "seenAt" in path else None,
        ),
        started=_moment(raw, "started"),
        since=_moment(raw, "since"),
        deadline=_moment(raw, "deadline"),
        until=_moment(raw, "until"),
        pause=_member(Pause, pause, "pause") if pause else None,
        ending=_member(Ending, ending, "ending") if ending else None,
        reason=_text(raw, "reason"),
        token=_text(raw, "token"),
        answer=_text(raw, "answer"),
        rejected=tuple(_list(raw, "rejected", str)),
        history=tuple(_finished(mapping(entry)) for entry in _list(raw, "history", Mapping)),
        ledger=Ledger.from_wire(mapping(raw.get("evidence"))),
    )


def _finished(raw: Mapping[str, object]) -> Finished:
    return Finished(
        run=_number(raw, "run"),
        attempt=_number(raw, "attempt"),
        candidate=_text(raw, "candidate"),
        ending=_member(Ending, _text(raw, "ending"), "history.ending"),
        step=_number(raw, "step"),
        reason=_text(raw, "reason"),
        started=_moment(raw, "started"),
        finished=_moment(raw, "finished"),
    )


def _pruned(wire: dict[str, object]) -> dict[str, object]:
    return {
        name: value for name, value in wire.items() if value not in (None, "", 0, [], {}) or value is False
    }


def _time(moment: float) -> str:
    return _stamp(moment) if moment else ""


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


def _pairs(weights: Weights) -> list[object]:
    return [{"revision": name, "weight": weight} for name, weight in weights]


def _weights(raw: Mapping[str, object], name: str) -> Weights:
    return tuple(
        (_text(pair, "revision"), _number(pair, "weight")) for pair in map(mapping, _list(raw, name, Mapping))
    )


def _refuse(name: str, value: object) -> ValueError:
    return ValueError(
        f"status.canary.{name} cannot be read: {str(value)[:80]!r}: restore it or delete status.canary"
    )


def _text(raw: Mapping[str, object], name: str) -> str:
    value = raw.get(name, "")
    if not isinstance(value, str):
        raise _refuse(name, value)
    return value


def _number(raw: Mapping[str, object], name: str) -> int:
    value = raw.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _refuse(name, value)
    return value


def _moment(raw: Mapping[str, object], name: str) -> float:
    text = _text(raw, name)
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        raise _refuse(name, text) from None


def _list(raw: Mapping[str, object], name: str, kind: Callable[..., _T] | type[_T]) -> list[_T]:
    value = raw.get(name, [])
    if (
        not isinstance(value, list)
        or not isinstance(kind, type)
        or not all(isinstance(i, kind) for i in value)
    ):
        raise _refuse(name, value)
    return list(value)


def _member(kind: type[_E], value: str, name: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise _refuse(name, value) from None
