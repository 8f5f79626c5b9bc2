"""A canary on a real API server: scripted routers and verdicts, endpoints that follow, a clock of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import controller_runtime as ctrl
from controllers.kinds import (
    ANNOTATION_CANARY_COMMAND,
    CANARY_ANALYSIS,
    FIELD_MANAGER,
    LABEL_MANAGED_BY,
    LABEL_SERVICE,
    PADDLE_SERVICE,
)
from controllers.paddleservice.questions import Answer, Question
from controllers.paddleservice.watcher import SERVICE_NAME, Surroundings
from controllers.resources.wire import at
from controllers.traffic import Backend, Pending, Refused, Split, Unreachable, Verification, Verified
from tests.support.fakenode import running

from .harness import Crash, Harness, pinned

ROUTERS = {LABEL_MANAGED_BY: FIELD_MANAGER, "app": "routers"}
PORT = 20000


@dataclass
class Routers:
    """Takes the highest change and has it in force at once, unless `mode` says otherwise."""

    mode: type[Verification] = Verified  # type: ignore[valid-type]
    split: Split | None = None
    history: list[Split] = field(default_factory=list)
    removals: int = 0

    async def apply(self, split: Split) -> None:
        if self.split is not None and split.change <= self.split.change:
            assert split.change < self.split.change or split == self.split, "one number means one split"
            return
        if self.mode is Unreachable:
            return
        self.split = split
        self.history.append(split)

    async def verify(self, split: Split) -> Verification:
        if self.mode in (Refused, Unreachable):
            return self.mode(change=split.change, reason="as the test says")
        if self.mode is Pending or self.split is None or self.split.change != split.change:
            return Pending(change=split.change, reason="as the test says")
        return Verified(change=split.change, effective=float(split.weight), routers=1)

    async def remove(self, service: ctrl.Key, uid: str) -> None:
        self.split, self.removals = None, self.removals + 1

    def backend(self, split: Split) -> Backend | None:
        return Backend(selector=ROUTERS, http=split.port, grpc=split.port + 1)

    def port(self, service: ctrl.Key, uid: str, known: int) -> int:
        return known or PORT


@dataclass
class Said:
    """What pods and hooks answer, as if they had been asked; None before."""

    answer: Answer | None = None
    asked: set[str] = field(default_factory=set)

    def ask(self, key: ctrl.Key, questions: Iterable[Question]) -> Mapping[str, Answer]:
        names = [question.name for question in questions]
        self.asked.update(names)
        return {name: self.answer for name in names if self.answer is not None}


class Canaries(Harness):
    """Every `turn` is a pass, then the world does its part: pods, endpoints, a verdict for what is judged."""

    routers: Routers
    verdict: str = "Passed"
    slice: dict[str, object] | None = None

    def around(self) -> Surroundings:
        if not hasattr(self, "routers"):
            self.routers = Routers()
            self.mixed: list[str] = []
            self.said = Said()
        return Surroundings(
            providers={"Envoy": self.routers},
            servers=("default",),
            questions=self.said,  # type: ignore[arg-type]
        )

    async def canary(
        self, version: str, *, replicas: int = 2, provider: str = "", rules: object = None, **block: object
    ) -> None:
        weight = {} if "steps" in block else {"weight": 50}
        strategy = {"type": "Canary", "canary": {**weight, "stableForSeconds": 60, **block}}
        traffic = {"provider": provider or "Envoy"} | ({"rules": rules} if rules else {})
        more = {"traffic": traffic} if provider or rules else {}
        models = [{"name": "resnet50", "pinned": pinned(version)}]
        await self.apply(replicas=replicas, updateStrategy=strategy, models=models, **more)

    async def command(self, verb: str, *, token: str = "t", run: int | None = None) -> None:
        run = (await self.canary_status()).get("run", 0) if run is None else run  # type: ignore[assignment]
        note = {ANNOTATION_CANARY_COMMAND: f"{verb}/{run}/{token}"}
        await self.live.patch(PADDLE_SERVICE, self.key, {"metadata": {"annotations": note}})

    async def canary_status(self) -> dict[str, object]:
        return (await self.status()).get("canary", {})  # type: ignore[return-value]

    async def analyses(self) -> list[ctrl.Object]:
        found = await self.live.list_live(CANARY_ANALYSIS, namespace=self.namespace)
        return sorted(found, key=lambda item: item.name)

    async def judge(self) -> None:
        """A verdict for every analysis that has none, as the analysis' own controller would give it."""
        for item in await self.analyses():
            if self.verdict and not item.status.get("verdict"):
                status = {"verdict": self.verdict, "message": "numbers", "reason": "Good"}
                await self.live.apply_status(CANARY_ANALYSIS, item.key, status)

    async def follow(self, service: ctrl.Object) -> None:
        """The EndpointSlices become what the Service selects."""
        chosen = service.spec["selector"]
        if chosen == ROUTERS and not await self.live.list_live(
            ctrl.POD, namespace=self.namespace, labels=ROUTERS
        ):
            await self._router()
        pods = await self.live.list_live(ctrl.POD, namespace=self.namespace, labels=chosen)
        targets = {port["targetPort"] for port in service.spec["ports"]}
        body: dict[str, object] = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "resnet50-1",
                "namespace": self.namespace,
                "labels": {
                    SERVICE_NAME: "resnet50",
                    LABEL_MANAGED_BY: FIELD_MANAGER,
                    LABEL_SERVICE: "resnet50",
                },
            },
            "addressType": "IPv4",
            "ports": [
                {"name": f"p{n}", "port": port if isinstance(port, int) else 8080, "protocol": "TCP"}
                for n, port in enumerate(sorted(targets, key=str))
            ],
            "endpoints": [
                {
                    "addresses": ["10.0.0.1"],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": pod.name, "namespace": self.namespace},
                }
                for pod in pods
                if not pod.deleting
            ],
        }
        if body != self.slice:
            self.slice = body
            await self.live.apply(body)

    async def _router(self) -> None:
        spec = {"containers": [{"name": "envoy", "image": "envoy"}], "nodeName": "fake"}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "router", "labels": ROUTERS}}
        body["metadata"]["namespace"] = self.namespace  # type: ignore[index]
        await self.live.create(body | {"spec": spec})
        await self.live.patch(
            ctrl.POD,
            ctrl.Key(self.namespace, "router"),
            {"status": running(ready=True)},
            subresource="status",
        )

    async def world(self) -> None:
        """What happens outside the operator."""
        await self.node.step()
        await self.judge()
        service = await self.live.get_live(ctrl.SERVICE, self.key)
        if service is not None:
            await self.follow(service)
            await self.check(service)

    async def turn(self, seconds: float = 35.0) -> None:
        self.later += timedelta(seconds=seconds)
        await self.once()
        await self.world()

    async def check(self, service: ctrl.Object) -> None:
        """Whichever way clients go, they meet the stable revision: what must hold after every pass."""
        ours = await self.service()
        status, wanted = ours.status, ours.spec
        stable = status.get("stableRevision")
        if not stable or at(wanted, "traffic", "provider") == "Replicas":
            return
        if at(wanted, "updateStrategy", "type") != "Canary" and not at(status, "canary", "path"):
            return
        if service.spec["selector"] == ROUTERS:
            if self.routers.split is None:
                self.mixed.append("routers without a route")
        else:
            others = {name: size for name, size in (await self.deployments()).items() if name != stable}
            if any(others.values()):
                self.mixed.append(f"direct path with {others}")

    async def until(self, phase: str, *, turns: int = 60) -> dict[str, object]:
        """Turn until the canary is in this phase."""
        for _ in range(turns):
            state = await self.canary_status()
            if state.get("phase", "") == phase:
                return state
            await self.turn()
        raise AssertionError(f"{phase} not reached: {await self.canary_status()}")

    async def rest(self, *, turns: int = 80) -> dict[str, object]:
        """Turn until no run is on, clients are on the pods, and nothing is written any more."""
        quiet = 0
        for _ in range(turns):
            before = len(self.client.writes)
            await self.turn()
            state = await self.canary_status()
            still = state.get("phase", "Idle") == "Idle" and "path" not in state
            quiet = quiet + 1 if still and len(self.client.writes) == before else 0
            if quiet == 2:
                return state
        raise AssertionError(f"not at rest: {await self.canary_status()}, {self.client.writes[-8:]}")

    async def first(self, **more: object) -> str:
        """A service that serves v1.0.0; its revision."""
        await self.canary("v1.0.0", **more)  # type: ignore[arg-type]
        await self.rest()
        return str((await self.status())["stableRevision"])

    async def killed_at_every_write(self, when: str) -> int:
        """The operator dies "before" or "after" each write in turn, until the run has ended; its deaths."""
        deaths = 0
        for turn in range(150):
            setattr(self.client, f"crash_{when}", len(self.client.writes) + turn % 3)
            self.start()
            try:
                await self.turn()
            except Crash:
                deaths += 1
                await self.world()
            finally:
                setattr(self.client, f"crash_{when}", None)
            state = await self.canary_status()
            if state.get("history") and state["phase"] == "Idle" and "path" not in state:
                break
        return deaths
