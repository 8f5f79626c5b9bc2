"""A canary on a route of the cluster's own: real CRDs, and a controller of Gateways that a test scripts."""

import json
from collections.abc import Mapping
from datetime import timedelta

import controller_runtime as ctrl
from controllers.kinds import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_REVISION, LABEL_SERVICE
from controllers.paddleservice.watcher import SERVICE_NAME, Surroundings
from controllers.resources.wire import at, maps
from controllers.traffic.gateway import HTTP_ROUTE, HTTPRoutes
from controllers.traffic.istio import VIRTUAL_SERVICE, VirtualServices
from controllers.traffic.routeprovider import Routes
from controllers.traffic.routing import Dialect

from .canaries import Canaries, Said
from .harness import DirectClient, pinned

DIALECTS: Mapping[str, Dialect] = {"GatewayAPI": HTTPRoutes(), "Istio": VirtualServices()}
KINDS = {"GatewayAPI": HTTP_ROUTE, "Istio": VIRTUAL_SERVICE}
#: Routes of ours, and one of the user's.
OURS = {"GatewayAPI": {"gateways": [{"name": "gw"}]}, "Istio": {}}
USERS = {"name": "shop"}


class Refusing(DirectClient):
    """Writes of routes are refused while `why` says so."""

    why = ""

    def refused(self, kind: str) -> None:
        if self.why and kind in ("HTTPRoute", "VirtualService"):
            raise ctrl.Forbidden(403, "Forbidden", self.why)

    async def apply(self, raw: dict[str, object]) -> object:
        self.refused(str(raw["kind"]))
        return await super().apply(raw)

    async def patch(self, kind: ctrl.Kind, key: ctrl.Key, patch: object, **options: str) -> object:
        self.refused(kind.kind)
        return await super().patch(kind, key, patch, **options)


def users_route(name: str, namespace: str) -> dict[str, object]:
    """What a user wrote: a rule of their own, the two backends with more fields than weights, annotations."""
    kind = KINDS[name]
    if name == "GatewayAPI":
        refs = [
            {"name": "resnet50-stable", "port": 80, "weight": 3},
            {
                "name": "resnet50-canary",
                "port": 80,
                "weight": 1,
                "filters": [
                    {
                        "type": "RequestHeaderModifier",
                        "requestHeaderModifier": {"set": [{"name": "x-side", "value": "canary"}]},
                    }
                ],
            },
        ]
        own = {
            "matches": [{"headers": [{"name": "x-me", "value": "1"}]}],
            "backendRefs": [{"name": "other", "port": 1}],
        }
        spec: dict[str, object] = {"parentRefs": [{"name": "gw"}], "rules": [own, {"backendRefs": refs}]}
    else:
        own = {
            "match": [{"headers": {"x-me": {"exact": "1"}}}],
            "route": [{"destination": {"host": "other"}}],
        }
        both = [
            {"destination": {"host": "resnet50-stable", "port": {"number": 80}}, "weight": 75},
            {
                "destination": {"host": "resnet50-canary"},
                "weight": 25,
                "headers": {"request": {"set": {"a": "b"}}},
            },
        ]
        spec = {"hosts": ["shop.example"], "http": [own, {"route": both, "retries": {"attempts": 3}}]}
    meta = {"name": "shop", "namespace": namespace, "annotations": {"note": "mine"}, "labels": {"a": "b"}}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": spec}


class Routed(Canaries):
    """`provider` is the one under test. says: what the Gateway's controller says of each generation; "" for
    nothing.
    """

    provider = "GatewayAPI"
    says = "True"
    seconds = 35.0

    def around(self) -> Surroundings:
        if not hasattr(self, "said"):
            self.said, self.mixed = Said(), []
            self.client = Refusing(self.live)
        providers = {
            name: Routes(self.client, dialect, clock=lambda: self.later.total_seconds())  # type: ignore[arg-type]
            for name, dialect in DIALECTS.items()
        }
        return Surroundings(providers=providers, servers=("default",), questions=self.said)  # type: ignore[arg-type]

    async def routed(self, version: str, *, route: object = None, **block: object) -> None:
        traffic = {"provider": self.provider, "route": OURS[self.provider] if route is None else route}
        strategy = {"type": "Canary", "canary": {"weight": 50, "stableForSeconds": 0, **block}}
        models = [{"name": "resnet50", "pinned": pinned(version)}]
        await self.apply(replicas=2, updateStrategy=strategy, models=models, traffic=traffic)

    def key_of(self, name: str) -> ctrl.Key:
        return ctrl.Key(self.namespace, name)

    async def route(self, name: str = "resnet50") -> dict[str, object] | None:
        there = await self.live.get_live(KINDS[self.provider], self.key_of(name))
        return there.raw if there else None

    async def weights(self, name: str = "resnet50") -> dict[str, int]:
        raw = await self.route(name)
        assert raw is not None
        found = DIALECTS[self.provider].backends(raw)
        return {key.removeprefix("resnet50").removeprefix("-"): weight for key, weight in found.items()}

    async def world(self) -> None:
        await self.node.step()
        await self.judge()
        await self.endpoints()
        await self.gateway()
        await self.check_routes()

    async def endpoints(self) -> None:
        """Every Service has the EndpointSlice that its selector means."""
        pods = await self.live.list_live(ctrl.POD, namespace=self.namespace)
        if not hasattr(self, "slices"):
            self.slices: dict[str, object] = {}
        for service in await self.live.list_live(ctrl.SERVICE, namespace=self.namespace):
            chosen = service.spec["selector"]
            names = [pod.name for pod in pods if chosen.items() <= pod.labels.items() and up(pod)]
            body: dict[str, object] = {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{service.name}-1",
                    "namespace": self.namespace,
                    "labels": {
                        SERVICE_NAME: service.name,
                        LABEL_MANAGED_BY: FIELD_MANAGER,
                        LABEL_SERVICE: "resnet50",
                    },
                },
                "addressType": "IPv4",
                "endpoints": [
                    {
                        "addresses": [f"10.0.0.{n + 1}"],
                        "conditions": {"ready": True},
                        "targetRef": {"kind": "Pod", "name": name, "namespace": self.namespace},
                    }
                    for n, name in enumerate(names)
                ],
            }
            if self.slices.get(service.name) != body:
                self.slices[service.name] = body
                await self.live.apply(body)

    async def gateway(self) -> None:
        """What its controller does: it says of each new generation what it makes of it."""
        if self.provider != "GatewayAPI" or not self.says:
            return
        for route in await self.live.list_live(HTTP_ROUTE, namespace=self.namespace):
            conditions = [
                {
                    "type": kind,
                    "status": self.says if kind == "Accepted" else "True",
                    "observedGeneration": route.generation,
                    "reason": "UnsupportedValue" if self.says != "True" else kind,
                    "message": "as the test says",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
                for kind in ("Accepted", "ResolvedRefs")
            ]
            parent = {"name": "gw", "group": "gateway.networking.k8s.io", "kind": "Gateway"}
            entry = {"parentRef": parent, "controllerName": "example.com/gw", "conditions": conditions}
            known = maps(at(route.status, "parents"))
            seen = [at(next(maps(item.get("conditions")), {}), "observedGeneration") for item in known]
            if (
                seen != [route.generation]
                or route.status["parents"][0]["conditions"][0]["status"] != self.says
            ):
                await self.live.apply_status(HTTP_ROUTE, route.key, {"parents": [entry]})

    async def check_routes(self) -> None:
        """No weight leads to a Service without a ready endpoint, nor to a revision that may have none: what
        must hold after every pass.
        """
        status = await self.status()
        possible = maps(at(status, "canary", "traffic", "possible"))
        allowed = {str(status.get("stableRevision")), *(str(item["revision"]) for item in possible)}
        pods = await self.live.list_live(ctrl.POD, namespace=self.namespace)
        of = {pod.name: pod.labels.get(LABEL_REVISION, "") for pod in pods}
        for name in ("resnet50", "shop"):
            raw = await self.route(name)
            if raw is None or not status.get("stableRevision") or not at(status, "traffic", "stable"):
                continue
            for service, weight in DIALECTS[self.provider].backends(raw).items():
                slice_ = self.slices.get(service)
                if not weight or slice_ is None:
                    continue
                met = {of[str(at(item, "targetRef", "name"))] for item in maps(at(slice_, "endpoints"))}
                if not met or not met <= allowed:
                    self.mixed.append(f"{service} has weight {weight} and leads to {met}, not {allowed}")

    async def turn(self, seconds: float | None = None) -> None:
        self.later += timedelta(seconds=self.seconds if seconds is None else seconds)
        await self.once()
        await self.world()

    async def resting(self, *, turns: int = 60) -> None:
        """Turn until no run is on, and the route leads to the service."""
        for _ in range(turns):
            await self.turn()
            status = await self.status()
            state = status.get("canary", {})
            quiet = state.get("phase", "Idle") == "Idle" and "path" not in state  # type: ignore[attr-defined]
            if quiet and status.get("stableRevision") and not at(status, "traffic", "stable"):
                return
        raise AssertionError(f"not at rest: {await self.status()}")


def up(pod: ctrl.Object) -> bool:
    ready = (c["type"] == "Ready" and c["status"] == "True" for c in pod.status.get("conditions", ()))
    return any(ready) and not pod.deleting


def shape(raw: Mapping[str, object] | None) -> str:
    """All of an object that is not the server's own, with every weight blanked."""
    assert raw is not None
    meta = at(raw, "metadata")
    kept = {k: meta[k] for k in ("name", "labels", "annotations") if k in meta}  # type: ignore[index, operator]

    def blank(value: object) -> object:
        if isinstance(value, dict):
            return {k: "*" if k == "weight" else blank(v) for k, v in value.items()}
        return [blank(item) for item in value] if isinstance(value, list) else value

    return json.dumps({"metadata": kept, "spec": blank(raw["spec"])}, sort_keys=True)
