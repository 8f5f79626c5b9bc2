"""Fetching from HTTP servers that behave badly."""

from __future__ import annotations

import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts import (
    PullOptions,
    Reason,
    Stop,
    Stopped,
)
from artifacts._download import DownloadOptions
from tests.artifacts.pulling import QUICK, fails, http_entry, noise, run, tree
from tests.artifacts.servers import CertificateAuthority, FileServer, etag


@pytest.mark.parametrize("ranges", [True, False])
def test_http(files: FileServer, tmp_path: Path, ranges: bool) -> None:
    files.ranges = ranges
    data = noise(750_000)
    model = http_entry(files, {"w": data, "small": b"s"})
    done = run(model, tmp_path)
    assert (done.path / "w").read_bytes() == data
    sent = [headers for _, path, headers in files.requests if path == "/w"]
    assert all(h["If-Match"] == f'"{etag(data)}"' for h in sent)
    assert any("Range" in h for h in sent)


@pytest.mark.parametrize("ranges", [True, False])
def test_http_cut(files: FileServer, tmp_path: Path, ranges: bool) -> None:
    files.ranges = ranges
    files.body_limit = [1000, 50_000, 0]
    data = noise(350_000)
    assert (run(http_entry(files, {"w": data}), tmp_path).path / "w").read_bytes() == data
    assert files.body_limit == []


def test_http_resumes_without_ranges(files: FileServer, tmp_path: Path) -> None:
    """What an earlier attempt left is of no use to a server that sends the whole file only; the result is
    right.
    """
    data = noise(350_000)
    model = http_entry(files, {"w": data})
    files.body_limit = [60_000] * 50
    assert fails(
        model, tmp_path, options=replace(QUICK, download=replace(QUICK.download, attempts=1))
    ).retryable
    files.body_limit, files.ranges = [], False
    assert (run(model, tmp_path).path / "w").read_bytes() == data


def test_http_statuses_that_pass(files: FileServer, tmp_path: Path) -> None:
    model = http_entry(files, {"w": b"1234"})
    files.statuses["/w"] = [503, 429]
    run(model, tmp_path)
    files.statuses["/w"] = [503] * 10
    assert fails(replace(model, uid="u2"), tmp_path).reason is Reason.ENDPOINT_UNREACHABLE
    assert len(files.statuses["/w"]) == 6
    files.statuses["/w"] = [403]
    assert fails(replace(model, uid="u3"), tmp_path).reason is Reason.ACCESS_DENIED


def test_http_other_content(files: FileServer, tmp_path: Path) -> None:
    model = http_entry(files, {"w": noise(250_000)})
    files.files["/w"] = noise(250_000, seed=2)
    assert fails(model, tmp_path).reason is Reason.CONTENT_CHANGED
    files.etags = False
    longer = http_entry(files, {"w": b"1234"})
    files.files["/w"] = b"12345"
    error = fails(longer, tmp_path)
    assert error.reason is Reason.SIZE_MISMATCH
    assert "expected 4 bytes, found 5" in error.message
    in_pieces = http_entry(files, {"w": noise(250_000)})
    files.files["/w"] = noise(250_001)
    assert fails(in_pieces, tmp_path).reason is Reason.SIZE_MISMATCH
    assert tree(tmp_path) == []


def test_weak_etags_are_compared_by_us(files: FileServer, tmp_path: Path) -> None:
    files.weak = True
    model = http_entry(files, {"w": b"1234"})
    weak = replace(model.source.files[0], etag=f'W/"{etag(b"1234")}"')
    model = replace(model, source=replace(model.source, files=(weak,)))
    run(model, tmp_path)
    files.files["/w"] = b"4321"
    assert fails(replace(model, uid="u2"), tmp_path).reason is Reason.CONTENT_CHANGED


def test_stalled(files: FileServer, tmp_path: Path) -> None:
    model = http_entry(files, {"w": b"1234"})
    files.hold = threading.Event()
    impatient = replace(QUICK, download=replace(QUICK.download, stall_timeout=0.1, attempts=2))
    error = fails(model, tmp_path, options=impatient)
    assert error.reason in (Reason.STALLED, Reason.ENDPOINT_UNREACHABLE)
    assert error.reason is Reason.STALLED
    assert "no byte" in error.message
    files.hold.set()
    run(model, tmp_path)


def test_tls(authority: CertificateAuthority, tmp_path: Path) -> None:
    with FileServer(context=authority.server_context()) as files:
        ca = tmp_path / "ca.crt"
        ca.write_text(authority.pem)
        data = noise(350_000)
        model = http_entry(files, {"w": data}, ca_file=str(ca))
        assert (run(model, tmp_path).path / "w").read_bytes() == data
        error = fails(replace(model, uid="u2", ca_file=""), tmp_path)
        assert error.reason is Reason.TLS_ERROR


def stop_when(condition: Callable[[], bool], stop: Stop) -> threading.Thread:
    def watch() -> None:
        ticks = threading.Event()
        while not condition():
            ticks.wait(0.005)
        stop.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("secure", [False, True])
def test_stop_in_the_middle(tmp_path: Path, authority: CertificateAuthority, secure: bool) -> None:
    with FileServer(context=authority.server_context() if secure else None) as files:
        (tmp_path / "ca").write_text(authority.pem)
        data = noise(2_000_000)
        model = http_entry(files, {"w": data}, ca_file=str(tmp_path / "ca") if secure else "")
        files.hold = threading.Event()
        stop = Stop()
        watcher = stop_when(lambda: len(files.requests) >= 2, stop)
        with pytest.raises(Stopped):
            run(
                model,
                tmp_path,
                stop=stop,
                options=replace(QUICK, download=replace(QUICK.download, stall_timeout=60)),
            )
        watcher.join()
        assert not any(n.endswith(".artifact.json") for n in tree(tmp_path))
        files.hold.set()
        assert (run(model, tmp_path).path / "w").read_bytes() == data


def test_no_space(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = http_entry(files, {"w": b"1234"})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 7, 3))
    error = fails(model, tmp_path)
    assert error.reason is Reason.NO_SPACE
    assert files.requests == []
    monkeypatch.undo()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert fails(model, tmp_path).reason is Reason.NO_SPACE
    assert tree(tmp_path) == []


def test_a_bug_ends_the_pull(files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr("artifacts._http.HttpFiles.open", broken)
    error = fails(http_entry(files, {"w": b"1234"}), tmp_path)
    assert (error.reason, error.message) == (Reason.PULL_FAILED, "ZeroDivisionError: bug")


def test_backoff_grows_and_ends() -> None:
    options = DownloadOptions(backoff=0.5, backoff_limit=10.0, random=lambda: 0.5)
    assert [options.delay(n) for n in (1, 2, 3, 10)] == [0.5, 1.0, 2.0, 10.0]
    assert DownloadOptions(random=lambda: 0.0).delay(9) == 5.0


def one_connection(attempts: int = 4) -> PullOptions:
    return replace(QUICK, download=replace(QUICK.download, parallel=1, attempts=attempts))


@pytest.mark.parametrize("ranges", [True, False])
def test_only_failures_without_progress_count(files: FileServer, tmp_path: Path, ranges: bool) -> None:
    files.ranges = ranges
    files.body_limit = [10_000] * (20 if ranges else 3)  # without ranges each attempt starts anew
    data = noise(350_000)
    done = run(http_entry(files, {"w": data}), tmp_path, options=one_connection())
    assert (done.path / "w").read_bytes() == data
    assert files.body_limit == []


def test_what_had_arrived_of_a_piece_is_kept(files: FileServer, tmp_path: Path) -> None:
    data = noise(90_000)
    model = http_entry(files, {"w": data})
    files.body_limit = [60_000]
    assert fails(model, tmp_path, options=one_connection(attempts=1)).retryable
    assert (run(model, tmp_path).path / "w").read_bytes() == data
    assert [h.get("Range") for _, _, h in files.requests] == [None, "bytes=60000-89999"]


def test_another_range_than_the_one_asked_for(files: FileServer, tmp_path: Path) -> None:
    model = http_entry(files, {"w": noise(350_000)})
    files.shift = 10
    assert "another range" in fails(model, tmp_path).message


def test_a_piece_that_nobody_brings(
    files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artifacts._download.Download._fetch", lambda *_: None)
    assert "ended at 0 of 4" in fails(http_entry(files, {"w": b"1234"}), tmp_path).message
