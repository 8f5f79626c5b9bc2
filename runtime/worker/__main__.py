"""`python -P -m runtime.worker --fd N --arena-fd M --parent PID [--preload paddle|onnx] [--calm]`"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys

from runtime.worker.calm import Calm

_PR_SET_PDEATHSIG = 1


def _tie_to_parent(parent: int) -> None:
    """The kernel kills this process when the front dies, however it dies."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return  # not Linux: EOF on the socket still ends the loop
    if os.getppid() != parent:
        sys.exit(0)  # it died before the call above


def _offer_to_oom_killer() -> None:
    """Best effort: with too little memory a worker goes before the front, which can start another."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("600")
    except OSError:
        pass


def _preload(engine: str | None) -> None:
    """The engine is imported before anybody says what to load: at a start the front starts meanwhile."""
    if engine == "paddle":
        from runtime.worker.paddle_backend import library

        library()
    elif engine == "onnx":
        import onnxruntime  # noqa: F401


def main() -> int:
    parser = argparse.ArgumentParser(prog="runtime.worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--arena-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--preload", choices=["paddle", "onnx"])
    parser.add_argument("--calm", action="store_true", help="others serve while this one gets ready")
    options = parser.parse_args()
    _tie_to_parent(options.parent)
    _offer_to_oom_killer()
    # A terminal sends Ctrl-C to all; the front decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    calm = Calm(options.calm)
    calm.begin()
    calm.aside(lambda: _preload(options.preload))
    from runtime.worker.loop import Loop

    connection = socket.socket(fileno=options.fd)
    with connection:
        try:
            Loop(connection, options.arena_fd, calm).run()
        except (ConnectionError, BrokenPipeError):
            return 0  # the front is gone
    # What was made is given back, and all else is the kernel's: to take the libraries down as well would cost
    # those that serve a tenth of a second.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
