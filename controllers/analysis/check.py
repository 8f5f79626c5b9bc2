"""What is wrong with an `analysis` block, told before a run rests on it. Pure but for the CEL engine."""

from collections.abc import Collection, Mapping, Sequence

from .builtin import BUILT_IN
from .cel import Cel
from .condition import ConditionError, Engine, compiled
from .custom import REVISION
from .server import DEFAULT


def problems(
    analysis: Mapping[str, object],
    *,
    servers: Collection[str],
    custom_promql: bool,
    engine: Engine | None = None,
) -> list[str]:
    """One line a problem, naming the field and what to do; [] if a run can be judged by it.

    analysis: the block as it is on the wire. servers: the names that the operator was given. custom_promql:
    whether it allows queries of users.
    """
    found = _servers(analysis, servers)
    for field in ("successCondition", "failureCondition"):
        expression = analysis.get(field)
        if isinstance(expression, str):
            problem = validate(expression, field=field, engine=engine)
            found += [f"analysis.{problem}"] if problem else []
    metrics = analysis.get("metrics")
    for metric in metrics if isinstance(metrics, list) else []:
        if isinstance(metric, Mapping):
            problem = _metric(metric, custom_promql)
            found += [f"analysis.metrics: {metric.get('name')}: {problem}"] if problem else []
    return found


def validate(expression: str, *, field: str = "successCondition", engine: Engine | None = None) -> str:
    """Why `expression` cannot be used, on one line with the place; "" if it can."""
    try:
        compiled(expression, engine or Cel(), field=field)
    except ConditionError as error:
        return str(error)
    return ""


def _servers(analysis: Mapping[str, object], servers: Collection[str]) -> list[str]:
    name = analysis.get("prometheus") or DEFAULT
    if name in servers:
        return []
    known: Sequence[str] = sorted(servers)
    remedy = f"use one of {', '.join(known)}" if known else "start the operator with --prometheus NAME=URL"
    return [f"analysis.prometheus: the operator has no server {name}: {remedy}"]


def _metric(metric: Mapping[str, object], custom_promql: bool) -> str:
    query, baseline = metric.get("query"), metric.get("baselineQuery")
    if not any(metric.get(limit) is not None for limit in ("min", "max", "maxRatio")):
        return "it has no limit: give min, max or maxRatio"
    if not query:
        if baseline:
            return "baselineQuery needs query: add it"
        if metric.get("name") not in BUILT_IN:
            return f"no built-in metric has this name ({', '.join(BUILT_IN)}): rename it or give a query"
        return ""
    if not custom_promql:
        return "the operator does not allow queries of one's own: its flag is --allow-custom-promql"
    if metric.get("maxRatio") is not None and not baseline and REVISION not in str(query):
        return f"maxRatio needs a baseline: give baselineQuery, or use {REVISION} in query"
    return ""
