import asyncio

import pytest
from prometheus_client import CollectorRegistry

from controller_runtime import CONFIG_MAP, DEPLOYMENT, Key, Kind, Object
from controller_runtime._builder import controller
from controller_runtime._clock import SYSTEM_CLOCK, Clock
from controller_runtime._controller import Controller, WriteBarrier
from controller_runtime._metrics import PrometheusMetrics
from controller_runtime._predicates import Predicate, has_labels
from controller_runtime._sources import Channel, TimerSource
from controller_runtime.testing.clock import settle

from .fakes import FakeInformer, FakeReconciler

FLEET = Kind("example.org", "v1", "Fleet", "fleets")


class FakeInformers:
    def __init__(self) -> None:
        self.made: dict[tuple[Kind, bool], FakeInformer] = {}

    def informer(self, kind: Kind, *, metadata_only: bool = False) -> FakeInformer:
        return self.made.setdefault((kind, metadata_only), FakeInformer(kind))


class FakeHost:
    def __init__(self) -> None:
        self.cache = FakeInformers()
        self.metrics = PrometheusMetrics(CollectorRegistry())
        self.clock: Clock = SYSTEM_CLOCK
        self.barrier: WriteBarrier | None = None
        self.added: list[tuple[Controller, bool]] = []

    def add(self, runnable: Controller, *, leader: bool = True) -> None:
        self.added.append((runnable, leader))


def thing(name: str, owner: str = "", **labels: str) -> Object:
    metadata: dict[str, object] = {"name": name, "namespace": "ns", "resourceVersion": "1", "labels": labels}
    if owner:
        reference = {"apiVersion": "example.org/v1", "kind": "Fleet", "name": owner, "controller": True}
        metadata["ownerReferences"] = [reference]
    return Object({"metadata": metadata})


async def reconciled(host: FakeHost, reconciler: FakeReconciler) -> list[str]:
    task = asyncio.create_task(host.added[-1][0].run())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    return sorted(key.name for key in reconciler.calls)


async def test_everything_a_controller_watches_leads_to_the_owner() -> None:
    host, reconciler, channel = FakeHost(), FakeReconciler(), Channel()
    made = (
        controller(host)
        .filtered(has_labels({"ours": "yes"}))
        .manages(FLEET)
        .owns(DEPLOYMENT, when=Predicate(create=lambda obj: obj.name != "boring"))
        .watches(CONFIG_MAP, lambda obj: [Key("ns", f"mapped-{obj.name}")], metadata_only=True)
        .source(channel)
        .source(TimerSource(60.0, list))
        .complete(reconciler, workers=4, leader=False, warm_up=True)
    )
    assert made.name == "fleet"
    assert made.options.workers == 4
    assert made.options.warm_up
    assert host.added == [(made, False)]
    informers = host.cache.made
    assert set(informers) == {(FLEET, False), (DEPLOYMENT, False), (CONFIG_MAP, True)}
    informers[FLEET, False].sync(thing("fleet", ours="yes"), thing("not-ours"))
    informers[DEPLOYMENT, False].sync(thing("d", "owner", ours="yes"), thing("boring", "x", ours="yes"))
    informers[CONFIG_MAP, True].sync(thing("config", ours="yes"))
    channel.enqueue(Key("ns", "probed"))
    assert await reconciled(host, reconciler) == ["fleet", "mapped-config", "owner", "probed"]


async def test_channel_objects_are_mapped_and_filtered() -> None:
    host, reconciler, channel = FakeHost(), FakeReconciler(), Channel()
    mine = Predicate(generic=lambda obj: obj.name != "skipped")
    controller(host, "probes").source(channel, map_fn=lambda obj: [Key("", obj.name)], when=mine).complete(
        reconciler
    )
    channel.publish(thing("a"))
    channel.publish(thing("skipped"))
    assert await reconciled(host, reconciler) == ["a"]


async def test_any_owner_counts_on_request() -> None:
    host, reconciler = FakeHost(), FakeReconciler()
    controller(host, "any").manages(FLEET).owns(DEPLOYMENT, any_owner=True).complete(reconciler)
    child = thing("d", "owner")
    child.owner_references[0]["controller"] = False
    host.cache.made[FLEET, False].sync()
    host.cache.made[DEPLOYMENT, False].sync(child)
    assert await reconciled(host, reconciler) == ["owner"]


def test_mistakes_are_told_at_once() -> None:
    host = FakeHost()
    with pytest.raises(ValueError, match="manages Fleet already"):
        controller(host).manages(FLEET).manages(CONFIG_MAP)
    with pytest.raises(ValueError, match="give the controller a name"):
        controller(host).complete(FakeReconciler())
    with pytest.raises(ValueError, match=r"owns\(\) needs manages\(\)"):
        controller(host, "x").owns(DEPLOYMENT).complete(FakeReconciler())
    with pytest.raises(ValueError, match="nothing to watch"):
        controller(host, "x").complete(FakeReconciler())
    with pytest.raises(ValueError, match="belong to a Channel"):
        controller(host, "x").source(TimerSource(1.0, list), when=Predicate())
    assert host.added == []
    controller(host).manages(FLEET).complete(FakeReconciler())
    with pytest.raises(ValueError, match="'fleet' is taken"):
        controller(host).manages(FLEET).complete(FakeReconciler())
