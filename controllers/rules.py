"""Everything the operator may do, collected from what each reconciler declares beside its code."""

import controller_runtime as ctrl

from .canaryanalysis.reconciler import CanaryAnalysisReconciler
from .paddlemodel.reconciler import PaddleModelReconciler
from .paddleservice.reconciler import PaddleServiceReconciler
from .traffic.envoy.routers import RouterReconciler
from .traffic.routeprovider import Routes


def all_rules() -> tuple[ctrl.Rule, ...]:
    """The rules of all reconcilers and providers, duplicates removed, in the order of their declaration."""
    declared = (
        *PaddleModelReconciler.rules,
        *PaddleServiceReconciler.rules,
        *CanaryAnalysisReconciler.rules,
        *RouterReconciler.rules,
        *Routes.rules,
    )
    return tuple(dict.fromkeys(declared))
