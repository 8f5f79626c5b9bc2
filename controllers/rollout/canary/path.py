"""The switch between the direct path (all ready pods) and the routers: the table's rows for it. Pure.

There and back, clients are only led to where all answers are right already: to routers that have the route,
all stable, and to pods of which all are stable. In between, whichever way a client goes, it meets the stable
revision: no candidate has a pod before the path is Routed, none after it was.
"""

from dataclasses import replace

from .facts import View
from .state import Canary, Path, Phase, Way

#: Ways on which the routers have, or get, the route.
_THERE = (Way.Opening, Way.Entering, Way.Routed)
_SWITCHING = (Way.Entering, Way.Leaving)


def needed(v: View) -> bool:
    """A run needs the routers, and they have no route."""
    return v.plan.means == "Switched" and v.state.path.way is Way.Direct


def opened(v: View) -> Canary:
    # Whatever was in force before, by another provider, the routers have not heard of it.
    traffic = v.state.traffic.cleared(v.facts.now).ask(v.state.alone, v.facts.now)
    return replace(v.on(Way.Opening), traffic=traffic)


def unneeded(v: View) -> bool:
    """At rest, and every pod that the direct path could lead to is stable's."""
    state, facts = v.state, v.facts
    if state.path.way not in _THERE or not state.traffic.settled or state.traffic.weights != state.alone:
        return False
    return not any(pods.spec or pods.ready for name, pods in facts.pods.items() if name != state.stable)


def left(v: View) -> Canary:
    return v.on(Way.Closing if v.state.path.way is Way.Opening else Way.Leaving)


def following(v: View) -> bool:
    """The endpoints have just come to lead where they should, or do not any more."""
    path = v.state.path
    return path.way in _SWITCHING and (path.seen_at is not None) != v.arrived


def followed(v: View) -> Canary:
    seen = v.facts.now if v.arrived else None
    return replace(v.state, path=replace(v.state.path, seen_at=seen))


def settled(v: View, way: Way) -> bool:
    seen = v.state.path.seen_at
    return v.state.path.way is way and seen is not None and v.facts.now >= seen + v.plan.settle


def routed(v: View) -> Canary:
    """The candidate's time to become ready begins here."""
    state = v.on(Way.Routed)
    return replace(state, deadline=v.facts.now + v.plan.prepare) if state.phase is Phase.Preparing else state


def closed(v: View) -> Canary:
    return replace(v.state, path=Path(), traffic=v.state.traffic.cleared(v.facts.now))


def waits_for(v: View) -> str:
    """Whom the switch waits for; "" if there is none on its way."""
    path, now = v.state.path, v.facts.now
    match path.way:
        case Way.Opening:
            words = f"the routers to take the route, asked for {now - v.state.traffic.asked_at:.0f} s ago"
            said = v.facts.report.message if v.facts.report.change == v.state.traffic.change else ""
            return f"{words}: {said}" if said else words
        case Way.Entering | Way.Leaving:
            to = "routers" if path.to_routers else "pods"
            if path.seen_at is None:
                return f"the endpoints of the Service to lead to the {to}, for {now - path.since:.0f} s"
            return f"{path.seen_at + v.plan.settle - now:.0f} s for every client to follow to the {to}"
        case Way.Closing:
            return "the route to be removed"
        case _:
            return ""
