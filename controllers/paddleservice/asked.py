"""What is asked of pods and of people's webhooks, and when. Pure."""

from collections.abc import Iterable
from typing import Final

import controller_runtime as ctrl

from ..analysis.tally import Verdict
from ..kinds import PORT_HTTP
from ..resources.desired import Settings
from ..resources.wire import integer, maps, text
from ..rollout.canary import Canary, Found, Pause, Phase
from .observed import Pod
from .questions import Question

#: Seconds that a hook has, unless it says otherwise; and between two attempts at one that says no.
HOOK_DEADLINE: Final = 10
HOOK_AGAIN: Final = 10.0

_BEFORE_A_WEIGHT: Final = (Phase.Preparing, Phase.Shifting, Phase.Promoting)


def asks_pods(state: Canary) -> bool:
    """Whether the run is where pods are asked on their readiness path."""
    return state.phase in _BEFORE_A_WEIGHT


def readiness(settings: Settings, state: Canary, pods: Iterable[Pod]) -> tuple[Question, ...]:
    """A GET for every ready pod of the candidate, before its revision gets requests or more of them."""
    path = text(settings.canary.get("readinessPath"))
    if not path or not asks_pods(state):
        return ()
    return tuple(
        Question(name=f"pod/{pod.uid}", url=f"http://{_host(pod.ip)}:{PORT_HTTP}{path}")
        for pod in pods
        if pod.revision == state.candidate and pod.ready and not pod.deleting and pod.ip
    )


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def passed(state: Canary, found: Found | None) -> bool:
    """Whether the step could go on if no hook held it."""
    if state.phase is Phase.Paused:
        return state.pause is Pause.Step
    ours = found is not None and (found.run, found.step, found.attempt) == (
        state.run,
        state.step,
        state.attempt,
    )
    judged = state.phase in (Phase.Analysing, Phase.Soaking)
    return judged and ours and found is not None and found.verdict is Verdict.Passed


def webhooks(key: ctrl.Key, settings: Settings, state: Canary) -> tuple[Question, ...]:
    """A POST for every hook, once for each attempt at a step."""
    weight = state.steps[state.step] if state.step < len(state.steps) else 100
    body = {
        "namespace": key.namespace,
        "service": key.name,
        "revision": state.candidate,
        "baseline": state.stable,
        "run": state.run,
        "step": state.step,
        "attempt": state.attempt,
        "weight": weight,
    }
    return tuple(
        Question(
            name=f"hook/{state.run}-{state.step}-{state.attempt}/{text(hook.get('name'))}",
            url=text(hook.get("url")),
            body=body,
            deadline=float(integer(hook.get("timeoutSeconds"), HOOK_DEADLINE)),
            again=HOOK_AGAIN,
            guarded=True,
        )
        for hook in maps(settings.canary.get("hooks"))
    )
