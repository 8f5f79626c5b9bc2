"""The manifests of config/default, changed to what was asked for. Pure."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hack.deploy.kubectl import JSON, field, fields, text

NAMESPACE = "paddle-system"
NAME = "paddle-operator"
PART_OF = "app.kubernetes.io/part-of=paddle-operator"
CLUSTER_WIDE_RBAC = ("ClusterRole", "ClusterRoleBinding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What differs from config/default; an empty string or None leaves it as it is."""

    operator_image: str = ""
    runtime_image: str = ""
    router_image: str = ""
    minio_endpoint: str = ""
    prometheus: str = ""
    watch_namespaces: tuple[str, ...] = ()
    replicas: int | None = None
    arguments: tuple[str, ...] = ()


def render(base: Iterable[JSON], namespaced: Iterable[JSON], options: Options) -> list[JSON]:
    """`base` is config/default, `namespaced` config/rbac/namespaced (used with `watch_namespaces` only).

    With namespaces to watch, no ClusterRole and no ClusterRoleBinding is left: each namespace gets a Role and
    a RoleBinding instead. The namespaces themselves must exist.
    """
    result: list[JSON] = []
    for original in base:
        item = copy.deepcopy(original)
        if options.watch_namespaces and item.get("kind") in CLUSTER_WIDE_RBAC:
            continue
        if item.get("kind") == "Deployment" and text(item, "metadata", "name") == NAME:
            _operator(item, options)
        result.append(item)
    for namespace in options.watch_namespaces:
        for original in namespaced:
            if original.get("kind") in CLUSTER_WIDE_RBAC:
                continue  # what only traffic provider Envoy needs; see docs/traffic.md
            item = copy.deepcopy(original)
            metadata = item["metadata"]
            assert isinstance(metadata, dict)
            metadata["namespace"] = namespace
            result.append(item)
    return result


def _operator(deployment: JSON, options: Options) -> None:
    spec = field(deployment, "spec")
    container = fields(deployment, "spec", "template", "spec", "containers")[0]
    assert isinstance(spec, dict)
    if options.replicas is not None:
        spec["replicas"] = options.replicas
    if options.operator_image:
        container["image"] = options.operator_image
    flags = {"--runtime-image": options.runtime_image, "--minio-endpoint": options.minio_endpoint}
    flags["--prometheus"] = options.prometheus
    flags["--router-image"] = options.router_image
    flags["--watch-namespaces"] = ",".join(options.watch_namespaces)
    container["args"] = set_flags(_strings(container.get("args")), flags) + list(options.arguments)


def set_flags(arguments: Sequence[str], flags: dict[str, str]) -> list[str]:
    """`arguments` with each `--name=value` of `flags` in place of an earlier one, empty values left out."""
    wanted = {name: value for name, value in flags.items() if value}
    kept = [item for item in arguments if item.partition("=")[0] not in wanted]
    return kept + [f"{name}={value}" for name, value in wanted.items()]


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
