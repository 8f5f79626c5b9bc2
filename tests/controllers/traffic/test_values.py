"""Splits as JSON, rules that are refused, the switch of the Service."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from controllers.resources.meta import Owner
from controllers.resources.service import main_service
from controllers.traffic import (
    Backend,
    Match,
    Rule,
    Split,
    UserShare,
    Value,
    flip,
    from_wire,
    refusal,
    rules,
    to_wire,
)
from tests.controllers.traffic.proxy import SERVICE, split
from tests.controllers.traffic.test_snapshot import splits


@given(splits())
def test_a_split_survives_the_status(one: Split) -> None:
    raw = json.loads(json.dumps(to_wire(one)))
    assert from_wire(one.service, one.uid, raw) == one


A, B = {"revision": "a"}, {"revision": "b"}


@pytest.mark.parametrize(
    "raw", [{}, {"stable": {}}, {"stable": A, "candidate": A}, {"stable": A, "candidate": B, "weight": 101}]
)
def test_what_cannot_be_read_is_no_split(raw: dict[str, object]) -> None:
    assert from_wire(SERVICE, "u", raw) is None


@pytest.mark.parametrize(("weight", "candidate"), [(101, "b"), (-1, "b"), (5, ""), (5, "aaaa")])
def test_a_split_that_means_nothing_is_an_error(weight: int, candidate: str) -> None:
    with pytest.raises(ValueError, match=r"weight|both sides"):
        split(1, weight, port=20000, candidate=candidate)


def rule(**match: object) -> Rule:
    return Rule(match=Match(**match), to="Canary")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        ((rule(header=Value(name="x-a", value="1")), rule(user=UserShare(percent=5))), ""),
        ((rule(user=UserShare(percent=5)), rule(user=UserShare(percent=6))), "only one userHash"),
        ((rule(),), "exactly one of"),
        ((rule(header=Value(name="x", value="1"), cookie=Value(name="y", value="2")),), "exactly one of"),
        ((rule(header=Value(name="x y", value="1")),), "no name that HTTP allows"),
        ((rule(header=Value(name="x", value="a\nb")),), "cannot be sent"),
        ((rule(cookie=Value(name="x", value="a;b")),), "cannot be sent"),
        ((rule(header=Value(name="X-Model-Exp", value="1")),), "meaning of its own"),
        ((rule(user=UserShare(percent=0)),), "give 1 to 100"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused_in_one_line(wanted: tuple[Rule, ...], word: str) -> None:
    said = refusal(wanted)
    assert word in said
    assert bool(said) == bool(word)
    assert "\n" not in said


def test_rules_are_read_from_the_spec_in_order() -> None:
    spec = {
        "traffic": {
            "rules": [
                {"match": {"header": {"name": "a", "value": "1"}}, "to": "Stable"},
                {"match": {}},
                {"match": {"userHash": {"percent": 5, "salt": "s"}}},
            ]
        }
    }
    assert rules(spec) == (
        Rule(match=Match(header=Value(name="a", value="1")), to="Stable"),
        Rule(match=Match(user=UserShare(percent=5, salt="s")), to="Canary"),
    )


OWNER = Owner("default", "ocr", "uid")
ROUTED = Backend(selector={"role": "router"}, http=20000, grpc=20001)


def merged(live: dict[str, object], patch: dict[str, object]) -> dict[str, object]:
    """RFC 7386."""
    result = dict(live)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            there = result.get(key)
            result[key] = merged(there if isinstance(there, dict) else {}, value)
        else:
            result[key] = value
    return result


def test_the_switch_and_back_is_one_write_each_and_leaves_nothing_behind() -> None:
    direct = main_service(OWNER).body
    plain = direct["spec"]["ports"]  # type: ignore[index]
    assert flip.points_at(direct, OWNER, None)
    there = merged(direct, flip.merge_patch(direct, OWNER, plain, ROUTED))
    assert there["spec"]["selector"] == {"role": "router"}  # type: ignore[index]
    assert {port["name"]: port["targetPort"] for port in there["spec"]["ports"]} == {  # type: ignore[index]
        "http": 20000, "http-pod": 20000, "grpc": 20001,
    }  # fmt: skip
    assert flip.points_at(there, OWNER, ROUTED)
    assert not flip.points_at(there, OWNER, None)
    assert merged(there, flip.merge_patch(there, OWNER, plain, None)) == direct


def test_the_switch_has_settled_when_only_the_right_pods_are_left() -> None:
    def one(port: int, *names: str, ready: bool = True) -> dict[str, object]:
        ends = [{"conditions": {"ready": ready}, "targetRef": {"name": name}} for name in names]
        return {"ports": [{"port": port}], "endpoints": ends}

    assert flip.settled([one(20000, "r1", "r2")], ROUTED, ["r1", "r2"])
    assert not flip.settled([one(20000, "r1"), one(8080, "p1")], ROUTED, ["r1", "r2"])
    assert not flip.settled([one(20000, "r1", "stranger")], ROUTED, ["r1"])
    assert not flip.settled([one(20000, "r1", ready=False)], ROUTED, ["r1"])
    assert not flip.settled([], ROUTED, ["r1"])
    assert flip.settled([one(8080, "p1")], None, ["p1"])
