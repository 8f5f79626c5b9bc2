"""How requests find their side on a real cluster: headers, cookies, users, and pods for weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from e2e.canary import asks
from e2e.canary.replies import band, between
from e2e.canary.trial import Trial, canary
from e2e.kube import status_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

Trials = Callable[..., Trial]
USERS = 200


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "new"])
def test_header(trial: Trials, kept: bool) -> None:
    """x-model-exp finds the version that it names, whatever the weight."""
    one = trial("a header finds its version", strategy=canary(10))
    one.begin(rate=20, kept=kept)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    one.command("pause")
    begin = time.time()
    both = [one.load(20, kept=kept, headers={"x-model-exp": name}) for name in ("canary", "stable", "v1.1.0")]
    time.sleep(5)
    canary_only, stable_only, by_version = (one.stop(name) for name in both)
    one.command("abort")
    one.ending(1, within=60)
    end = time.time()
    assert {reply.version for reply in canary_only} == {"v1.1.0"}
    assert {reply.version for reply in stable_only} == {"v1.0.0"}
    assert {reply.version for reply in by_version} == {"v1.1.0"}
    one.stop(f"load-{one.name}-1")
    asks.none_failed(one)
    assert between(one.replies, begin, end)


def of_users(salt: str) -> list[dict[str, object]]:
    """A cookie's rule, then three of ten users."""
    return [
        {"match": {"cookie": {"name": "experiment", "value": "b"}}, "to": "Canary"},
        {"match": {"userHash": {"percent": 30, "salt": salt}}, "to": "Canary"},
    ]


def number_of(state: Mapping[str, object]) -> int:
    """Of the change of weights or rules that is in force; 0 while one is in flight."""
    traffic = state["traffic"]
    assert isinstance(traffic, Mapping)
    return int(traffic["change"]) if traffic.get("verifiedAt") else 0


def test_cookie_and_users(trial: Trials) -> None:
    """A cookie decides; a user stays on one side; another salt chooses others."""
    one = trial("a cookie and three of ten users", strategy=canary(10), rules=of_users("first"))
    one.begin(rate=20)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    one.command("pause")
    assert set(one.ask([{"Cookie": "a=1; experiment=b; c=2"}] * 20)) == {"v1.1.0"}
    assert "v1.0.0" in one.ask([{"Cookie": "experiment=bb"}] * 20)
    users = [{"x-user-id": f"user-{number}"} for number in range(USERS)]
    first = one.ask(users)
    assert set(first) == {"v1.0.0", "v1.1.0"}
    assert one.ask(users) == first, "users changed sides"
    # Of the others, the weight says: 30 % and a tenth of 70 %.
    share = first.count("v1.1.0") / USERS
    one.notes["users"] = f"{share:.1%} of {USERS}"
    assert abs(share - 0.37) <= band(0.37, USERS), f"{share:.1%} of the users"
    one.rules = of_users("second")
    before = number_of(one.canary())
    one.change("v1.1.0")
    one.wait("the new rules are in force", lambda state: number_of(state) > before, within=60)
    second = one.ask(users)
    moved = sum(old != new for old, new in zip(first, second, strict=True))
    assert moved > USERS // 10, f"another salt moved {moved} of {USERS} users"
    one.command("abort")
    asks.ended(one.ending(1, within=60), "Aborted")
    one.finish()
    asks.none_failed(one)


def test_replicas(trial: Trials) -> None:
    """No proxy: pods are the weight, and the real share is told."""
    one = trial("pods are the weight, promoted", provider="Replicas", strategy=canary(50))
    one.begin(rate=50)
    one.change("v1.1.0")
    one.phase("Analysing", within=150)
    traffic = status_of(one.service())["traffic"]
    assert traffic["effectiveWeight"] == 50, traffic  # type: ignore[index]
    asks.ended(one.ending(1, within=300), "Promoted")
    one.phase("Idle", within=120)
    assert not [pod for pod in one.ns.pods() if "router" in pod["metadata"]["name"]]  # type: ignore[index]
    one.finish()
    asks.none_lost(one)
    asks.none_failed(one)
    asks.shares(one, "v1.1.0", [50])
    assert one.replies[-1].version == "v1.1.0"
