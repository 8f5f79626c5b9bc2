"""Wires the traffic providers into a manager."""

from collections.abc import Mapping

import controller_runtime as ctrl

from ..kinds import MANAGED_SELECTOR, PADDLE_SERVICE
from ..resources import router
from .envoy.address import Address
from .envoy.admission import TokenReviews
from .envoy.fleet import Fleet
from .envoy.leader import Leader, persisted
from .envoy.metrics import RouterMetrics
from .envoy.provider import EnvoyProvider
from .envoy.routers import RouterOptions, RouterReconciler, namespace_key
from .envoy.world import World
from .gateway import HTTPRoutes
from .istio import VirtualServices
from .options import TrafficOptions
from .provider import Provider
from .routeprovider import Routes


def setup(manager: ctrl.Manager, options: TrafficOptions, channel: ctrl.Channel) -> Mapping[str, Provider]:
    """Every provider by its name in `spec.traffic.provider`. `channel` gets the key of a PaddleService whose
    verification may have changed. (With Replicas the pods are the weight: no provider has a part in it.)
    """
    cache = manager.cache
    cache.watch(ctrl.ENDPOINT_SLICE, labels=MANAGED_SELECTOR)
    address = Address(namespace=options.namespace, bind=options.address, advertise=options.advertise)
    world = World(address="::" if ":" in options.advertise else "0.0.0.0")
    namespaces = ctrl.Channel()

    def look(namespace: str) -> None:
        namespaces.enqueue(ctrl.Key(namespace, router.NAME))

    def settled(namespace: str) -> None:
        reconciler.settled(namespace)
        look(namespace)

    def published(namespace: str) -> None:
        if namespace in world.namespaces():
            leader.need()
        look(namespace)

    def trusted(bundle: str) -> None:
        if reconciler.trust(bundle):
            for namespace in world.namespaces():
                look(namespace)

    meters = None if options.unable else RouterMetrics(manager.metrics.registry)
    fleet = Fleet(channel.enqueue, settled, meters=meters)
    admission = TokenReviews(manager.client)

    def ports(namespace: str) -> dict[ctrl.Key, int]:
        services = cache.informer(PADDLE_SERVICE).list(namespace=namespace)
        return {one.key: split.port for one in services if (split := persisted(one)) is not None}

    provider = EnvoyProvider(
        world, fleet, published, unable=options.unable, problem=lambda: admission.problem, persisted=ports
    )
    providers: dict[str, Provider] = {
        "Envoy": provider,
        "GatewayAPI": Routes(manager.client, HTTPRoutes()),
        "Istio": Routes(manager.client, VirtualServices()),
    }
    reconciler = RouterReconciler(
        manager.client,
        world,
        fleet,
        provider,
        RouterOptions(
            image=options.image,
            pull_policy=options.pull_policy,
            ads=options.ads or f"{address.name}:{address.port}",
            name=address.name,
            operator=options.namespace,
        ),
    )
    leader = Leader(
        client=manager.client,
        cache=cache,
        world=world,
        fleet=fleet,
        provider=provider,
        admission=admission,
        address=address,
        trusted=trusted,
    )
    if options.unable:
        return providers
    manager.add(leader)
    builder = ctrl.controller(manager, "router").source(namespaces)
    for kind in (ctrl.DEPLOYMENT, ctrl.CONFIG_MAP, ctrl.PDB, ctrl.NETWORK_POLICY):
        builder.watches(kind, namespace_key, when=ctrl.resource_version_changed)
    builder.complete(reconciler)
    return providers
