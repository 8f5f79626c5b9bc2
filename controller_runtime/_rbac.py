"""Permissions declared beside the code that needs them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One RBAC rule that a reconciler needs, collected from its class attribute `rules`.

    `group` is "" for the core group. `resources` are plurals, a subresource as "pods/status". `names` limits
    the rule to objects of these names. `cluster=True` puts it in the ClusterRole even when the operator is
    limited to some namespaces (cluster-scoped kinds).
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    cluster: bool = False
