"""Which rollout a service follows: the planner's, or the canary's. Pure."""

from dataclasses import replace
from datetime import datetime

from . import canary, inplace
from .observed import Observed
from .rollout import Rollout, follow


def chosen(observed: Observed, now: datetime) -> Rollout:
    """Where the rollout stands and what comes next.

    A run goes on to its end whatever the strategy is now, because clients are on its routers; a service that
    is to have no pods has none to judge.
    """
    try:
        state = canary.remembered(observed.status)
    except ValueError as error:
        return canary.unreadable(observed, str(error))
    wanted = observed.settings.strategy.type == "Canary" and observed.settings.replicas > 0
    if wanted or not state.at_rest:
        return canary.follow(observed, state, now)
    rollout = follow(observed, now)
    return replace(rollout, release=inplace.follow(observed, rollout, now))
