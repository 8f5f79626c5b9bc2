"""What routers are to hold, as a pure function: every split, every set of endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

import controller_runtime as ctrl
from controllers.traffic import Match, Revision, Rule, Split, UserShare, Value
from controllers.traffic.envoy import bootstrap
from controllers.traffic.envoy.endpoints import Address, endpoints
from controllers.traffic.envoy.snapshot import Kind, Part, compose, fallback_name, part, version
from tests.controllers.traffic.proxy import endpoint_slice

HASHES = ("aaaa", "bbbb", "cccc")
ADDRESSES = st.lists(
    st.integers(1, 254).map(lambda last: Address(f"10.0.0.{last}", 8080)), max_size=3, unique=True
)
ENDPOINTS = st.dictionaries(
    st.sampled_from(HASHES),
    ADDRESSES.map(lambda found: {"http": tuple(sorted(found)), "grpc": tuple(sorted(found))}),
)
VALUES = st.builds(Value, name=st.sampled_from(("x-a", "x-b")), value=st.sampled_from(("1", "a b", "ü")))
RULES = st.lists(
    st.builds(
        Rule,
        match=st.one_of(
            st.builds(Match, header=VALUES),
            st.builds(Match, cookie=VALUES),
            st.builds(Match, user=st.builds(UserShare, percent=st.integers(1, 100), salt=st.text())),
        ),
        to=st.sampled_from(("Canary", "Stable")),
    ),
    max_size=5,
).map(lambda found: tuple(one for i, one in enumerate(found) if one.match.user is None or not any(
    earlier.match.user for earlier in found[:i])))  # fmt: skip


@st.composite
def splits(draw: st.DrawFn, name: str = "ocr") -> Split:
    stable, other = draw(st.permutations(HASHES))[:2]
    versions = st.lists(st.sampled_from(("v1.0.0", "v2.0.0")), max_size=2, unique=True).map(tuple)
    candidate = draw(st.none() | st.just(Revision(hash=other, versions=draw(versions))))
    return Split(
        service=ctrl.Key("default", name), uid=f"uid-{name}",
        port=draw(st.integers(10_000, 10_020)) * 2, change=draw(st.integers(1, 99)),
        stable=Revision(hash=stable, versions=draw(versions)), candidate=candidate,
        weight=draw(st.integers(0, 100) | st.sampled_from((0, 100))) if candidate else 0, rules=draw(RULES),
    )  # fmt: skip


def walk(body: object) -> Iterator[Mapping[str, object]]:
    if isinstance(body, Mapping):
        yield body
        for value in body.values():
            yield from walk(value)
    elif isinstance(body, list):
        for value in body:
            yield from walk(value)


def named_clusters(body: object) -> set[str]:
    """Every cluster that a route configuration or an aggregate names."""
    found: set[str] = set()
    for item in walk(body):
        if isinstance(item.get("cluster"), str):
            found.add(str(item["cluster"]))
        if isinstance(item.get("clusters"), list):
            found |= {one["name"] if isinstance(one, Mapping) else one for one in item["clusters"]}  # type: ignore[attr-defined]
    return found


def holds(made: Part, found: Mapping[str, Mapping[str, tuple[Address, ...]]]) -> None:
    """No dangling reference; weights sum up; no share without an endpoint."""
    resources = made.resources
    clusters = resources[Kind.Cluster]
    for kind in (Kind.Route, Kind.Cluster):
        for one in resources[kind].values():
            assert named_clusters(one.body) <= set(clusters), one.name
    eds = {name for name, one in clusters.items() if one.body.get("type") == "EDS"}
    assert eds == set(resources[Kind.Endpoint])
    rds = {item["route_config_name"] for one in resources[Kind.Listener].values() for item in walk(one.body)
           if "route_config_name" in item}  # fmt: skip
    assert rds == set(resources[Kind.Route])
    split = made.split
    for name, one in resources[Kind.Route].items():
        protocol = name.partition("/")[2]
        for item in walk(one.body):
            if "weighted_clusters" in item:
                shares = [entry["weight"] for entry in item["weighted_clusters"]["clusters"]]  # type: ignore[index]
                assert sum(shares) == (10_000 if "use_hash_policy" in item["weighted_clusters"] else 100)  # type: ignore[operator]
                assert all(share > 0 for share in shares)
        if split.candidate is not None:
            assert f"ocr/{split.candidate.hash}/{protocol}" in clusters
            aimed = fallback_name("ocr", split.candidate.hash, protocol) in named_clusters(one.body)  # type: ignore[arg-type]
            ready = bool(found.get(split.candidate.hash, {}).get(protocol))
            assert aimed == (ready and split.weight > 0)
        catch_all = one.body["virtual_hosts"][0]["routes"][-1]  # type: ignore[index]
        assert catch_all["match"] == {"prefix": "/"}


@settings(max_examples=60)
@given(splits(), ENDPOINTS)
def test_every_part_is_whole(split: Split, found: dict[str, dict[str, tuple[Address, ...]]]) -> None:
    made = part(split, found)  # type: ignore[arg-type]
    holds(made, found)
    ready = split.candidate is not None and bool(found.get(split.candidate.hash, {}).get("http"))
    assert made.effective == (split.weight if ready else 0)
    again = part(split, dict(reversed(found.items())))  # type: ignore[arg-type]
    assert [sorted(one.items()) for one in made.resources.values()] == [
        sorted(one.items()) for one in again.resources.values()
    ]
    for one in made.resources[Kind.Listener].values():
        assert one.version == version(one.body)


@settings(max_examples=30)
@given(splits("a"), splits("b"), ENDPOINTS)
def test_services_do_not_meet(
    one: Split, two: Split, found: dict[str, dict[str, tuple[Address, ...]]]
) -> None:
    parts = [part(two, found), part(one, found)]  # type: ignore[arg-type]
    snapshot = compose(parts)
    ports = [one.split.port for one in snapshot.parts.values()]
    assert len(set(ports)) == len(ports)
    assert "a" in snapshot.parts
    for kind in Kind:
        owners = {item.service for item in snapshot.resources[kind].values()}
        assert owners == set(snapshot.parts)
        assert all(name.startswith(f"{item.service}/") for name, item in snapshot.resources[kind].items())


@settings(max_examples=30)
@given(splits(), ENDPOINTS)
def test_a_fallback_needs_nobody(split: Split, found: dict[str, dict[str, tuple[Address, ...]]]) -> None:
    body = bootstrap.fallback(compose([part(split, found)]), "default")  # type: ignore[arg-type]
    clusters = {str(one["name"]) for one in body["clusters"]}  # type: ignore[attr-defined]
    for one in (*body["listeners"], *body["clusters"]):  # type: ignore[misc]
        assert named_clusters(one) <= clusters
        assert not any("ads" in item or "rds" in item for item in walk(one))
    assert bootstrap.packed(body) == bootstrap.packed(body)


def test_a_weight_alone_changes_routes_alone() -> None:
    found = endpoints([endpoint_slice("aaaa", [1]), endpoint_slice("bbbb", [2])])
    stable, other = Revision(hash="aaaa"), Revision(hash="bbbb")
    made = [
        part(
            Split(
                service=ctrl.Key("default", "ocr"), uid="u", port=20000, change=change, stable=stable,
                candidate=other, weight=weight,
            ),
            found,
        )
        for change, weight in ((1, 10), (2, 20))
    ]  # fmt: skip
    for kind in Kind:
        same = made[0].resources[kind] == made[1].resources[kind]
        assert same == (kind is not Kind.Route)


class TestEndpoints:
    def test_only_ready_pods_of_revisions_count(self) -> None:
        ready, gone = endpoint_slice("aaaa", [8080]), endpoint_slice("bbbb", [8080])
        gone["endpoints"] = [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": False}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": True, "terminating": True}},
            {"addresses": ["10.0.0.3"]},
        ]
        whole = endpoint_slice("cccc", [8080])
        del whole["metadata"]["labels"]["serving.paddlepaddle.org/revision"]  # type: ignore[index]
        assert endpoints([ready, gone, whole]) == {
            "aaaa": {"http": (Address("127.0.0.1", 8080),), "grpc": (Address("127.0.0.1", 8080),)},
            "bbbb": {"http": (Address("10.0.0.3", 8080),), "grpc": (Address("10.0.0.3", 8080),)},
        }

    def test_slices_of_one_revision_are_one(self) -> None:
        one, two = endpoint_slice("aaaa", [8080]), endpoint_slice("aaaa", [8081])
        assert endpoints([one, two, one])["aaaa"]["http"] == (
            Address("127.0.0.1", 8080),
            Address("127.0.0.1", 8081),
        )
