"""Wires the PaddleService controller into a manager."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import controller_runtime as ctrl

from ..caches import BY_MODEL, MANAGED_KINDS
from ..kinds import CANARY_ANALYSIS, LABEL_SERVICE, MANAGED_SELECTOR, PADDLE_MODEL, PADDLE_SERVICE
from ..options import Options
from ..probe import ObservedStore, Prober, Target
from ..traffic import Provider
from ..traffic.setup import setup as setup_traffic
from .metrics import CanaryMetrics
from .questions import Questions
from .reconciler import BY_SERVICE, PaddleServiceReconciler, by_service, service_of
from .watcher import SERVICE_NAME, Surroundings


def _models_services(cache: ctrl.Cache) -> Callable[[ctrl.Object], Iterable[ctrl.Key]]:
    """The services that name a PaddleModel, from the index of an informer."""

    def keys(model: ctrl.Object) -> Iterable[ctrl.Key]:
        informer = cache.informer(PADDLE_SERVICE)
        return [item.key for item in informer.list(index=(BY_MODEL, str(model.key)))]

    return keys


def _main_slice(slice_: ctrl.Object) -> Iterable[ctrl.Key]:
    """The service whose Service <name> an EndpointSlice belongs to; a revision's own is nobody's business."""
    name = slice_.labels.get(SERVICE_NAME)
    return [ctrl.Key(slice_.namespace, name)] if name and name == slice_.labels.get(LABEL_SERVICE) else []


def setup(
    manager: ctrl.Manager,
    options: Options,
    *,
    probe_url: Callable[[Target], str] | None = None,
    providers: Mapping[str, Provider] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> PaddleServiceReconciler:
    """Add the controller and its prober to `manager`, whose caches were declared by `caches.configure`.

    `probe_url` replaces http://<pod>:<port>/progress, `providers` those that the operator runs.
    """
    cache = manager.cache
    index = {BY_SERVICE: by_service}
    for kind in MANAGED_KINDS:
        cache.watch(kind, indexes=index)

    channel = ctrl.Channel()
    store = ObservedStore()
    manager.add(Prober(store, channel, port=options.probe_port, url=probe_url))
    traffic = ctrl.Channel()
    chosen = providers if providers is not None else setup_traffic(manager, options.traffic, traffic)
    questions = Questions(traffic, options.endpoint_policy)
    manager.add(questions)
    unable = {"Envoy": options.traffic.unable} if providers is None else {}
    reconciler = PaddleServiceReconciler(
        manager.client,
        store,
        manager.events("paddleservice-controller"),
        options,
        around=Surroundings(
            providers=chosen,
            unable=unable,
            servers=[server.name for server in options.prometheus],
            custom_promql=options.allow_custom_promql,
            questions=questions,
            settle=options.settle,
        ),
        metrics=CanaryMetrics(manager.metrics.registry),
        clock=clock,
    )
    cache.watch(CANARY_ANALYSIS)
    cache.watch(ctrl.ENDPOINT_SLICE, labels=MANAGED_SELECTOR)
    changed = ctrl.any_of(ctrl.generation_changed, ctrl.annotations_changed)
    builder = ctrl.controller(manager, "paddleservice").manages(PADDLE_SERVICE, when=changed)
    builder.owns(CANARY_ANALYSIS, when=ctrl.resource_version_changed)
    builder.watches(ctrl.ENDPOINT_SLICE, _main_slice, when=ctrl.resource_version_changed)
    builder.source(traffic)
    for kind in (ctrl.DEPLOYMENT, ctrl.SERVICE, ctrl.CONFIG_MAP, ctrl.PDB, ctrl.NETWORK_POLICY):
        builder.owns(kind, when=ctrl.resource_version_changed)
    builder.watches(ctrl.POD, service_of, when=ctrl.resource_version_changed)
    builder.watches(PADDLE_MODEL, _models_services(cache), when=ctrl.resource_version_changed)
    builder.source(channel)
    builder.complete(reconciler, workers=options.workers)
    return reconciler
