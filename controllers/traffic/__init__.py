"""How requests are split between the revisions of a service: one Protocol, one file a provider.

The caller persists a split in the service's status *before* it hands it over, and asks `verify` until it is
in force. Providers are told by change numbers: what is lower than one already seen is ignored, so a late
writer and a late reply do no harm.
"""

from .provider import (
    Backend,
    Drifted,
    Pending,
    Provider,
    Refused,
    RouteProvider,
    Unreachable,
    Verification,
    Verified,
)
from .route import Home, RouteRef, route, route_to_wire
from .split import Match, Revision, Rule, Split, UserShare, Value, from_wire, refusal, rules, to_wire

__all__ = [
    "Backend",
    "Drifted",
    "Home",
    "Match",
    "Pending",
    "Provider",
    "Refused",
    "Revision",
    "RouteProvider",
    "RouteRef",
    "Rule",
    "Split",
    "Unreachable",
    "UserShare",
    "Value",
    "Verification",
    "Verified",
    "from_wire",
    "refusal",
    "route",
    "route_to_wire",
    "rules",
    "to_wire",
]
