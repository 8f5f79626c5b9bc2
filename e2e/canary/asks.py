"""What scenarios ask of a trial when it is over. Each raises AssertionError with the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from e2e.canary.replies import Reply, band, between, problems, share
from e2e.canary.trial import Trial

#: Seconds after a weight was verified until the replies are of requests that began under it.
SETTLE = 1.0


def none_lost(trial: Trial) -> None:
    """Every request was answered by a server."""
    lost = [reply for reply in trial.replies if reply.lost]
    assert trial.replies, "there was no load"
    assert not lost, f"{len(lost)} of {len(trial.replies)} requests lost: {problems(lost)}"


def none_failed(trial: Trial, *versions: str) -> None:
    """No request failed; with versions, none of theirs."""
    failed = [r for r in trial.replies if r.failed and (not versions or r.version in versions)]
    assert not failed, f"{len(failed)} of {len(trial.replies)} requests failed: {problems(failed)}"


def shares(trial: Trial, version: str, weights: Sequence[int]) -> None:
    """In every verified step the version's share is its weight, within 3 sigma."""
    seen: dict[str, object] = {}
    for weight in weights:
        replies = [
            reply
            for begin, end in trial.steady(weight)
            for reply in between(trial.replies, begin + SETTLE, end)
            if reply.version
        ]
        found, allowed = share(replies, version), band(weight / 100, len(replies))
        seen[f"{weight} %"] = f"{found:.1%} of {len(replies)}"
        assert len(replies) > 50, f"only {len(replies)} replies at {weight} %"
        assert abs(found - weight / 100) <= allowed, f"at {weight} %: {found:.1%} of {len(replies)} requests"
    trial.notes["shares"] = seen


def share_at_most(trial: Trial, version: str, weight: int, begin: float) -> None:
    """Since `begin` the version never had more than its weight, within 3 sigma."""
    replies = [reply for reply in trial.replies if reply.at >= begin and reply.version]
    found, allowed = share(replies, version), band(weight / 100, len(replies))
    assert found <= weight / 100 + allowed, f"{version} had {found:.1%} of {len(replies)} requests"


def silent_after(trial: Trial, version: str, moment: float) -> None:
    """Nothing that began after `moment` was answered by the version."""
    late = [reply for reply in trial.replies if reply.at > moment and reply.version == version]
    assert not late, f"{len(late)} replies of {version}, the last {late[-1].at - moment:.1f} s too late"


def ended(entry: Mapping[str, object], ending: str) -> None:
    assert entry.get("ending") == ending, (
        f"run {entry.get('run')}: {entry.get('ending')}: {entry.get('reason')}"
    )


def first(replies: Sequence[Reply], version: str) -> float:
    """When the version's first reply began."""
    found = next((reply.at for reply in replies if reply.version == version), None)
    assert found is not None, f"{version} never answered"
    return found


def steps_in_order(trial: Trial) -> None:
    """Within a run the step never goes back nor jumps, and the weight is the step's or lower."""
    before: tuple[int, int] | None = None
    for one in trial.moments:
        if one.phase in ("Idle", "Draining", "RollingBack"):
            before = None
            continue
        if before is not None and before[0] == one.run:
            assert one.step in (before[1], before[1] + 1), f"from step {before[1]} to {one.step}"
        before = one.run, one.step
