"""What a canary looks at before anything is begun, and when a provider does not answer."""

import asyncio

import pytest

import controller_runtime as ctrl
from controllers.kinds import ANNOTATION_CANARY_COMMAND, PADDLE_SERVICE
from controllers.paddleservice import watcher
from controllers.paddleservice.questions import Answer
from controllers.paddleservice.watcher import Surroundings, Watcher
from controllers.resources.desired import Settings, Strategy
from controllers.rollout.canary import Canary, Command, Path, Phase, Route, Verb, Way
from controllers.traffic import Split, Verification

from .builders import desired, pod, revision
from .canaries import Routers, Said

CANARY = Strategy(type="Canary")


def service(**status: object) -> ctrl.Object:
    metadata = {
        "name": "svc",
        "namespace": "default",
        "uid": "u",
        "annotations": {ANNOTATION_CANARY_COMMAND: "abort/3/t"},
    }
    return ctrl.Object({"metadata": metadata, "spec": {}, "status": status}, PADDLE_SERVICE)


async def look(around: Surroundings, settings: Settings, state: Canary, **status: object) -> watcher.Watched:
    return await Watcher(None, around).look(service(**status), settings, state, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("around", "settings", "words"),
    [
        (
            Surroundings(unable={"Envoy": "start it with --router-image"}, servers=("default",)),
            Settings(strategy=CANARY),
            "traffic.provider Envoy: start it with --router-image",
        ),
        (
            Surroundings(servers=("default",)),
            Settings(strategy=CANARY),
            "traffic.provider Envoy is not supported",
        ),
        (
            Surroundings(providers={"Envoy": Routers()}),
            Settings(strategy=CANARY),
            "updateStrategy.canary.analysis.prometheus: the operator has no server default",
        ),
        (
            Surroundings(providers={"Envoy": Routers()}, servers=("default",)),
            Settings(
                strategy=CANARY, canary={"analysis": {"metrics": [{"name": "m", "query": "up", "max": 1}]}}
            ),
            "updateStrategy.canary.analysis.metrics: m:",
        ),
    ],
)
async def test_what_no_run_can_be_begun_with(around: Surroundings, settings: Settings, words: str) -> None:
    watched = await look(around, settings, Canary(stable="a"))
    assert watched.problem.startswith(words)
    assert watched.command == Command(Verb.Abort, 3, "t")


async def test_without_a_proxy_no_provider_is_needed() -> None:
    settings = Settings(strategy=CANARY, traffic={"provider": "Replicas"})
    watched = await look(Surroundings(servers=("default",)), settings, Canary(stable="a"))
    assert watched.problem == ""


class Silent(Routers):
    async def verify(self, split: Split) -> Verification:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_provider_that_does_not_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "DEADLINE", 0.05)
    around = Surroundings(providers={"Envoy": Silent()}, servers=("default",))
    state = Canary(stable="a", candidate="b", phase=Phase.Preparing, path=Path(way=Way.Direct))
    traffic = {"provider": "Envoy", "change": 4, "stable": {"revision": "a"}}
    watched = await look(around, Settings(strategy=CANARY), state, traffic=traffic)
    assert (watched.report.change, watched.report.route) == (4, Route.Unreachable)
    assert "does not answer within 0.05 s" in watched.report.message


class Nothing:
    """A client that finds nothing."""

    async def get(self, kind: ctrl.Kind, key: ctrl.Key) -> None:
        return None


@pytest.mark.parametrize(
    ("phase", "answer", "checked"),
    [
        (Phase.Shifting, Answer(True), True),
        (Phase.Shifting, None, False),
        (Phase.Analysing, Answer(True), False),
    ],
)
async def test_a_pod_that_was_not_asked_has_not_answered(
    phase: Phase, answer: Answer | None, checked: bool
) -> None:
    """A pass that leads to a higher weight does not raise it before it has asked."""
    around = Surroundings(servers=("default",), questions=Said(answer))  # type: ignore[arg-type]
    settings = Settings(strategy=CANARY, traffic={"provider": "Replicas"}, canary={"readinessPath": "/ready"})
    new = revision(desired("v2"))
    state = Canary(stable="a", candidate=new.hash, phase=phase, run=1, attempt=1, steps=(10, 50))
    pods = [pod(new, 1, ready=True)]
    watched = await Watcher(Nothing(), around).look(service(), settings, state, pods)  # type: ignore[arg-type]
    assert watched.checked is checked
