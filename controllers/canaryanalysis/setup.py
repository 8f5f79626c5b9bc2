"""Wires the CanaryAnalysis controller into a manager."""

import time
from collections.abc import Callable, Iterable

import controller_runtime as ctrl

from ..analysis.client import Servers
from ..kinds import CANARY_ANALYSIS, PADDLE_SERVICE
from ..options import Options
from .metrics import AnalysisMetrics
from .reconciler import BY_SERVICE, CanaryAnalysisReconciler, by_service

#: Analyses under way at once. They wait for Prometheus, not for a processor; each server limits its own.
WORKERS = 32


def setup(
    manager: ctrl.Manager, options: Options, *, clock: Callable[[], float] = time.time
) -> CanaryAnalysisReconciler:
    """Add the controller and the connections to the Prometheus servers that the flags give."""
    cache = manager.cache
    cache.watch(CANARY_ANALYSIS, indexes={BY_SERVICE: by_service})
    metrics = AnalysisMetrics(manager.metrics.registry, [server.name for server in options.prometheus])
    servers = Servers(options.prometheus, metrics)
    manager.add(servers)
    reconciler = CanaryAnalysisReconciler(
        manager.client,
        servers,
        manager.events("canaryanalysis-controller"),
        metrics,
        clock=clock,
        custom_promql=options.allow_custom_promql,
    )

    def analyses(service: ctrl.Object) -> Iterable[ctrl.Key]:
        informer = cache.informer(CANARY_ANALYSIS)
        return [item.key for item in informer.list(index=(BY_SERVICE, str(service.key)))]

    builder = ctrl.controller(manager, "canaryanalysis").manages(
        CANARY_ANALYSIS, when=ctrl.generation_changed
    )
    builder.watches(PADDLE_SERVICE, analyses, when=ctrl.resource_version_changed)
    builder.complete(reconciler, workers=WORKERS)
    return reconciler
