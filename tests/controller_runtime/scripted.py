"""A collection on a server that answers as a test wrote it down."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson

from controller_runtime import JSON, Kind
from controller_runtime._transport import Stream
from controller_runtime.errors import ApiError, TransportError, error_from_status

THING = Kind("example.org", "v1", "Thing", "things")


def thing(name: str, version: int | str, *, namespace: str = "ns", **extra: object) -> JSON:
    """An object as the server sends it; `extra` goes into metadata."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "generation": 1,
        **extra,
    }
    return {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": metadata, "spec": {"size": 1}}


def page(*items: JSON, version: int | str, following: str = "") -> bytes:
    metadata = {"resourceVersion": str(version)} | ({"continue": following} if following else {})
    return orjson.dumps({"kind": "ThingList", "apiVersion": "v1", "metadata": metadata, "items": list(items)})


def event(kind: str, obj: JSON) -> bytes:
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


def bookmark(version: int | str, *, end: bool = False) -> bytes:
    metadata: JSON = {"resourceVersion": str(version)}
    if end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event("BOOKMARK", {"kind": "Thing", "apiVersion": "example.org/v1", "metadata": metadata})


def failure(code: int, reason: str = "", message: str = "", **details: object) -> ApiError:
    return error_from_status({"code": code, "reason": reason, "message": message, "details": details})


def error_event(code: int, reason: str = "") -> bytes:
    return event("ERROR", {"kind": "Status", "code": code, "reason": reason, "message": "told to"})


class ScriptedStream:
    """A watch's body: `send` pieces, then `finish` or `cut`."""

    def __init__(self, *pieces: bytes) -> None:
        self._queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.aborted = False
        self.send(*pieces)

    def send(self, *pieces: bytes) -> ScriptedStream:
        for piece in pieces:
            self._queue.put_nowait(piece)
        return self

    def finish(self) -> ScriptedStream:
        return self.send(b"")

    def cut(self) -> ScriptedStream:
        self._queue.put_nowait(TransportError("cut"))
        return self

    async def read(self) -> bytes:
        piece = await self._queue.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def abort(self) -> None:
        self.aborted = True
        self.cut()


class ScriptedSource:
    """Gives out the answers in order and notes what was asked; an empty script keeps the caller waiting."""

    def __init__(self) -> None:
        self.lists: list[Mapping[str, str]] = []
        self.watches: list[Mapping[str, str]] = []
        self._pages: deque[bytes | Exception] = deque()
        self._streams: deque[ScriptedStream | Exception] = deque()

    def on_list(self, *answers: bytes | Exception) -> None:
        self._pages.extend(answers)

    def on_watch(self, *answers: ScriptedStream | Exception) -> None:
        self._streams.extend(answers)

    async def list(self, parameters: Mapping[str, str]) -> bytes:
        self.lists.append(dict(parameters))
        if not self._pages:
            await asyncio.Future()
        answer = self._pages.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @asynccontextmanager
    async def watch(self, parameters: Mapping[str, str]) -> AsyncIterator[Stream]:
        self.watches.append(dict(parameters))
        if not self._streams:
            await asyncio.Future()
        answer = self._streams.popleft()
        if isinstance(answer, Exception):
            raise answer
        yield answer
