"""Has a real API server judge every manifest: a temporary one, so that only the files matter."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from hack.cluster import paths
from hack.deploy import render
from hack.deploy.kubectl import JSON, Kubectl, KubectlError, documents, text

CONFIG = paths.ROOT / "config"
KUSTOMIZATIONS = ("default", "local/object-store", "local/minio", "local/prometheus")
# Their kinds belong to the Prometheus Operator, which a cluster may not have: only rendered.
RENDERED_ONLY = ("prometheus",)
MANAGER = "paddle-dry-run"


def crds() -> list[Path]:
    return sorted(path for path in (CONFIG / "crd").glob("*.yaml") if path.name != "kustomization.yaml")


def samples() -> list[Path]:
    return sorted((CONFIG / "samples").glob("*.yaml"))


def check(kubectl: Kubectl, title: str, objects: Iterable[JSON]) -> str:
    """Empty when the server takes all objects without a warning, else what it says.

    Namespaces are made for real, because what lies in a namespace that does not exist is refused.
    """
    everything = list(objects)
    spaces = [item for item in everything if item.get("kind") == "Namespace"]
    kinds = ("Namespace", "CustomResourceDefinition")
    rest = [item for item in everything if item.get("kind") not in kinds]
    definitions = [item for item in everything if item.get("kind") == "CustomResourceDefinition"]
    try:
        if spaces:
            kubectl.apply(spaces, manager=MANAGER)
        result = kubectl.apply([*definitions, *rest], manager=MANAGER, dry_run=True)
    except KubectlError as error:
        return f"{title}: {error}"
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning:")]
    return f"{title}: {' '.join(warnings)}" if warnings else ""


def run(say: Callable[[str], None] = print) -> int:
    """0 when every manifest passes. Starts and ends an API server of its own (about 5 s)."""
    from controller_runtime.testing import Envtest

    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder, Envtest(crds=crds()) as server:
        kubectl = Kubectl(server.kubeconfig(Path(folder) / "kubeconfig"))
        count = 0
        for name in KUSTOMIZATIONS:
            objects = kubectl.kustomize(CONFIG / name)
            count += len(objects)
            problems.append(check(kubectl, f"config/{name}", objects))
        for name in RENDERED_ONLY:
            count += len(kubectl.kustomize(CONFIG / name))
        limited = render.render(
            kubectl.kustomize(CONFIG / "default"),
            kubectl.kustomize(CONFIG / "rbac/namespaced"),
            render.Options(watch_namespaces=("default",)),
        )
        count += len(limited)
        problems.append(check(kubectl, "config/default with --watch-namespaces", limited))
        for path in samples():
            objects = documents(path.read_text())
            count += len(objects)
            unnamed = [text(item, "kind") for item in objects if not text(item, "metadata", "name")]
            title = str(path.relative_to(paths.ROOT))
            problems.append(
                f"{title}: {unnamed} without a name" if unnamed else check(kubectl, title, objects)
            )
    found = [problem for problem in problems if problem]
    for problem in found:
        say(f"dry-run: {problem}")
    say(f"dry-run: {count} objects, {len(found)} refused or warned about")
    return 1 if found else 0
