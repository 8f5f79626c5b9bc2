import asyncio
from typing import Any

from controller_runtime import AlreadyExists, Forbidden, Key, Kind, NotFound, Object, TransportError
from controller_runtime._events import COMBINED, EventBroadcaster, EventOptions
from controller_runtime.testing.clock import FakeClock

POD = Object(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1", "resourceVersion": "7"},
    }
)


class FakeEvents:
    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[str, dict[str, Any]]] = []
        self.failures: list[Exception] = []

    async def create(self, raw: Object | dict[str, Any]) -> Object:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        assert isinstance(raw, dict)
        self.created.append(raw)
        return Object(raw)

    async def patch(self, kind: Kind, key: Key, patch: dict[str, Any], *, type: str = "merge") -> Object:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.patched.append((key.name, patch))
        return Object({})


class Harness:
    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock(start=10_000.0)
        self.api = FakeEvents()
        self.dropped: list[str] = []
        self.broadcaster = EventBroadcaster(
            self.api,
            options=EventOptions(**options),
            clock=self.clock,
            uniform=lambda low, high: 1.0,
            instance="host",
            dropped=self.dropped.append,
        )
        self.events = self.broadcaster.recorder("tester")

    async def __aenter__(self) -> "Harness":
        self.task = asyncio.create_task(self.broadcaster.run())
        await self.clock.advance()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert not self.task.done()
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_an_event_has_what_the_api_demands() -> None:
    async with Harness() as h:
        h.events.warning(POD, "Broken", "it is broken", action="Fixing")
        h.events.normal(Object({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}}), "Fine", "ok")
        await h.clock.advance()
        event, other = h.api.created
    metadata = event.pop("metadata")
    assert metadata["name"].startswith("p.")
    assert metadata["namespace"] == "ns"
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Warning",
        "reason": "Broken",
        "action": "Fixing",
        "note": "it is broken",
        "reportingController": "tester",
        "reportingInstance": "host",
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "ns",
            "name": "p",
            "uid": "u1",
            "resourceVersion": "7",
        },
    }
    assert other["metadata"]["namespace"] == "default"
    assert other["action"] == "Fine"


async def test_a_thousand_identical_events_are_one_object_and_few_writes() -> None:
    async with Harness() as h:
        for _ in range(1000):
            h.events.normal(POD, "Same", "same")
        await h.clock.advance()
        assert len(h.api.created) == 1
        assert len(h.api.created) + len(h.api.patched) <= 2
        for _ in range(1000):
            h.events.normal(POD, "Same", "same")
        await h.clock.advance(3600.0)
        assert len(h.api.created) == 1
        name, patch = h.api.patched[-1]
        assert name == h.api.created[0]["metadata"]["name"]
        assert patch["series"]["count"] == 2000
        assert len(h.api.patched) <= 3


async def test_a_series_is_updated_ever_less_often_and_its_count_stays_exact() -> None:
    async with Harness() as h:
        for _ in range(600):
            h.events.normal(POD, "Same", "same")
            await h.clock.advance(1.0)
        assert len(h.api.patched) < 12
        await h.broadcaster.drain(5.0)
        assert h.api.patched[-1][1]["series"]["count"] == 600
        assert h.api.patched[-1][1]["series"]["lastObservedTime"] == "2026-01-01T00:09:59.000000Z"


async def test_repeats_during_a_write_do_not_make_a_stream_of_writes() -> None:
    async with Harness() as h:
        patch = h.api.patch

        async def slow(*arguments: Any, **options: Any) -> Object:
            h.events.normal(POD, "Same", "same")  # once more while the write is under way
            return await patch(*arguments, **options)

        h.api.patch = slow  # type: ignore[method-assign]
        h.events.normal(POD, "Same", "same")
        await h.clock.advance()
        h.events.normal(POD, "Same", "same")
        await h.clock.advance(9.0)
        assert len(h.api.patched) == 1
        await h.clock.advance(1.0)
        assert len(h.api.patched) == 2


async def test_a_series_ends_when_nothing_comes_for_long() -> None:
    async with Harness() as h:
        h.events.normal(POD, "Same", "same")
        await h.clock.advance(361.0)
        h.events.normal(POD, "Same", "same")
        await h.clock.advance()
        assert len(h.api.created) == 2
        assert h.api.patched == []


async def test_thirty_different_messages_are_nine_and_one_combined() -> None:
    async with Harness() as h:
        for number in range(30):
            h.events.normal(POD, "Scaled", f"message {number}")
        await h.clock.advance(3600.0)
        notes = [event["note"] for event in h.api.created]
        assert notes == [*[f"message {number}" for number in range(9)], f"{COMBINED}message 9"]
        counts = [patch["series"]["count"] for _, patch in h.api.patched]
        created = [event["series"]["count"] for event in h.api.created if "series" in event]
        assert (counts or created)[-1] == 21
        # Other reasons and other objects are not concerned, and after a quiet time it starts anew.
        h.events.normal(POD, "Other", "message 31")
        h.events.normal(POD, "Scaled", "message 32")
        await h.clock.advance()
        assert [event["note"] for event in h.api.created[10:]] == ["message 31", "message 32"]


async def test_a_flood_about_one_object_is_rationed() -> None:
    async with Harness() as h:
        for number in range(40):
            h.events.normal(POD, f"Reason{number}", "x")
        await h.clock.advance()
        assert len(h.api.created) == 25
        assert h.dropped == ["rationed"] * 15
        h.events.warning(POD, "Reason", "another type has a ration of its own")
        await h.clock.advance(300.0)
        h.events.normal(POD, "One", "more")
        h.events.normal(POD, "Two", "more")
        await h.clock.advance()
        assert [event["reason"] for event in h.api.created[25:]] == ["Reason", "One"]


async def test_a_full_queue_drops_and_recording_never_raises() -> None:
    h = Harness(queue=3)
    for number in range(5):
        h.events.normal(POD, f"Reason{number}", "x")
    assert h.dropped == ["queue full"] * 2
    h.events.normal(None, "Reason", "no object at all")  # type: ignore[arg-type]


async def test_failing_writes_are_retried_then_dropped() -> None:
    async with Harness(tries=3, retry=10.0) as h:
        h.api.failures = [TransportError("down"), TransportError("down")]
        h.events.normal(POD, "A", "a")
        await h.clock.advance(19.0)
        assert h.api.created == []
        await h.clock.advance(1.0)
        assert len(h.api.created) == 1
        h.api.failures = [TransportError("down")] * 3
        h.events.normal(POD, "B", "b")
        await h.clock.advance(60.0)
        assert h.dropped == ["failed"]
        h.api.failures = [Forbidden(403, "Forbidden", "namespace is being terminated")]
        h.events.normal(POD, "C", "c")
        h.api.failures.append(ValueError("a bug"))
        h.events.normal(POD, "D", "d")
        h.events.normal(POD, "E", "e")
        await h.clock.advance()
        assert h.dropped == ["failed", "refused", "failed"]
        assert [event["reason"] for event in h.api.created] == ["A", "E"]


async def test_a_write_whose_answer_was_lost_is_not_repeated() -> None:
    async with Harness() as h:
        h.api.failures = [TransportError("reset"), AlreadyExists(409, "AlreadyExists")]
        h.events.normal(POD, "A", "a")
        await h.clock.advance(10.0)
        assert (h.api.created, h.dropped) == ([], [])
        h.events.normal(POD, "A", "a")
        await h.clock.advance()
        assert h.api.patched[0][1]["series"]["count"] == 2


async def test_an_event_that_expired_on_the_server_is_made_again() -> None:
    async with Harness() as h:
        h.events.normal(POD, "A", "a")
        await h.clock.advance()
        h.api.failures = [NotFound(404, "NotFound")]
        h.events.normal(POD, "A", "a")
        await h.clock.advance()
        first, second = h.api.created
        assert second["series"]["count"] == 2
        assert first["metadata"]["name"] == second["metadata"]["name"] or second["metadata"]["name"].endswith(
            "r"
        )


async def test_memory_is_bounded_and_long_notes_are_cut() -> None:
    async with Harness(remembered=10, queue=10_000) as h:
        for number in range(100):
            obj = Object(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": str(number), "namespace": "ns"}}
            )
            h.events.normal(obj, "A", "é" * 2000)
        await h.broadcaster.drain(5.0)
        assert len(h.api.created) == 100
        assert max(len(event["note"].encode()) for event in h.api.created) <= 1024
        assert h.api.created[0]["note"].endswith("é...")
        known = (h.broadcaster._series, h.broadcaster._buckets, h.broadcaster._similar)
        assert [len(memory) for memory in known] == [10, 10, 10]


async def test_drain_gives_up_in_time() -> None:
    h = Harness()
    h.events.normal(POD, "A", "a")
    await h.broadcaster.drain(0.001)  # no writer runs
    assert h.api.created == []
