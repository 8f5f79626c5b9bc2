"""The reconciler, driven by hand against a real API server: every pass, write and crash is seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import controller_runtime as ctrl
from controllers.kinds import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_SERVICE, PADDLE_MODEL, PADDLE_SERVICE
from controllers.options import Options
from controllers.paddleservice.reconciler import BY_SERVICE, PaddleServiceReconciler
from controllers.paddleservice.watcher import Surroundings
from controllers.probe import ObservedStore
from tests.support.fakenode import FakeNode

DIGEST = "sha256:" + "ab" * 32


class Crash(BaseException):
    """The process ends here."""


class DirectClient:
    """Reads live what the operator reads from its cache; counts the writes and dies at the chosen one."""

    def __init__(self, client: ctrl.Client) -> None:
        self.real = client
        self.writes: list[str] = []
        self.crash_before: int | None = None
        self.crash_after: int | None = None

    async def get(self, kind: ctrl.Kind, key: ctrl.Key) -> ctrl.Object | None:
        return await self.real.get_live(kind, key)

    get_live = get

    async def list(
        self,
        kind: ctrl.Kind,
        *,
        namespace: str,
        index: tuple[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[ctrl.Object]:
        if index is None:
            return await self.real.list_live(kind, namespace=namespace, labels=labels)
        assert index[0] == BY_SERVICE
        name = index[1].removeprefix(f"{namespace}/")
        chosen = {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_SERVICE: name}
        return await self.real.list_live(kind, namespace=namespace, labels=chosen)

    async def request(self, method: str, path: str) -> object:
        assert method == "GET"
        return await self.real.request(method, path)

    async def _do(self, what: str, call: Callable[[], object]) -> object:
        number = len(self.writes)
        if self.crash_before == number:
            raise Crash
        self.writes.append(what)
        result = await call()  # type: ignore[misc]
        if self.crash_after == number:
            raise Crash
        return result

    async def create(self, raw: dict[str, object]) -> object:
        what = f"create {raw['kind']} {raw['metadata']['name']}"  # type: ignore[index]
        return await self._do(what, lambda: self.real.create(raw))

    async def apply(self, raw: dict[str, object]) -> object:
        what = f"apply {raw['kind']} {raw['metadata']['name']}"  # type: ignore[index]
        return await self._do(what, lambda: self.real.apply(raw))

    async def apply_status(self, kind: ctrl.Kind, key: ctrl.Key, status: object, **options: str) -> object:
        return await self._do("status", lambda: self.real.apply_status(kind, key, status, **options))  # type: ignore[arg-type]

    async def patch(self, kind: ctrl.Kind, key: ctrl.Key, patch: object, **options: str) -> object:
        return await self._do(f"patch {key.name}", lambda: self.real.patch(kind, key, patch, **options))  # type: ignore[arg-type]

    async def scale(self, kind: ctrl.Kind, key: ctrl.Key, replicas: int) -> object:
        return await self._do(f"scale {key.name} {replicas}", lambda: self.real.scale(kind, key, replicas))

    async def delete(self, kind: ctrl.Kind, key: ctrl.Key, **options: str) -> object:
        what = f"delete {kind.kind} {key.name}"
        return await self._do(what, lambda: self.real.delete(kind, key, **options))  # type: ignore[arg-type]


@dataclass
class Told:
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def normal(self, obj: ctrl.Object, reason: str, message: str, *, action: str = "") -> None:
        self.events.append(("Normal", str(reason), message))

    def warning(self, obj: ctrl.Object, reason: str, message: str, *, action: str = "") -> None:
        self.events.append(("Warning", str(reason), message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.events]


def pinned(version: str = "v1.0.0", digest: str = DIGEST, uid: str = "u-1") -> dict[str, object]:
    return {
        "modelName": "resnet50",
        "uid": uid,
        "version": version,
        "digest": digest,
        "framework": "paddle",
        "source": {
            "scheme": "s3",
            "endpoint": "http://store:8333",
            "bucket": "models",
            "pathStyle": True,
            "archive": "none",
            "files": [
                {"key": f"r/{version}/m.json", "path": "m.json", "size": 10, "etag": "e", "sha256": "ab" * 32}
            ],
        },
    }


class Harness:
    def __init__(self, client: ctrl.Client, namespace: str, *, image: str = "paddle-runtime:dev") -> None:
        self.live = client
        self.namespace = namespace
        self.key = ctrl.Key(namespace, "resnet50")
        self.node = FakeNode(client, namespace)
        self.client = DirectClient(client)
        self.store = ObservedStore()
        self.told = Told()
        self.later = timedelta()
        self.watchers: list[Callable[[Mapping[str, int], Mapping[str, int]], None]] = []
        self.start(image)

    def start(self, image: str = "paddle-runtime:dev") -> None:
        """A new operator process: it remembers nothing."""
        self.reconciler = PaddleServiceReconciler(
            self.client,  # type: ignore[arg-type]
            self.store,
            self.told,
            Options(runtime_image=image),
            around=self.around(),
            clock=lambda: datetime.now(UTC) + self.later,
        )

    def around(self) -> Surroundings:
        """What the operator gives its canaries."""
        return Surroundings()

    async def apply(self, name: str = "resnet50", **spec: object) -> ctrl.Object:
        body = {
            "apiVersion": PADDLE_SERVICE.api_version,
            "kind": "PaddleService",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"models": [{"name": "resnet50", "pinned": pinned()}], **spec},
        }
        return await self.live.apply(body)

    async def model(self, name: str, version: str = "v1.0.0") -> ctrl.Object:
        body = {
            "apiVersion": PADDLE_MODEL.api_version,
            "kind": "PaddleModel",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"framework": "paddle", "version": version, "modelPath": f"s3://models/{name}-{version}"},
        }
        return await self.live.apply(body)

    async def resolve(self, name: str, version: str = "v1.0.0") -> None:
        status = {"artifact": {"version": version, "digest": DIGEST, "resolved": pinned(version)["source"]}}
        await self.live.apply_status(PADDLE_MODEL, ctrl.Key(self.namespace, name), status)

    async def once(self) -> ctrl.Result:
        return await self.reconciler.reconcile(self.key)

    async def settle(self, turns: int = 60) -> None:
        """Reconcile and let the node work until neither changes anything."""
        for _ in range(turns):
            before = len(self.client.writes)
            await self.once()
            moved = await self.node.step()
            await self.look()
            if not moved and len(self.client.writes) == before:
                return
        raise AssertionError(f"not settled after {turns} turns; last writes: {self.client.writes[-8:]}")

    async def settle_refused(self) -> None:
        """Reconcile until the status stays; what the server refuses is asked for again every time."""
        for _ in range(20):
            before = (await self.service()).resource_version
            await self.once()
            await self.node.step()
            if (await self.service()).resource_version == before:
                return
        raise AssertionError("the status does not settle")

    async def look(self) -> None:
        """Show the pods, and the ready ones, by revision to whoever watches."""
        if not self.watchers:
            return
        total: dict[str, int] = {}
        ready: dict[str, int] = {}
        for pod in await self.pods():
            name = pod.labels["serving.paddlepaddle.org/revision"]
            total[name] = total.get(name, 0) + 1
            up = any(c["type"] == "Ready" and c["status"] == "True" for c in pod.status.get("conditions", ()))
            ready[name] = ready.get(name, 0) + (up and not pod.deleting)
        for watcher in self.watchers:
            watcher(total, ready)

    async def pods(self) -> list[ctrl.Object]:
        return await self.live.list_live(ctrl.POD, namespace=self.namespace)

    async def service(self) -> ctrl.Object:
        found = await self.live.get_live(PADDLE_SERVICE, self.key)
        assert found is not None
        return found

    async def status(self) -> dict[str, object]:
        return (await self.service()).status

    async def deployments(self) -> dict[str, int]:
        """Replicas by revision."""
        found = await self.live.list_live(ctrl.DEPLOYMENT, namespace=self.namespace)
        return {item.labels["serving.paddlepaddle.org/revision"]: item.spec["replicas"] for item in found}

    async def names(self, kind: ctrl.Kind) -> set[str]:
        return {item.name for item in await self.live.list_live(kind, namespace=self.namespace)}


def condition(status: Mapping[str, object], kind: str) -> Mapping[str, object]:
    for item in status.get("conditions", ()):  # type: ignore[attr-defined]
        if item["type"] == kind:
            return item  # type: ignore[no-any-return]
    return {}
