"""`python -P -m artifacts pull`: what the init container of a serving pod runs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from artifacts._config import load_config
from artifacts._download import DownloadOptions, Stop, Stopped
from artifacts._errors import ArtifactError, Reason
from artifacts._progress import Progress, ProgressServer
from artifacts._pull import Pulled, PullOptions, pull

_TERMINATION_LIMIT = 4096  # bytes; the kubelet cuts off the rest


def main(argv: Sequence[str] | None = None) -> int:
    """Pulls; returns 0, 1 on failure, 143 when told to stop. The result goes to the termination log and
    stdout.
    """
    arguments = _parser().parse_args(argv)
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    started = time.monotonic()
    server: ProgressServer | None = None
    result: dict[str, object]
    try:
        desired = load_config(Path(arguments.config))
        progress = Progress(desired.revision)
        if arguments.progress_port >= 0:
            try:
                server = ProgressServer(progress, arguments.progress_port)
            except OSError as error:  # nobody sees the progress, but the model can still come
                _log("warning", "progress is not served", port=arguments.progress_port, error=str(error))
        options = PullOptions(
            download=DownloadOptions(
                parallel=arguments.parallel,
                stall_timeout=arguments.stall_timeout,
                attempts=arguments.attempts,
            )
        )
        done = pull(desired, Path(arguments.dest), progress=progress, stop=stop, options=options)
        result = _result("ok", "", "", done)
        code = 0
    except ArtifactError as error:
        result, code = _result("failed", error.reason.value, error.message, ()), 1
    except Stopped:
        result, code = (
            _result("failed", Reason.PULL_FAILED.value, "stopped by a signal before it was done", ()),
            143,
        )
    except Exception as error:  # a bug must still say something in the pod's status
        text = f"internal error: {type(error).__name__}: {error}"
        result, code = _result("failed", Reason.PULL_FAILED.value, " ".join(text.split()), ()), 1
    if server is not None:
        server.close()
    _terminate(Path(arguments.termination_log), result)
    _log("info" if code == 0 else "error", "pull", **result, seconds=round(time.monotonic() - started, 3))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m artifacts", description="Model files for a serving pod.")
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("pull", help="download and verify the models of models.yaml")
    p.add_argument("--config", required=True, help="path of models.yaml")
    p.add_argument("--dest", required=True, help="folder for models: <dest>/<uid>/<digest12>")
    p.add_argument("--progress-port", type=int, default=-1, help="serve GET /progress here (default: do not)")
    p.add_argument("--termination-log", default="/dev/termination-log", help="where the result is written")
    p.add_argument("--parallel", type=int, default=4, help="connections at once (default 4)")
    p.add_argument("--stall-timeout", type=float, default=30.0, help="seconds without a byte (default 30)")
    p.add_argument("--attempts", type=int, default=8, help="tries of a range without a new byte (default 8)")
    return parser


def _result(result: str, reason: str, message: str, models: Sequence[Pulled]) -> dict[str, object]:
    listed = [
        {"name": m.name, "digest": m.digest, "contentDigest": m.content_digest, "size": m.size}
        for m in models
    ]
    return {"result": result, "reason": reason, "message": message, "models": listed}


def _terminate(path: Path, result: dict[str, object]) -> None:
    """Writes the termination message. It never makes a pull fail: outside of a pod the file is not there."""
    text = json.dumps(result)
    if len(text.encode()) > _TERMINATION_LIMIT:
        message = str(result["message"])
        text = json.dumps({**result, "models": [], "message": message[:600]})
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        pass


def _log(level: str, event: str, **fields: object) -> None:
    """One JSON line as the runtime's structlog writes it, without the time that importing structlog takes."""
    line = {**fields, "event": event, "level": level, "logger": "artifacts"}
    line["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
