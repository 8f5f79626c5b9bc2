"""What the load generator logged, and what it comes to. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """at: seconds since the epoch when the request began. status: 0 without an answer. seconds: it took."""

    at: float
    version: str
    status: int
    seconds: float
    error: str = ""

    @property
    def lost(self) -> bool:
        """No server of ours answered it: nobody, a proxy, or one that said it cannot serve."""
        return self.status == 0 or (self.status >= 500 and not self.version)

    @property
    def failed(self) -> bool:
        return self.status != 200 or bool(self.error)


def parse(log: str) -> tuple[list[Reply], bool]:
    """The replies in order of their beginning, and whether the log has its end."""
    replies: list[Reply] = []
    done = False
    for line in log.splitlines():
        entry = json.loads(line)
        if "done" in entry:
            done = True
            assert entry["done"] == len(replies), f"{entry['done']} requests, {len(replies)} in the log"
            continue
        for after, version, status, milliseconds, *error in entry["replies"]:
            at = entry["at"] + after / 1000
            replies.append(Reply(at, version, status, milliseconds / 1000, *error))
    return sorted(replies, key=lambda reply: reply.at), done


def between(replies: Iterable[Reply], begin: float, end: float) -> list[Reply]:
    return [reply for reply in replies if begin <= reply.at < end]


def share(replies: Sequence[Reply], version: str) -> float:
    """Of the replies that name a version, those of `version`; 0 without any."""
    named = [reply for reply in replies if reply.version]
    return sum(reply.version == version for reply in named) / len(named) if named else 0.0


def band(weight: float, count: int, sigmas: float = 3.0) -> float:
    """How far the share of `count` requests may be from `weight` (both shares of 1)."""
    return sigmas * math.sqrt(weight * (1 - weight) / count) if count else 1.0


def percentile(seconds: Sequence[float], share: float) -> float:
    """Seconds; 0 without any."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def problems(replies: Iterable[Reply], *, most: int = 5) -> str:
    """The failures by kind, on one line: what a failed assertion says."""
    found = Counter(
        f"{reply.status} {reply.version or 'nobody'} {reply.error[:80]}" for reply in replies if reply.failed
    )
    return "; ".join(f"{count} x {what}" for what, count in found.most_common(most)) or "none"
