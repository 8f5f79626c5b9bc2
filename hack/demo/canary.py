"""The demo's last part: a good version is promoted, a slow one rolled back by itself, under load."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cli import live
from cli.cluster import Kubectl as Cluster
from cli.look import look
from cli.reading import Reading
from hack.demo import load, reach, watch
from hack.demo.predict import Request
from hack.deploy.kubectl import Kubectl

#: Short times, so that nobody waits; the defaults are 60 s an interval, 3 passes, and 300 s at 100 %.
STRATEGY: Mapping[str, object] = {
    "type": "Canary",
    "canary": {
        "steps": [{"weight": 30}],
        "stableForSeconds": 5,
        "analysis": {"interval": 5, "requiredPasses": 2},
    },
}
SLA = 600  # milliseconds
SLOW = "latency=1.2"  # seconds added to every answer
LONGEST = 240.0
#: What an earlier demo left: without it the first version would come as a canary, too.
WITHOUT: Mapping[str, object] = {"spec": {"serving": {"updateStrategy": None}}}


class NotEnded(Exception):
    """A run did not end as it should; one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The model, how it is asked, and how an answer is checked."""

    namespace: str
    name: str
    request: Request
    check: Callable[[bytes, int], str]
    rate: float


def change(version: str, key: str, *, demo: str, faults: str = "") -> dict[str, object]:
    """The patch that asks for `version` as a canary.

    demo: of this demo alone, or a version that an earlier one saw rejected would not come again by itself.
    """
    env = [{"name": "DEMO", "value": demo}]
    if faults:  # the runtime is slow on purpose only where this variable is set
        env.append({"name": "PADDLE_FAULTS", "value": faults})
    serving = {"updateStrategy": STRATEGY, "latencySLAMilliseconds": SLA, "pod": {"env": env}}
    return {"spec": {"version": version, "storage": {"key": key}, "serving": serving}}


async def run(kubectl: Kubectl, served: Served, asked: Mapping[str, object], expected: str) -> load.Outcome:
    """Applies `asked` under load and shows the run to its end. Raises NotEnded unless it is `expected`."""
    outcome, stop = load.Outcome(), asyncio.Event()
    with reach.predictor(kubectl, served.namespace, served.name) as base:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                load.steady(
                    base, served.request, served.check,
                    rate=served.rate, stop=stop, outcome=outcome, longest=LONGEST + 30,
                )
            )  # fmt: skip
            try:
                await asyncio.sleep(1.0)
                await asyncio.to_thread(_follow, kubectl, served, asked, expected)
            finally:
                stop.set()
    return outcome


def _follow(kubectl: Kubectl, served: Served, asked: Mapping[str, object], expected: str) -> None:
    cluster = Cluster(
        namespace=served.namespace, kubeconfig=str(kubectl.kubeconfig), program=kubectl.command()[0]
    )
    text = json.dumps(asked)
    before = len(look(cluster, served.name, time.time).state.history)
    print(f"  $ kubectl patch paddlemodel {served.name} --type=merge -p '{text}'", flush=True)
    kubectl.run("patch", watch.KIND, served.name, "-n", served.namespace, "--type=merge", "-p", text)
    print(f"  $ kubectl paddle canary status {served.name} -w", flush=True)
    deadline = time.monotonic() + LONGEST

    def seen() -> Reading:
        reading = look(cluster, served.name, time.time)
        if time.monotonic() > deadline:
            raise NotEnded(f"the canary has not ended after {LONGEST:.0f} s; it waits for {reading.waits}")
        return reading

    ended = live.watch(seen, _Indented(), terminal=False)
    history = ended.state.history
    if len(history) == before or history[-1].ending != expected:
        raise NotEnded(f"the run ended {history[-1].ending}, not {expected}: {history[-1].reason}")


class _Indented:
    """Standard output, two columns to the right, as the rest of the demo."""

    def write(self, text: str) -> int:
        return sys.stdout.write(f"    {text}")

    def flush(self) -> None:
        sys.stdout.flush()
