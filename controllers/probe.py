"""What serving pods say about themselves, read from their admin port into an observed store.

The reconciler names the pods to look at (those of a revision that is being deployed); the prober reads
`GET :8081/progress` of each about once a second and enqueues the service's key when an answer changed. The
reconciler reads the store and never waits for a pod.

An answer comes from a container of a namespace's user: it is read up to a limit, never followed to another
address, and decoded without trusting its shape.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp
import structlog

import controller_runtime as ctrl

from .resources.wire import integer, mapping, maps, number, text

#: Bytes read of one answer.
MAX_ANSWER = 64 * 1024
STAGES = ("Pulling", "Loading", "WarmingUp", "Ready")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProgress:
    """One model in one pod. Bytes, bytes a second, seconds, milliseconds."""

    name: str
    version: str = ""
    digest: str = ""
    content_digest: str = ""
    state: str = "Waiting"
    reason: str = ""
    message: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_second: float = 0.0
    eta: float = 0.0
    engine: str = ""
    warm_up_median: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a pod answered. `stage`: Pulling, Loading, WarmingUp, Ready or Failed. `release`: what the desired
    state it read last calls itself, and whether that is Pending, Done or Failed.
    """

    stage: str
    models: tuple[ModelProgress, ...] = ()
    release: str = ""
    release_state: str = ""
    release_reason: str = ""
    release_message: str = ""

    @property
    def bytes_done(self) -> int:
        return sum(model.bytes_done for model in self.models)

    @property
    def rank(self) -> int:
        """How far the pod got: 0 while it pulls, 3 when it is ready; -1 when it failed."""
        return STAGES.index(self.stage) if self.stage in STAGES else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pod to look at. `uid` names it in the store: a pod of the same name and another UID is another."""

    uid: str
    ip: str


def parse(answer: object) -> Observation:
    """The observation in a decoded answer. Never raises: what is not there reads as nothing."""
    raw = mapping(answer)
    models = []
    for item in list(maps(raw.get("models")))[:16]:
        models.append(
            ModelProgress(
                name=text(item.get("name"))[:63],
                version=text(item.get("version"))[:32],
                digest=text(item.get("digest"))[:128],
                content_digest=text(item.get("contentDigest"))[:128],
                state=text(item.get("state"), "Waiting")[:32],
                reason=text(item.get("reason"))[:128],
                message=text(item.get("message"))[:1024],
                bytes_done=max(0, integer(item.get("bytesDone"))),
                bytes_total=max(0, integer(item.get("bytesTotal"))),
                bytes_per_second=max(0.0, number(item.get("bytesPerSecond"))),
                eta=max(0.0, number(item.get("etaSeconds"))),
                engine=text(item.get("engine"))[:32],
                warm_up_median=max(0.0, number(item.get("warmUpMedianMilliseconds"))),
            )
        )
    release = mapping(raw.get("release"))
    return Observation(
        stage=text(raw.get("stage"), "Loading")[:32],
        models=tuple(models),
        release=text(release.get("revision"))[:63],
        release_state=text(release.get("state"))[:32],
        release_reason=text(release.get("reason"))[:128],
        release_message=text(release.get("message"))[:1024],
    )


class ObservedStore:
    """The last answer of every pod that is looked at, by pod UID. Single-threaded, like the event loop."""

    def __init__(self) -> None:
        self._targets: dict[ctrl.Key, tuple[Target, ...]] = {}
        self._seen: dict[str, Observation] = {}

    def watch(self, key: ctrl.Key, targets: Iterable[Target]) -> None:
        """From now on look at exactly these pods of the service `key`; forget the answers of all others."""
        wanted = tuple(targets)
        before = self._targets.pop(key, ())
        if wanted:
            self._targets[key] = wanted
        keep = {target.uid for target in wanted}
        for target in before:
            if target.uid not in keep:
                self._seen.pop(target.uid, None)

    def get(self, uid: str) -> Observation | None:
        return self._seen.get(uid)

    def targets(self) -> list[tuple[ctrl.Key, Target]]:
        return [(key, target) for key, targets in self._targets.items() for target in targets]

    def put(self, key: ctrl.Key, target: Target, observation: Observation) -> bool:
        """Keep an answer; True if it is news. One that came too late (nobody looks any more) is dropped."""
        if target not in self._targets.get(key, ()):
            return False
        if self._seen.get(target.uid) == observation:
            return False
        self._seen[target.uid] = observation
        return True


def pod_url(target: Target, port: int) -> str:
    host = f"[{target.ip}]" if ":" in target.ip else target.ip
    return f"http://{host}:{port}/progress"


class Prober:
    """Reads the progress of all targets of a store over and over until stopped.

    At most `concurrency` requests at once, each within `deadline` seconds; a round starts `interval` seconds
    after the one before started, or when that one ended. A pod that does not answer keeps its last answer:
    silence is for the kubelet to judge. `url` can be replaced where pods have no address (tests).
    """

    def __init__(
        self,
        store: ObservedStore,
        channel: ctrl.Channel,
        *,
        port: int = 8081,
        concurrency: int = 32,
        deadline: float = 2.0,
        interval: float = 1.0,
        url: Callable[[Target], str] | None = None,
    ) -> None:
        self._store = store
        self._channel = channel
        self._concurrency = concurrency
        self._deadline = deadline
        self._interval = interval
        self._url = url or (lambda target: pod_url(target, port))

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Probe until `stop` is set or the task is cancelled."""
        ended = stop or asyncio.Event()
        timeout = aiohttp.ClientTimeout(total=self._deadline)
        connector = aiohttp.TCPConnector(limit=self._concurrency, force_close=True)
        # trust_env stays off: a proxy has no business between the operator and a pod.
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            loop = asyncio.get_running_loop()
            while not ended.is_set():
                began = loop.time()
                await self.round(session)
                rest = self._interval - (loop.time() - began)
                try:
                    await asyncio.wait_for(ended.wait(), timeout=max(rest, 0.01))
                except TimeoutError:
                    continue

    async def round(self, session: aiohttp.ClientSession) -> None:
        """One look at every target."""
        gate = asyncio.Semaphore(self._concurrency)

        async def look(key: ctrl.Key, target: Target) -> None:
            async with gate:
                observation = await self._ask(session, target)
            if observation is not None and self._store.put(key, target, observation):
                self._channel.enqueue(key)

        async with asyncio.TaskGroup() as group:
            for key, target in self._store.targets():
                group.create_task(look(key, target))

    async def _ask(self, session: aiohttp.ClientSession, target: Target) -> Observation | None:
        try:
            async with asyncio.timeout(self._deadline):
                async with session.get(self._url(target), allow_redirects=False) as reply:
                    if reply.status != 200:
                        return None
                    body = await _read(reply)
            return parse(json.loads(body))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
            return None
        except Exception:
            # One strange pod must not end the look at all the others.
            structlog.get_logger(__name__).exception("probe failed", pod_uid=target.uid)
            return None


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in reply.content.iter_chunked(16 * 1024):
        body += chunk
        if len(body) > MAX_ANSWER:
            raise ValueError("answer too long")
    return bytes(body)
