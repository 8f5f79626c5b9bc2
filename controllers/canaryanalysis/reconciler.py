"""The CanaryAnalysis controller: observe, ask Prometheus, judge, write.

It has workers of its own: one that waits for Prometheus holds no other controller's. A pass is one look at
most. It reads the status, asks, and writes the new status under the resourceVersion that it read; a crash or
a conflict anywhere in between leaves the window open, and the next pass looks at it again.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Protocol

import structlog

import controller_runtime as ctrl

from ..analysis.answer import Answer, Unavailable
from ..analysis.builtin import BUILT_IN
from ..analysis.cel import Cel
from ..analysis.client import Prometheus, Servers
from ..analysis.condition import Condition, Engine, compiled
from ..analysis.tally import Verdict
from ..kinds import CANARY_ANALYSIS, PADDLE_SERVICE
from ..resources.meta import child_name
from ..resources.wire import integer, mapping, text
from . import progress as steps
from .fence import Stand, fence, stand, surplus, waits
from .look import Conditions, Window, own, questions, seen
from .progress import Progress
from .spec import Spec, decode
from .status import finished, from_wire, to_wire

_log = structlog.get_logger(__name__)

#: Index of CanaryAnalyses by the service that they judge, as "namespace/name".
BY_SERVICE: Final = "paddle-service"

#: Seconds that all queries of a look may take together.
LOOK_DEADLINE: Final = 30.0


class Metrics(Protocol):
    def looked(self, metric: str, result: str, late: float) -> None: ...
    def ended(self, verdict: str) -> None: ...


def by_service(obj: ctrl.Object) -> list[str]:
    name = text(obj.spec.get("service"))
    return [f"{obj.namespace}/{name}"] if name else []


class CanaryAnalysisReconciler:
    """Judges one CanaryAnalysis. Safe with several workers, one key at a time each."""

    rules: ClassVar[tuple[ctrl.Rule, ...]] = (
        ctrl.Rule(
            CANARY_ANALYSIS.group, (CANARY_ANALYSIS.plural,), ("get", "list", "watch", "create", "delete")
        ),
        ctrl.Rule(CANARY_ANALYSIS.group, (f"{CANARY_ANALYSIS.plural}/status",), ("patch",)),
        ctrl.Rule(PADDLE_SERVICE.group, (PADDLE_SERVICE.plural,), ("get", "list", "watch")),
        ctrl.Rule("apps", ("deployments",), ("get", "list", "watch")),
        ctrl.Rule("events.k8s.io", ("events",), ("create", "patch")),
    )

    def __init__(
        self,
        client: ctrl.Client,
        servers: Servers,
        events: ctrl.EventRecorder,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        custom_promql: bool = False,
        engine: Engine | None = None,
        deadline: float = LOOK_DEADLINE,
    ) -> None:
        self._client = client
        self._servers = servers
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._custom = custom_promql
        self._engine = engine or Cel()
        self._deadline = deadline

    async def reconcile(self, request: ctrl.Request) -> ctrl.Result:
        obj = await self._client.get(CANARY_ANALYSIS, request)
        if obj is None or obj.deleting:
            return ctrl.Result()
        service = await self._client.get(
            PADDLE_SERVICE, ctrl.Key(obj.namespace, text(obj.spec.get("service")))
        )
        if service is None or service.uid != obj.controller_uid:
            return ctrl.Result()  # not the operator's own, or about to go with its service
        now = self._clock()
        try:
            spec, progress = decode(obj.spec), from_wire(obj.status)
            if obj.name != spec.name:
                raise ValueError(f"metadata.name must be {spec.name}, so that each attempt is judged once")
        except ValueError as problem:
            if finished(obj):
                return ctrl.Result()
            return await self._write(obj, steps.unjudgeable(Progress(started=now), str(problem), now), now)
        canary = mapping(service.status.get("canary"))
        if progress is not None and not progress.running:
            await self._prune(obj, spec, canary)
            return await self._probe(obj, spec, progress, now, wanted=waits(spec, canary))
        match await self._stand(obj, spec, service):
            case Stand.Early:
                return ctrl.Result()  # a change of the service comes by again
            case Stand.Overtaken:
                over = steps.overtaken(
                    progress or steps.begin(spec, now), "the canary has gone on without it", now
                )
                return await self._write(obj, over, now)
        if progress is None:
            return await self._write(obj, steps.begin(spec, now), now)
        again = steps.rewound(spec, progress, now)
        if again != progress:
            return await self._write(obj, again, now)
        if now < progress.next_look or steps.seconds(progress, now) < 1:
            return ctrl.Result(requeue_after=max(1.0, progress.next_look - now))
        return await self._look(obj, spec, progress, now)

    async def _stand(self, obj: ctrl.Object, spec: Spec, service: ctrl.Object) -> Stand:
        """A cached service may be older than the analysis that was made for it: only a live one overtakes."""
        found = stand(spec, mapping(service.status.get("canary")))
        if found is not Stand.Overtaken:
            return found
        live = await self._client.get_live(PADDLE_SERVICE, service.key)
        if live is None or live.uid != obj.controller_uid:
            return Stand.Early
        return stand(spec, mapping(live.status.get("canary")))

    async def _look(self, obj: ctrl.Object, spec: Spec, progress: Progress, now: float) -> ctrl.Result:
        window = Window(
            seconds=steps.seconds(progress, now),
            ready=await self._ready(obj, spec.service, spec.candidate),
            stable_ready=await self._ready(obj, spec.service, spec.baseline),
        )
        try:
            conditions = self._conditions(spec)
            ours, theirs = questions(spec, obj.namespace, window), own(spec, obj.namespace, window)
            if theirs and not self._custom:
                raise ValueError("the operator does not allow queries of one's own (--allow-custom-promql)")
        except ValueError as problem:
            return await self._write(obj, steps.unjudgeable(progress, str(problem), now), now)
        late = now - progress.next_look
        try:
            answers = await self._ask(spec, ours, theirs, math.floor(now))
        except Unavailable as trouble:
            after = steps.unanswered(spec, progress, str(trouble), now)
            return await self._write(obj, after, now, looked=("", "error", late))
        step = steps.answered(spec, progress, seen(spec, answers, window, conditions), now)
        judgement = step.judgement
        assert judgement is not None
        metric = judgement.metric
        label = metric if metric in BUILT_IN or metric in ("", "condition") else "custom"
        return await self._write(
            obj, step.progress, now, looked=(label, str(judgement.outcome).lower(), late)
        )

    async def _ask(
        self, spec: Spec, ours: dict[str, str], theirs: dict[str, str], at: float
    ) -> dict[str, Answer]:
        server: Prometheus = self._servers.get(spec.prometheus)
        try:
            async with asyncio.timeout(self._deadline):
                return await server.query_all(ours, at=at, own=theirs)
        except TimeoutError:
            words = f"did not answer a look within {self._deadline:g} s"
            raise Unavailable(f"Prometheus {spec.prometheus} {words}") from None

    async def _probe(
        self, obj: ctrl.Object, spec: Spec, progress: Progress, now: float, *, wanted: bool
    ) -> ctrl.Result:
        """For a run that waits for Prometheus: says when it is back."""
        if not (wanted and progress.waits_for_prometheus):
            return ctrl.Result()
        if now < progress.next_look:
            return ctrl.Result(requeue_after=progress.next_look - now)
        try:
            await self._servers.get(spec.prometheus).answers(at=now)
        except Unavailable as trouble:
            return await self._write(obj, steps.unanswered(spec, progress, str(trouble), now), now)
        return await self._write(obj, steps.back(progress), now)

    def _conditions(self, spec: Spec) -> Conditions:
        """Raises ConditionError (a ValueError) for one that the PaddleService should not have let through."""

        def made(expression: str, field: str) -> Condition | None:
            return compiled(expression, self._engine, field=field) if expression else None

        return Conditions(
            success=made(spec.success, "successCondition"), failure=made(spec.failure, "failureCondition")
        )

    async def _ready(self, obj: ctrl.Object, service: str, revision: str) -> int:
        found = await self._client.get(
            ctrl.DEPLOYMENT, ctrl.Key(obj.namespace, child_name(service, revision))
        )
        if found is None or found.deleting or found.controller_uid != obj.controller_uid:
            return 0
        return integer(found.status.get("readyReplicas"))

    async def _write(
        self,
        obj: ctrl.Object,
        progress: Progress,
        now: float,
        *,
        looked: tuple[str, str, float] | None = None,
    ) -> ctrl.Result:
        """Write, and only then tell: what was not written has not happened."""
        ended = progress.finished > 0 and not finished(obj)
        status = to_wire(progress, generation=obj.generation, before=obj.status, now=now)
        try:
            written = await self._client.apply_status(
                CANARY_ANALYSIS, obj.key, status, resource_version=obj.resource_version, uid=obj.uid
            )
        except (ctrl.Conflict, ctrl.NotFound):
            return ctrl.Result(requeue_after=0.1)
        if looked is not None:
            self._metrics.looked(*looked)
        if ended:
            self._tell(written, progress)
        if not progress.next_look:
            return ctrl.Result()
        return ctrl.Result(requeue_after=max(0.1, progress.next_look - self._clock()))

    def _tell(self, obj: ctrl.Object, progress: Progress) -> None:
        verdict = "Superseded" if progress.superseded else str(progress.verdict)
        self._metrics.ended(verdict)
        good = progress.superseded or progress.verdict is Verdict.Passed
        tell = self._events.normal if good else self._events.warning
        tell(obj, f"Analysis{verdict}", progress.message, action="Analyse")
        _log.info(
            "analysis ended", analysis=str(obj.key), verdict=verdict, reason=progress.reason,
            message=progress.message,
        )  # fmt: skip

    async def _prune(self, obj: ctrl.Object, spec: Spec, canary: Mapping[str, object]) -> None:
        """Delete the oldest finished analyses of the service, when there are more than are kept."""
        mine = f"{obj.namespace}/{spec.service}"
        done = {}
        for item in await self._client.list(
            CANARY_ANALYSIS, namespace=obj.namespace, index=(BY_SERVICE, mine)
        ):
            if item.controller_uid == obj.controller_uid and finished(item) and not item.deleting:
                run, attempt, step = (integer(item.spec.get(name)) for name in ("run", "attempt", "step"))
                done[item.name] = ((run, attempt, step), item)
        names = surplus([(mark, name) for name, (mark, _) in done.items()], fence(canary))
        for name in names:
            item = done[name][1]
            await self._client.delete(CANARY_ANALYSIS, item.key, uid=item.uid)
