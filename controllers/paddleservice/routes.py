"""A canary on a route of the cluster's own: what is asked and told of it, and what becomes of an old one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import controller_runtime as ctrl

from ..conditions import Condition, Type
from ..reasons import Reason
from ..resources.desired import Settings
from ..resources.meta import Owner
from ..resources.wire import JSON, mapping, pruned, text
from ..rollout.canary import Canary, Endpoints, Report, Route, Select, Way
from ..traffic import Drifted, Home, Provider, RouteProvider, Verified, route, route_to_wire, rules
from .effects import Effect, GoHome, Retire
from .observed import Observed, Watched
from .rollout import Canarying, Rollout

#: Seconds between looks at a route while a run is on: nothing tells when somebody else writes it.
ROUTE_INTERVAL: Final = 5.0
#: The same for one that does not lead to its service yet, while no run is on.
HOME_INTERVAL: Final = 10.0
#: The same for one that is being deleted.
LEFTOVER_INTERVAL: Final = 1.0

#: Ways on which the route leads to the service, or is to.
_HOME: Final = (Way.Direct, Way.Leaving, Way.Closing)


def owner_of(service: ctrl.Object) -> Owner:
    return Owner(service.namespace, service.name, service.uid)


def refusal(provider: Provider | None, name: str, settings: Settings) -> str:
    """Why the spec cannot be followed with this provider, in one line; ""."""
    if isinstance(provider, RouteProvider) and rules({"traffic": settings.traffic}):
        return f"traffic.rules: provider {name} has none: write them in a route of your own, or use Envoy"
    return ""


def home_of(service: ctrl.Object, settings: Settings, name: str, state: Canary) -> Home:
    """A run ends with the route that it began with."""
    known = mapping(service.status.get("traffic"))
    begun = not state.at_rest and text(known.get("provider")) == name
    return Home(owner=owner_of(service), route=route(known if begun else settings.traffic))


async def look(provider: RouteProvider, home: Home, state: Canary, watched: Watched) -> Watched:
    """While the route leads to the service, or is to."""
    said = await provider.at_home(home)
    there = isinstance(said, Verified)
    lost = isinstance(said, Drifted) and said.lost  # where nothing leads anywhere, nobody comes
    wrong = await provider.problem(home) if state.at_rest else ""
    return replace(
        watched,
        home=home,
        at_home=there,
        awaits=wrong or ("" if isinstance(said, Verified) else said.reason),
        endpoints=Endpoints.Pods if there or lost else Endpoints.Mixed,
        problem=watched.problem or wrong,
    )


def leads_home(state: Canary) -> bool:
    return state.at_rest or state.path.way in _HOME


def told(watched: Watched, home: Home, report: Report, effective: float | None) -> Watched:
    """While the route leads to revisions. The Service does not change: the route is what clients follow."""
    endpoints = Endpoints.Routers if report.route is Route.Verified else Endpoints.Mixed
    return replace(watched, home=home, report=report, effective=effective, endpoints=endpoints)


async def leftover(
    providers: Mapping[str, Provider], service: ctrl.Object, settings: Settings
) -> tuple[str, Home] | None:
    """The route of ours that the status names and the spec does not ask for any more, while it is there."""
    known = mapping(service.status.get("traffic"))
    name, old = text(known.get("provider")), route(known)
    provider = providers.get(name)
    wanted = (
        settings.strategy.type == "Canary"
        and settings.traffic.get("provider") == name
        and route(settings.traffic).own
    )
    if not isinstance(provider, RouteProvider) or not old.own or wanted:
        return None
    home = Home(owner=owner_of(service), route=old)
    return None if await provider.retired(home) else (name, home)


def effects(observed: Observed, rollout: Rollout) -> list[Effect]:
    watched, run = observed.watched, rollout.canary
    if watched.leftover is not None:
        return [Retire(*watched.leftover)]
    if run is None or watched.home is None:
        return []
    resting = run.state.at_rest and not watched.at_home
    if resting or Select(routers=False) in run.decision.effects:
        return [GoHome(run.provider, watched.home)]
    return []


def looks_again(observed: Observed, rollout: Rollout) -> list[float]:
    """Seconds until it is to be looked at although nothing may happen."""
    watched, run = observed.watched, rollout.canary
    if watched.leftover is not None:
        return [LEFTOVER_INTERVAL]
    if run is None or watched.home is None:
        return []
    if not run.state.at_rest:
        return [ROUTE_INTERVAL]
    return [HOME_INTERVAL] if watched.awaits else []


def condition(observed: Observed, run: Canarying) -> Condition | None:
    """Of a route that leads to the service, or is to; None while it leads to revisions."""
    watched = observed.watched
    if watched.home is None or run.state.path.way not in _HOME:
        return None
    if not watched.awaits:
        mine = watched.home.route.name
        words = f"the route leads to Service {observed.owner.name}"
        if mine:
            words = f"no canary is on: the weights of route {mine} are yours"
        return Condition(Type.TrafficVerified, "True", Reason.TrafficVerified, words)
    return Condition(Type.TrafficVerified, "False", Reason.TrafficPending, watched.awaits)


def doubted(observed: Observed, run: Canarying) -> bool:
    """A route that was verified, and is not now: others write it too, and who serves it has a say."""
    report = observed.watched.report
    ours = observed.watched.home is not None and report.change == run.state.traffic.change
    return ours and report.route is not Route.Verified


def wire(observed: Observed, run: Canarying | None) -> JSON:
    """`status.traffic` without a split: which route of ours is to be deleted once nothing asks for it."""
    watched = observed.watched
    if watched.leftover is not None:
        return {"traffic": observed.status["traffic"]}
    if run is None or watched.home is None:
        return {}
    return {"traffic": pruned({"provider": run.provider, "route": route_to_wire(watched.home.route)})}
