"""What only a canary looks at: the provider's word, the analysis, endpoints, the command, hooks, probes."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import controller_runtime as ctrl

from ..analysis import check
from ..canaryanalysis import status as analysis_status
from ..conditions import Type, find
from ..kinds import ANNOTATION_CANARY_COMMAND, CANARY_ANALYSIS
from ..resources.desired import Settings
from ..resources.meta import Owner, selector
from ..resources.wire import at, integer, mapping, text
from ..rollout.canary import Canary, Endpoints, Phase, Report, Route, Way, analysis_name, command
from ..traffic import (
    Backend,
    Drifted,
    Home,
    Pending,
    Provider,
    Refused,
    RouteProvider,
    Split,
    Unreachable,
    Verification,
    Verified,
    flip,
    from_wire,
    refusal,
    rules,
)
from . import plan, routes
from .asked import asks_pods, passed, readiness, webhooks
from .observed import Pod, Watched
from .questions import Answer, Questions

#: Seconds that a provider has to answer.
DEADLINE: Final = 5.0
#: The label by which EndpointSlices name their Service.
SERVICE_NAME: Final = "kubernetes.io/service-name"

_JUDGED: Final = (Phase.Analysing, Phase.Soaking, Phase.Paused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the operator gives its canaries. providers: of traffic, by name. unable: why one cannot be used,
    by name. servers: names of the Prometheus servers. custom_promql: whether users may write queries.
    questions: asks pods and hooks; None for an operator that cannot. settle: seconds; see `Plan`.
    """

    providers: Mapping[str, Provider] = field(default_factory=dict)
    unable: Mapping[str, str] = field(default_factory=dict)
    servers: Collection[str] = ()
    custom_promql: bool = False
    questions: Questions | None = None
    settle: float = 15.0


class Watcher:
    """Reads caches and asks the providers, each within a deadline."""

    def __init__(self, client: ctrl.Client, around: Surroundings) -> None:
        self._client = client
        self._around = around
        self._removed: dict[str, int] = {}

    def removed(self, uid: str, change: int) -> None:
        """The route of this change was removed; what is forgotten is removed once more."""
        self._removed[uid] = change

    def forget(self, uid: str) -> None:
        self._removed.pop(uid, None)

    def quiet(self, key: ctrl.Key) -> None:
        """Nothing is to be asked for this service any more."""
        if self._around.questions is not None:
            self._around.questions.ask(key, ())

    async def look(
        self, service: ctrl.Object, settings: Settings, state: Canary, pods: Iterable[Pod]
    ) -> Watched:
        """For a service with a canary, or with one that still has to end. pods: all of the service."""
        status = mapping(service.raw.get("status"))
        name = plan.provider(settings, status, at_rest=state.at_rest)
        watched = Watched(
            command=command(service.annotations.get(ANNOTATION_CANARY_COMMAND, "")),
            problem=self._problem(settings, name),
            removed=self._removed.get(service.uid, 0),
            settle=self._around.settle,
        )
        watched = await self._ask(service, settings, state, name, watched)
        if state.phase in _JUDGED:
            watched = await self._judgement(service, state, watched)
        return self._answers(service.key, settings, state, pods, watched)

    def _answers(
        self, key: ctrl.Key, settings: Settings, state: Canary, pods: Iterable[Pod], watched: Watched
    ) -> Watched:
        """What the candidate's pods say on the readiness path, and the hooks of a step that passed."""
        if self._around.questions is None:
            return watched
        probes = readiness(settings, state, pods)
        hooks = webhooks(key, settings, state) if passed(state, watched.found) else ()
        known = self._around.questions.ask(key, (*probes, *hooks))
        checked = all(known.get(probe.name, Answer(False)).yes for probe in probes)
        # A run that comes to a higher weight in this pass is to ask in the next one.
        checked = checked and (asks_pods(state) or not settings.canary.get("readinessPath"))
        held = [hook.name for hook in hooks if not known.get(hook.name, Answer(False)).yes]
        told = known.get(held[0], Answer(False, "is asked")).message if held else ""
        return replace(
            watched,
            checked=checked,
            hold=f"the {held[0].rpartition('/')[2]} hook, which {told}" if held else "",
        )

    def _problem(self, settings: Settings, provider: str) -> str:
        """Why no run can be begun, in one line; ""."""
        if why := self._around.unable.get(provider):
            return f"traffic.provider {provider}: {why}"
        if provider != "Replicas" and provider not in self._around.providers:
            return f"traffic.provider {provider} is not supported by this operator: use Envoy or Replicas"
        served = self._around.providers.get(provider)
        if why := routes.refusal(served, provider, settings) or refusal(rules({"traffic": settings.traffic})):
            return why
        found = check.problems(
            mapping(settings.canary.get("analysis")),
            servers=self._around.servers,
            custom_promql=self._around.custom_promql,
        )
        return f"updateStrategy.canary.{found[0]}" if found else ""

    async def leftover(self, service: ctrl.Object, settings: Settings) -> tuple[str, Home] | None:
        """The provider and the route of ours that nothing asks for any more, while it is there."""
        return await routes.leftover(self._around.providers, service, settings)

    async def _ask(
        self, service: ctrl.Object, settings: Settings, state: Canary, name: str, watched: Watched
    ) -> Watched:
        provider = self._around.providers.get(name)
        if state.at_rest and (left := await self.leftover(service, settings)) is not None:
            words = f"the route of traffic.provider {left[0]} has to be deleted first"
            watched = replace(watched, leftover=left, problem=watched.problem or words)
        if provider is None or name == "Replicas":
            return watched
        status = mapping(service.raw.get("status"))
        if isinstance(provider, RouteProvider):
            home = routes.home_of(service, settings, name, state)
            if routes.leads_home(state):
                return await routes.look(provider, home, state, watched)
            asked = from_wire(service.key, service.uid, mapping(status.get("traffic")))
            if asked is None:
                return replace(watched, home=home)
            report, effective = await _report(provider, asked, again=not state.traffic.settled)
            return routes.told(watched, home, report, effective)
        known = integer(at(status, "traffic", "port"))
        try:
            watched = replace(watched, port=provider.port(service.key, service.uid, known))
        except LookupError as error:
            return replace(watched, problem=watched.problem or f"traffic.provider {name}: {error}")
        split = from_wire(service.key, service.uid, mapping(status.get("traffic")))
        if split is None:
            return watched
        report, effective = await _report(provider, split)
        backend = provider.backend(split)
        watched = replace(watched, report=report, effective=effective, backend=backend)
        if backend is None or state.path.way is Way.Direct:
            return watched
        return replace(watched, endpoints=await self._endpoints(service, backend))

    async def _endpoints(self, service: ctrl.Object, backend: Backend) -> Endpoints:
        """Where the Service of the name leads, by its selector and by all of its EndpointSlices."""
        namespace, owner = service.namespace, Owner(service.namespace, service.name, service.uid)
        there = await self._client.get(ctrl.SERVICE, service.key)
        if there is None:
            return Endpoints.Mixed
        slices = [
            item.raw
            for item in await self._client.list(
                ctrl.ENDPOINT_SLICE, namespace=namespace, labels={SERVICE_NAME: service.name}
            )
        ]
        for end, to, labels in (
            (Endpoints.Routers, backend, backend.selector),
            (Endpoints.Pods, None, selector(service.name)),
        ):
            if not flip.points_at(there.raw, owner, to):
                continue
            pods = await self._client.list(ctrl.POD, namespace=namespace, labels=labels)
            return end if flip.settled(slices, to, [pod.name for pod in pods]) else Endpoints.Mixed
        return Endpoints.Mixed

    async def _judgement(self, service: ctrl.Object, state: Canary, watched: Watched) -> Watched:
        key = ctrl.Key(service.namespace, analysis_name(service.name, state))
        analysis = await self._client.get(CANARY_ANALYSIS, key)
        if analysis is None or analysis.controller_uid != service.uid:
            return watched  # one that somebody else made says nothing of our candidate
        told = find(analysis.status, Type.AnalysisAvailable)
        try:
            found = analysis_status.found(analysis)
        except ValueError:
            found = None
        return replace(
            watched,
            judged=key.name,
            found=found,
            metrics=analysis_status.answers(analysis),
            blindness=text(told.get("reason")),
            heard=text(told.get("message")),
        )


async def _report(provider: Provider, split: Split, *, again: bool = True) -> tuple[Report, float | None]:
    """The provider's word on the split in status. again: it is told the split once more, because it may have
    begun after it, or has not arrived at it; without, what others made of it since is found out.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            if again:
                await provider.apply(split)
            said = await provider.verify(split)
    except TimeoutError:
        why = f"the traffic provider does not answer within {DEADLINE:g} s"
        return Report(change=split.change, route=Route.Unreachable, message=why), None
    if again and isinstance(said, Drifted):  # it is on its way
        route = Route.Unreachable if said.lost else Route.Pending
        return Report(change=said.change, route=route, message=said.waits or said.reason), None
    return _of(said), said.effective if isinstance(said, Verified) else None


def _of(said: Verification) -> Report:
    match said:
        case Verified(change=change):
            return Report(change=change, route=Route.Verified)
        case Pending(change=change, reason=reason):
            return Report(change=change, route=Route.Pending, message=reason)
        case Refused(change=change, reason=reason):
            return Report(change=change, route=Route.Refused, message=reason)
        case Unreachable(change=change, reason=reason):
            return Report(change=change, route=Route.Unreachable, message=reason)
        case Drifted(change=change, reason=reason):
            return Report(change=change, route=Route.Drifted, message=reason)
