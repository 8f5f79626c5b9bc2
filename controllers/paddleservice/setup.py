"""Wires the PaddleService controller into a manager."""

from collections.abc import Callable, Iterable

import controller_runtime as ctrl

from ..caches import BY_MODEL, MANAGED_KINDS
from ..kinds import PADDLE_MODEL, PADDLE_SERVICE
from ..options import Options
from ..probe import ObservedStore, Prober, Target
from .reconciler import BY_SERVICE, PaddleServiceReconciler, by_service, service_of


def _models_services(cache: ctrl.Cache) -> Callable[[ctrl.Object], Iterable[ctrl.Key]]:
    """The services that name a PaddleModel, from the index of an informer."""

    def keys(model: ctrl.Object) -> Iterable[ctrl.Key]:
        informer = cache.informer(PADDLE_SERVICE)
        return [item.key for item in informer.list(index=(BY_MODEL, str(model.key)))]

    return keys


def setup(
    manager: ctrl.Manager,
    options: Options,
    *,
    probe_url: Callable[[Target], str] | None = None,
) -> PaddleServiceReconciler:
    """Add the controller and its prober to `manager`, whose caches were declared by `caches.configure`.

    `probe_url` replaces http://<pod>:<port>/progress.
    """
    cache = manager.cache
    index = {BY_SERVICE: by_service}
    for kind in MANAGED_KINDS:
        cache.watch(kind, indexes=index)

    channel = ctrl.Channel()
    store = ObservedStore()
    manager.add(Prober(store, channel, port=options.probe_port, url=probe_url))
    reconciler = PaddleServiceReconciler(
        manager.client, store, manager.events("paddleservice-controller"), options
    )
    builder = ctrl.controller(manager, "paddleservice").manages(PADDLE_SERVICE, when=ctrl.generation_changed)
    for kind in (ctrl.DEPLOYMENT, ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.PDB, ctrl.NETWORK_POLICY):
        builder.owns(kind, when=ctrl.resource_version_changed)
    builder.watches(ctrl.POD, service_of, when=ctrl.resource_version_changed)
    builder.watches(PADDLE_MODEL, _models_services(cache), when=ctrl.resource_version_changed)
    builder.source(channel)
    builder.complete(reconciler, workers=options.workers)
    return reconciler
