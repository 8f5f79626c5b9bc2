"""Routes as people write them, and a world in which the steps of `routing` are done."""

from dataclasses import dataclass, field

from controllers.resources.meta import Owner
from controllers.traffic import Home, Revision, RouteRef, Split
from controllers.traffic.route import CANARY, STABLE, Gateway
from controllers.traffic.routing import Alias, Dialect, Make, Patch, Point, Seen, Step

OWNER = Owner("default", "svc", "uid-1")
OWN = Home(owner=OWNER, route=RouteRef(gateways=(Gateway(name="gw", namespace="infra"),)))
MINE = Home(owner=OWNER, route=RouteRef(name="shop"))


def split(stable: str, candidate: str = "", weight: int = 0, *, change: int = 1, home: Home = OWN) -> Split:
    return Split(
        service=home.owner.key,
        uid=home.owner.uid,
        port=0,
        change=change,
        stable=Revision(hash=stable),
        candidate=Revision(hash=candidate) if candidate else None,
        weight=weight,
        route=home.route,
    )


def http_route(
    stable: int = 50, canary: int = 50, *, generation: int = 1, accepted: bool = True
) -> dict[str, object]:
    """A user's HTTPRoute: its own rule first, with a header; then the one that is ours to weigh."""
    backends = [
        {"name": "svc-stable", "port": 80, "weight": stable},
        {"name": "svc-canary", "port": 80, "weight": canary, "filters": []},
    ]
    return {
        "metadata": {
            "name": "shop",
            "namespace": "default",
            "generation": generation,
            "resourceVersion": "7",
            "managedFields": [{"manager": "argocd", "time": "2026-01-02T00:00:00Z"}],
        },
        "spec": {
            "parentRefs": [{"name": "gw", "namespace": "infra"}],
            "rules": [
                {"matches": [{"headers": [{"name": "x", "value": "y"}]}], "backendRefs": backends[1:]},
                {"name": "main", "backendRefs": backends},
            ],
        },
        "status": {"parents": [parent(generation)] if accepted else []},
    }


def parent(generation: int, *, accepted: str = "True", resolved: str = "True") -> dict[str, object]:
    """What a Gateway's controller says, with the defaults of the reference filled in."""
    conditions = [
        {"type": name, "status": status, "observedGeneration": generation, "reason": "R", "message": "m"}
        for name, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
    ]
    reference = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw", "namespace": "infra"}
    return {"parentRef": reference, "controllerName": "example.com/c", "conditions": conditions}


def virtual_service(stable: int = 100, canary: int | None = None) -> dict[str, object]:
    route: list[dict[str, object]] = [
        {"destination": {"host": "svc-stable"}, "weight": stable},
        {"destination": {"host": "svc-canary.default.svc.cluster.local"}},
    ]
    if canary is not None:
        route[1]["weight"] = canary
    return {
        "metadata": {"name": "shop", "namespace": "default", "resourceVersion": "7", "generation": 1},
        "spec": {"hosts": ["shop"], "http": [{"name": "main", "route": route, "retries": {"attempts": 3}}]},
    }


@dataclass
class Cluster:
    """A user's route, its two Services, and pods by revision."""

    dialect: Dialect
    weights: dict[str, int] = field(default_factory=lambda: {STABLE: 50, CANARY: 50})
    aliases: dict[str, str] = field(default_factory=dict)
    pods: set[str] = field(default_factory=set)

    def chosen(self, side: str) -> frozenset[str]:
        revision = self.aliases.get(side)
        if revision is None:
            return frozenset()
        return frozenset(self.pods) if not revision else frozenset({revision} & self.pods)

    def seen(self) -> Seen:
        return Seen(
            route=http_route(self.weights[STABLE], self.weights[CANARY]),
            aliases={side: Alias(ours=True, revision=name) for side, name in self.aliases.items()},
            ready={MINE.alias(side): self.chosen(side) for side in self.aliases},
        )

    def do(self, step: Step) -> bool:
        """Whether there was anything to do."""
        match step:
            case Make(side):
                self.aliases[side] = ""
            case Point(side, revision):
                self.aliases[side] = revision
            case Patch(patch):
                for entry in patch[1:]:
                    side = STABLE if "backendRefs/0/" in str(entry["path"]) else CANARY
                    assert str(entry["path"]).startswith("/spec/rules/1/"), "the header rule is the user's"
                    self.weights[side] = int(str(entry["value"]))
            case _:
                return False
        return True

    def traffic(self) -> frozenset[str]:
        """Revisions that requests of the weighted rule may meet; "" for an answer of nobody."""
        met: set[str] = set()
        for side, weight in self.weights.items():
            if weight:
                met |= self.chosen(side) or {""}
        return frozenset(met)
