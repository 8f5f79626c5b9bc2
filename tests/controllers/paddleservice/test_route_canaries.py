"""Canaries on HTTPRoutes and VirtualServices, on a real API server with their real CRDs."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

import controller_runtime as ctrl
from controller_runtime.testing import Envtest
from controllers.paddleservice import PaddleServiceReconciler
from controllers.resources.meta import Owner
from controllers.resources.wire import at
from controllers.traffic import Drifted, Home, Revision, RouteRef, Split, Unreachable, Verified
from controllers.traffic.gateway import HTTP_ROUTE, HTTPRoutes
from controllers.traffic.route import Gateway
from controllers.traffic.routeprovider import Routes
from hack import crds

from .harness import condition, pinned
from .routed import KINDS, USERS, Routed, shape, users_route
from .test_canary_manager import operator, permitted, until

pytestmark = pytest.mark.apiserver

LONG = pytest.mark.slow  # `make routes`


def providers(*, short: str) -> pytest.MarkDecorator:
    """Both; `make test` has the one."""
    both = ["GatewayAPI", "Istio"]
    return pytest.mark.parametrize(
        "provider", [name if name == short else pytest.param(name, marks=LONG) for name in both]
    )


@pytest.fixture(scope="session")
def routes(apiserver: Envtest) -> Envtest:
    """The API server with the CRDs of routes."""
    for crd in (crds.HTTP_ROUTE, crds.VIRTUAL_SERVICE):
        apiserver.install_crds(crds.fetch(crd))
    return apiserver


@pytest.fixture
async def routed(routes: Envtest, namespace: str) -> AsyncIterator[Routed]:
    async with routes.client() as client:
        yield Routed(client, namespace)


@providers(short="GatewayAPI")
async def test_a_run_on_a_route_of_ours(routed: Routed, provider: str) -> None:
    routed.provider = provider
    await routed.routed("v1.0.0")
    await routed.resting()
    stable = (await routed.status())["stableRevision"]
    assert await routed.weights() == {"": 100}
    told = condition(await routed.status(), "TrafficVerified")
    assert (told["status"], told["message"]) == ("True", "the route leads to Service resnet50")

    await routed.routed("v1.1.0")
    state = await routed.until("Analysing")
    assert await routed.weights() == {str(stable): 50, str(state["candidate"]): 50}
    told = condition(await routed.status(), "TrafficVerified")
    assert told["status"] == "True"
    assert f"{state['candidate']} 50 %" in told["message"]
    await routed.resting()
    assert await routed.weights() == {"": 100}
    status = await routed.status()
    assert status["stableRevision"] == state["candidate"]
    assert status["canary"]["history"][-1]["ending"] == "Promoted"  # type: ignore[index]
    assert routed.mixed == []


@LONG
@pytest.mark.parametrize("provider", ["GatewayAPI", "Istio"])
async def test_a_run_on_a_users_route(routed: Routed, provider: str) -> None:
    routed.provider = provider
    await routed.routed("v1.0.0", route=USERS)
    made = await routed.live.apply(users_route(provider, routed.namespace))
    await routed.resting()
    before = shape(made.raw)
    first = await routed.weights("shop")
    await routed.routed("v1.1.0", route=USERS)
    state = await routed.until("Analysing")
    found = await routed.weights("shop")
    assert (found["stable"], found["canary"]) == (50, 50)
    canary = await routed.live.get_live(ctrl.SERVICE, routed.key_of("resnet50-canary"))
    assert state["candidate"] in canary.spec["selector"].values()  # type: ignore[union-attr]
    assert shape(await routed.route("shop")) == before
    # Somebody else's field, written meanwhile, survives.
    note = {"metadata": {"annotations": {"theirs": "too"}}}
    await routed.live.patch(KINDS[provider], routed.key_of("shop"), note)
    await routed.resting()
    after = await routed.weights("shop")
    assert (after["stable"], after["canary"]) == (100, 0)
    assert {k: v for k, v in after.items() if k == "other"} == {
        k: v for k, v in first.items() if k == "other"
    }
    raw = await routed.route("shop")
    assert at(raw, "metadata", "annotations") == {"note": "mine", "theirs": "too"}
    assert (await routed.status())["stableRevision"] == state["candidate"]
    for side in ("stable", "canary"):  # at rest both lead to all pods: no later rollout can strand them
        service = await routed.live.get_live(ctrl.SERVICE, routed.key_of(f"resnet50-{side}"))
        assert state["candidate"] not in service.spec["selector"].values()  # type: ignore[union-attr]
    assert routed.mixed == []


@LONG
async def test_a_gateway_that_refuses_gets_no_weight_further(routed: Routed) -> None:
    await routed.routed("v1.0.0")
    await routed.resting()
    await routed.routed("v1.1.0")
    await routed.until("Preparing")
    while (
        not at(await routed.status(), "canary", "path")
        or at(await routed.status(), "canary", "path", "way") != "Routed"
    ):
        await routed.turn()
    routed.says = ""
    await routed.until("Shifting")
    for _ in range(3):
        await routed.turn(1.0)
    status = await routed.status()
    assert status["canary"]["phase"] == "Shifting"  # type: ignore[index]
    told = condition(status, "TrafficVerified")
    assert (told["status"], told["reason"]) == ("False", "TrafficPending")
    assert "has seen generation" in told["message"]
    routed.says = "False"
    await routed.until("RollingBack")
    status = await routed.status()
    assert "says Accepted False of the HTTPRoute (UnsupportedValue: as the test says)" in str(
        status["canary"]
    )
    # The weight of 0 counts only once it is accepted: nothing is drained before.
    for _ in range(3):
        await routed.turn()
    assert at(await routed.status(), "canary", "phase") == "RollingBack"
    routed.says = "True"
    await routed.resting()
    assert (await routed.status())["canary"]["history"][-1]["ending"] == "TrafficRefused"  # type: ignore[index]
    assert await routed.weights() == {"": 100}


@providers(short="Istio")
async def test_who_changes_the_weights_back_is_told(routed: Routed, provider: str) -> None:
    routed.provider, routed.verdict = provider, ""
    await routed.routed("v1.0.0", route=USERS)
    made = await routed.live.apply(users_route(provider, routed.namespace))
    await routed.resting()
    await routed.routed("v1.1.0", route=USERS)
    state = await routed.until("Analysing")
    path = "/spec/rules/1/backendRefs" if provider == "GatewayAPI" else "/spec/http/1/route"
    patch = [
        {"op": "add", "path": f"{path}/0/weight", "value": 100},
        {"op": "add", "path": f"{path}/1/weight", "value": 0},
    ]
    await routed.live.patch(KINDS[provider], routed.key_of("shop"), patch, type="json")
    await routed.once()
    told = condition(await routed.status(), "TrafficVerified")
    assert (told["status"], told["reason"]) == ("False", "TrafficDrifted")
    assert "was changed by envtest" in told["message"]
    assert "have nobody else set these weights" in told["message"]
    routed.verdict = "Passed"
    again = await routed.until("Analysing")
    assert (again.get("step", 0)) == state.get("step", 0)
    assert int(str(again["attempt"])) > int(str(state["attempt"]))
    found = await routed.weights("shop")
    assert (found["stable"], found["canary"]) == (50, 50)
    await routed.resting()
    found = await routed.weights("shop")
    assert (found["stable"], found["canary"]) == (100, 0)
    assert shape(await routed.route("shop")) == shape(made.raw), "nothing but weights was touched"
    assert routed.mixed == []


@LONG
async def test_a_route_that_goes_holds_the_run(routed: Routed) -> None:
    routed.verdict = ""
    await routed.routed("v1.0.0", route=USERS)
    wanted = users_route("GatewayAPI", routed.namespace)
    await routed.live.apply(wanted)
    await routed.resting()
    await routed.routed("v1.1.0", route=USERS)
    await routed.until("Analysing")
    await routed.live.delete(KINDS["GatewayAPI"], routed.key_of("shop"))
    await routed.until("Paused", turns=80)
    told = condition(await routed.status(), "TrafficVerified")
    assert (told["status"], told["reason"]) == ("False", "TrafficUnreachable")
    assert "does not exist" in told["message"] or "was deleted" in told["message"]
    sizes = await routed.deployments()
    assert all(sizes.values()), "nobody is drained while nobody knows where requests go"
    await routed.live.apply(wanted)
    await routed.until("Analysing")
    found = await routed.weights("shop")
    assert (found["stable"], found["canary"]) == (50, 50)


@LONG
@pytest.mark.parametrize(
    ("when", "verdict", "route"),
    [("after", "Passed", USERS), ("before", "Failed", USERS), ("after", "Passed", None)],
)
async def test_the_operator_is_killed_at_every_write(
    routed: Routed, when: str, verdict: str, route: dict[str, object] | None
) -> None:
    """It dies before, or right after, each write in turn; a fresh one goes on from what the server has."""
    await routed.routed("v1.0.0", route=route)
    await routed.live.apply(users_route("GatewayAPI", routed.namespace))
    await routed.resting()
    first = (await routed.status())["stableRevision"]
    routed.verdict = verdict
    await routed.routed("v1.1.0", route=route)
    deaths = await routed.killed_at_every_write(when)
    await routed.resting()
    assert deaths > 8
    status = await routed.status()
    ending = "Promoted" if verdict == "Passed" else "AnalysisFailed"
    state = await routed.canary_status()
    assert [(item["run"], item["ending"]) for item in state["history"]] == [(1, ending)]  # type: ignore
    assert (status["stableRevision"] != first) == (verdict == "Passed")
    if route is None:
        assert await routed.weights() == {"": 100}
    else:
        found = await routed.weights("shop")
        assert (found["stable"], found["canary"]) == (100, 0)
    assert routed.mixed == []


@LONG
async def test_a_run_can_be_ended_without_its_route(routed: Routed) -> None:
    routed.verdict = ""
    await routed.routed("v1.0.0", route=USERS)
    await routed.live.apply(users_route("GatewayAPI", routed.namespace))
    await routed.resting()
    stable = (await routed.status())["stableRevision"]
    await routed.routed("v1.1.0", route=USERS)
    await routed.until("Analysing")
    await routed.live.delete(KINDS["GatewayAPI"], routed.key_of("shop"))
    await routed.turn()
    await routed.command("abort")
    await routed.resting()
    status = await routed.status()
    assert (status["stableRevision"], at(status, "canary", "phase") or "Idle") == (stable, "Idle")
    assert status["canary"]["history"][-1]["ending"] == "Aborted"  # type: ignore[index]


@LONG
async def test_a_route_of_ours_that_goes_comes_back(routed: Routed) -> None:
    routed.verdict = ""
    await routed.routed("v1.0.0")
    await routed.resting()
    await routed.routed("v1.1.0")
    await routed.until("Analysing")
    before = await routed.weights()
    await routed.live.delete(KINDS["GatewayAPI"], routed.key_of("resnet50"))
    await routed.once()
    assert "was deleted" in condition(await routed.status(), "TrafficVerified")["message"]
    await routed.until("Analysing")
    assert await routed.weights() == before


@LONG
async def test_writes_that_are_refused(routed: Routed) -> None:
    """Five minutes of it: no step, nothing scaled down, and right again afterwards."""
    await routed.routed("v1.0.0")
    await routed.resting()
    await routed.routed("v1.1.0")
    client = routed.client
    while at(await routed.status(), "canary", "path", "way") != "Routed":
        await routed.turn()
    client.why = 'admission webhook "guard" denied the request: frozen'  # type: ignore[attr-defined]
    await routed.until("Paused", turns=80)
    told = condition(await routed.status(), "TrafficVerified")
    assert (told["status"], told["reason"]) == ("False", "TrafficUnreachable")
    assert "HTTPRoute" in told["message"]
    assert 'admission webhook "guard" denied the request: frozen' in told["message"]
    assert all((await routed.deployments()).values())
    client.why = ""  # type: ignore[attr-defined]
    await routed.resting()
    assert (await routed.status())["canary"]["history"][-1]["ending"] == "Promoted"  # type: ignore[index]
    assert routed.mixed == []


async def test_what_cannot_begin_says_why(routed: Routed) -> None:
    await routed.routed("v1.0.0", route={"name": "shop"})
    await routed.resting()
    await routed.routed("v1.1.0", route={"name": "shop"})
    await routed.turn()
    told = condition(await routed.status(), "Degraded")
    name = f"{routed.namespace}/shop"
    assert (told["status"], told["reason"]) == ("True", "CanaryRefused")
    assert told["message"] == (
        f"traffic.route.name shop: HTTPRoute {name} does not exist: create it, or correct the name"
    )
    assert condition(await routed.status(), "TrafficVerified")["message"] == told["message"]
    assert at(await routed.status(), "canary", "run") in (None, 0)
    # Nothing tells of a route that is created: it is looked for.
    await routed.live.apply(users_route("GatewayAPI", routed.namespace))
    assert ((await routed.once()).requeue_after or 99) <= 10
    await routed.turn()
    assert at(await routed.status(), "canary", "run") == 1


async def test_what_nothing_asks_for_any_more_is_deleted(routed: Routed) -> None:
    await routed.routed("v1.0.0")
    await routed.resting()
    assert await routed.route() is not None
    await routed.live.apply(users_route("GatewayAPI", routed.namespace))
    await routed.routed("v1.0.0", route=USERS)
    for _ in range(3):
        await routed.turn()
    assert await routed.route() is None
    assert at(await routed.status(), "traffic", "route") == USERS
    # A user's route stays, whatever becomes of the service's strategy.
    await routed.apply(replicas=2, models=[{"name": "resnet50", "pinned": pinned()}])
    await routed.turn()
    assert await routed.route("shop") is not None


async def test_a_cluster_that_knows_no_such_routes(routed: Routed) -> None:
    """Neither at rest nor for a run: the service is there all the same."""

    class Newer(HTTPRoutes):
        kind = replace(HTTP_ROUTE, version="v9")

    provider = Routes(routed.client, Newer())  # type: ignore[arg-type]
    home = Home(
        owner=Owner(routed.namespace, "resnet50", "u"), route=RouteRef(gateways=(Gateway(name="gw"),))
    )
    words = (
        "this cluster has no HTTPRoute (gateway.networking.k8s.io/v9): install the CRDs of the Gateway API, "
        "v1, or use traffic.provider Envoy"
    )
    assert await provider.problem(home) == words
    await provider.go_home(home)
    assert await provider.at_home(home) == Drifted(change=0, reason=words, lost=True)
    alone = Split(
        service=home.owner.key, uid="u", port=0, change=3, stable=Revision(hash="a"), route=home.route
    )
    aim = replace(alone, candidate=Revision(hash="b"), weight=5)
    await provider.apply(aim)
    assert await provider.verify(aim) == Unreachable(change=3, reason=words)
    # Where there is no route, nobody comes by it: a run that was on can end.
    assert await provider.verify(alone) == Verified(change=3, effective=0.0)


async def test_nobody_elses_write_is_lost(routed: Routed) -> None:
    """A patch of weights is of the route as it was seen; one that moved on meanwhile is looked at again."""
    made = await routed.live.apply(users_route("GatewayAPI", routed.namespace))
    condition_: dict[str, object] = {
        "op": "replace",
        "path": "/metadata/resourceVersion",
        "value": made.resource_version,
    }
    weigh = {"op": "add", "path": "/spec/rules/1/backendRefs/0/weight", "value": 7}
    note = {"metadata": {"annotations": {"theirs": "too"}}}
    moved = await routed.live.patch(HTTP_ROUTE, routed.key_of("shop"), note)
    with pytest.raises(ctrl.Conflict):
        await routed.live.patch(HTTP_ROUTE, routed.key_of("shop"), [condition_, weigh], type="json")
    condition_["value"] = moved.resource_version
    after = await routed.live.patch(HTTP_ROUTE, routed.key_of("shop"), [condition_, weigh], type="json")
    assert shape(after.raw) == shape(moved.raw)
    assert after.spec["rules"][1]["backendRefs"][0]["weight"] == 7


@LONG
async def test_as_the_operator_runs_it(routed: Routed, routes: Envtest) -> None:
    """Manager, caches, and no more rights than are declared."""
    config = await permitted(routed, routes, (*PaddleServiceReconciler.rules, *Routes.rules))
    await routed.routed("v1.0.0", route=USERS)
    await routed.live.apply(users_route("GatewayAPI", routed.namespace))
    async with operator(routed, config, routes=True):
        await until(routed, "Idle")
        await routed.routed("v1.1.0", route=USERS)
        await until(routed, "Analysing", "Promoting", "Draining", turns=600)
        await until(routed, "Idle", path="Direct", turns=600)
    status = await routed.status()
    assert status["canary"]["history"][-1]["ending"] == "Promoted"  # type: ignore[index]
    found = await routed.weights("shop")
    assert (found["stable"], found["canary"]) == (100, 0)
    assert routed.mixed == []
