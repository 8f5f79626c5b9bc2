"""Fetching the files of one artifact: parallel ranges, resumed after cuts, hashed while they arrive."""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from urllib3.exceptions import ReadTimeoutError
from urllib3.response import BaseHTTPResponse

from artifacts import _ledger
from artifacts._archive import disk_error
from artifacts._errors import ArtifactError, Reason
from artifacts._ledger import Ledger
from artifacts._manifest import File
from artifacts._transport import TRANSPORT_ERRORS, translate

_BLOCK = 1024 * 1024
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
EMPTY = hashlib.sha256(b"").hexdigest()


class Opener(Protocol):
    """Opens [start, end) of a file; a server without ranges answers 200 and the whole. Raises
    ArtifactError.
    """

    def open(self, file: File, start: int, end: int) -> BaseHTTPResponse: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadOptions:
    """`parallel` connections, pieces of `chunk` bytes; a piece fails after `attempts` without one new byte.

    Seconds: `stall_timeout` without a byte counts as a failed attempt; `backoff` doubles up to
    `backoff_limit` and is spread by half in both directions.
    """

    parallel: int = 4
    chunk: int = 16 * 1024 * 1024
    stall_timeout: float = 30.0
    attempts: int = 8
    backoff: float = 0.25
    backoff_limit: float = 10.0
    random: Callable[[], float] = random.random

    def delay(self, failures: int) -> float:
        """Seconds to wait after the given number of failures in a row."""
        return min(self.backoff_limit, self.backoff * 2.0 ** (failures - 1)) * (0.5 + self.random())


class Stop:
    """Asks a running pull to end. `set` is safe in a signal handler: it takes no lock."""

    __slots__ = ("requested",)

    def __init__(self) -> None:
        self.requested = False

    def set(self) -> None:
        self.requested = True


class Stopped(Exception):
    """The pull ended because it was asked to; what is there already is kept for the next one."""


@dataclass(slots=True)
class _State:
    """One file on its way."""

    file: File
    target: Path
    ledger_path: Path
    ledger: Ledger
    descriptor: int = -1
    sha256: str = ""
    streaming_whole: bool = False  # the server knows no ranges, and one worker reads it all
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class _Piece:
    state: _State
    position: int
    end: int
    whole: bool = False


class Download:
    """Fetches files into a folder. One use; `run` in one thread, workers are its own.

    After `run` returns, every file is there with its size and its SHA-256 is in `hashes`. After it raises,
    what arrived is on disk with a ledger beside it, so that another Download of the same files goes on from
    there.
    """

    def __init__(
        self,
        files: Sequence[File],
        *,
        into: Path,
        ledgers: Path,
        opener: Opener,
        endpoint: str,
        options: DownloadOptions,
        stop: Stop,
        boot: str,
        on_bytes: Callable[[int], None],
        abort: Callable[[], None],
    ) -> None:
        self._opener = opener
        self._endpoint = endpoint
        self._options = options
        self._stop = stop
        self._boot = boot
        self._on_bytes = on_bytes
        self._abort = abort
        self._halt = threading.Event()
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._running = 0
        self._states = [self._prepare(i, f, into, ledgers) for i, f in enumerate(files)]
        self._pieces = deque(
            _Piece(state, start, end)
            for state in self._states
            for start, end in state.ledger.missing(options.chunk)
        )

    def _prepare(self, index: int, file: File, into: Path, ledgers: Path) -> _State:
        target, path = into / file.path, ledgers / f"{index}.json"
        ledger = _ledger.load(path, file, self._boot)
        if not target.is_file() or target.stat().st_size != file.size:
            ledger = Ledger(file.size)
        return _State(file, target, path, ledger)

    @property
    def done(self) -> int:
        """Bytes that an earlier attempt left."""
        return sum(s.ledger.done for s in self._states)

    @property
    def hashes(self) -> dict[str, str]:
        """Path to SHA-256, in hex; complete after run()."""
        return {s.file.path: s.sha256 for s in self._states}

    def run(self) -> None:
        """Raises ArtifactError, or Stopped when `stop` was set meanwhile."""
        try:
            for state in self._states:
                os.makedirs(state.target.parent, exist_ok=True)
                state.descriptor = os.open(state.target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
                os.ftruncate(state.descriptor, state.file.size)
            workers = min(self._options.parallel, len(self._pieces))
            self._running = workers + 1
            names = [(self._work, f"pull-{i}") for i in range(workers)] + [(self._hash_all, "hash")]
            threads = [threading.Thread(target=self._guard, args=(t,), name=n, daemon=True) for t, n in names]
            for thread in threads:
                thread.start()
            self._wait(threads)
        except OSError as error:
            raise disk_error(error, self._states[0].target.parent) from error
        finally:
            self._settle()
        if self._failure is not None:
            raise self._failure

    def _wait(self, threads: Sequence[threading.Thread]) -> None:
        """Until all workers are done; watches for the stop, whose setter may not take locks and so cannot
        notify.
        """
        with self._changed:
            while self._running and not self._halt.is_set():
                self._changed.wait(0.05)
                if self._stop.requested:
                    self._fail(Stopped())
        if self._halt.is_set():
            self._abort()
        # A thread that hangs in a name lookup is left behind; it can write no more, because `_halt` is set.
        ends = time.monotonic() + 2.0
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _settle(self) -> None:
        for state in self._states:
            with state.lock:
                if state.descriptor >= 0:
                    os.close(state.descriptor)
                    state.descriptor = -1
                if not state.ledger.complete or self._failure is not None:
                    self._save(state)

    def _save(self, state: _State) -> None:
        try:
            _ledger.save(state.ledger_path, state.ledger, state.file, self._boot)
        except OSError:
            pass  # a full disk: the next attempt starts this file anew

    def _fail(self, error: Exception) -> None:
        """The first failure decides; the others follow from it."""
        with self._changed:
            if self._failure is None:
                self._failure = error
            self._halt.set()
            self._changed.notify_all()

    def _guard(self, target: Callable[[], None]) -> None:
        try:
            target()
        except (ArtifactError, Stopped) as error:
            self._fail(error)
        except OSError as error:
            self._fail(disk_error(error, self._states[0].target.parent))
        except Exception as error:  # a bug must end the pull, not leave it waiting
            self._fail(ArtifactError(Reason.PULL_FAILED, f"{type(error).__name__}: {error}", retryable=False))
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _work(self) -> None:
        while not self._halt.is_set():
            try:
                piece = self._pieces.popleft()
            except IndexError:
                return
            self._fetch(piece)
            with piece.state.lock:
                self._save(piece.state)

    def _fetch(self, piece: _Piece) -> None:
        failures = 0
        while piece.position < piece.end and not self._halt.is_set():
            before = piece.position
            try:
                response = self._opener.open(piece.state.file, piece.position, piece.end)
                try:
                    if not self._copy(response, piece):
                        return
                    response.release_conn()
                except BaseException:
                    response.close()
                    raise
            except ArtifactError as error:
                if not error.retryable:
                    raise
                failure = error
            except TRANSPORT_ERRORS as error:
                failure = self._network_error(error, piece)
            else:
                continue
            if self._halt.is_set():
                return
            failures = 1 if piece.position > before else failures + 1
            if failures >= self._options.attempts:
                raise failure
            self._halt.wait(self._options.delay(failures))

    def _network_error(self, error: Exception, piece: _Piece) -> ArtifactError:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise error  # the disk, not the network
        if isinstance(error, ReadTimeoutError | TimeoutError):
            return ArtifactError(
                Reason.STALLED,
                f"file {piece.state.file.path!r}: no byte from {self._endpoint} for"
                f" {self._options.stall_timeout:g} s at {piece.position} of"
                f" {piece.state.file.size}: check the object store and the network",
            )
        return translate(error, self._endpoint)

    def _copy(self, response: BaseHTTPResponse, piece: _Piece) -> bool:
        """Writes what `response` brings; False when another worker brings it already."""
        state, size = piece.state, piece.state.file.size
        if not self._placed(response, piece):
            response.close()
            return False
        while piece.position < piece.end:
            # Whatever is there, not a whole block: a cut or a stall must not cost what had arrived.
            data = response.read1(min(_BLOCK, piece.end - piece.position))
            if not data:
                raise ConnectionResetError(f"the answer ended at {piece.position} of {size}")
            with state.lock:
                if state.descriptor < 0 or self._halt.is_set():
                    return False
                descriptor = state.descriptor
                written = 0
                while written < len(data):
                    written += self._write(descriptor, data[written:], piece.position + written, state)
                before = state.ledger.done
                state.ledger.add(piece.position, piece.position + len(data))
                gained = state.ledger.done - before
            piece.position += len(data)
            self._on_bytes(gained)
            with self._changed:
                self._changed.notify_all()
        return True

    def _write(self, descriptor: int, data: bytes, position: int, state: _State) -> int:
        try:
            return os.pwrite(descriptor, data, position)
        except OSError as error:
            raise disk_error(error, state.target.parent) from error

    def _placed(self, response: BaseHTTPResponse, piece: _Piece) -> bool:
        """Whether the answer is what was asked for; takes over the whole file when ranges are ignored."""
        state, size = piece.state, piece.state.file.size
        if response.status == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != piece.position:
                raise ArtifactError(
                    Reason.PULL_FAILED, f"{self._endpoint} answers another range than the one asked for"
                )
            if match[3] not in ("*", str(size)):
                raise self._size_error(state.file, match[3])
            return True
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) != size:
            raise self._size_error(state.file, length)
        if (piece.position, piece.end) == (0, size):
            return True
        with state.lock:
            if state.streaming_whole and not piece.whole:
                return False
            state.streaming_whole = piece.whole = True
        piece.position, piece.end = 0, size
        return True

    def _size_error(self, file: File, found: str) -> ArtifactError:
        return ArtifactError(
            Reason.SIZE_MISMATCH,
            f"file {file.key!r} at {self._endpoint}: expected {file.size} bytes, found {found}: the content"
            " changed, publish it as a new version",
        )

    def _hash_all(self) -> None:
        """Follows the front of each file in turn, reading back what was just written, from memory as a
        rule.
        """
        buffer = bytearray(4 * _BLOCK)
        view = memoryview(buffer)
        for state in self._states:
            digest, position = hashlib.sha256(), 0
            while position < state.file.size:
                with self._changed:
                    while (front := state.ledger.prefix) <= position and not self._halt.is_set():
                        if self._running == 1:  # only this thread is left, and nobody brings the rest
                            raise ArtifactError(
                                Reason.PULL_FAILED,
                                f"file {state.file.path!r} ended at {front} of {state.file.size}",
                            )
                        self._changed.wait(1.0)
                if self._halt.is_set():
                    return
                while position < front:
                    count = os.preadv(
                        state.descriptor, [view[: min(len(buffer), front - position)]], position
                    )
                    if count <= 0:
                        raise OSError(f"{state.target} became shorter")
                    digest.update(view[:count])
                    position += count
            state.sha256 = digest.hexdigest()
