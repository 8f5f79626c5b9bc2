"""`python -m runtime inspect PATH`: what a model's files are, and which engines load them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from runtime import cpu
from runtime.arena import Arena
from runtime.frames import MAX_FRAME, Frame, Op, Tensor, pack, unpack
from runtime.process import spawn
from runtime.signature import Wire
from runtime.spec import ModelSpec, from_argument

_ARENA = 64 << 20
_ENGINES = {"paddle": ("native", "onednn"), "onnx": ("onnxruntime",)}


def inspect(path: Path, *, seconds: float = 120.0) -> Wire:
    """Tries each engine in a worker process of its own, at most `seconds` each, so that one that crashes is
    only one that does not load. Raises ValueError when nothing is there.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    spec = from_argument(f"model={path.resolve()}")
    engines: dict[str, Wire] = {}
    found: Wire = {}
    for engine in _ENGINES[spec.framework]:
        said = _tried(replace(spec, engine=engine), seconds)
        error = said.get("error") or _fell_back(engine, said)
        if error:
            engines[engine] = {"loads": False, "reason": error}
            continue
        found = found or said
        engines[engine] = {
            "loads": True,
            "milliseconds": round(float(str(said["medianSeconds"])) * 1000, 3),
            "loadSeconds": round(float(str(said["loadSeconds"])), 3),
            "threads": said["threads"],
        }
    signature = found.get("signature")
    return {
        "path": str(path),
        "framework": spec.framework,
        "format": found.get("format", ""),
        "bytes": sum(file.stat().st_size for file in _files(path)),
        "inputs": signature["inputs"] if isinstance(signature, dict) else [],
        "outputs": signature["outputs"] if isinstance(signature, dict) else [],
        "engines": engines,
        "batching": found.get("batching", {}),
        "note": found.get("note", ""),
    }


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _fell_back(engine: str, said: Wire) -> str:
    dropped = said.get("dropped")
    if said.get("engine") == engine or not isinstance(dropped, dict):
        return ""
    return str(dropped.get(engine, "another engine was taken"))


def _tried(spec: ModelSpec, seconds: float) -> Wire:
    """The report of a worker that loaded it, or {"error": why}."""
    arena = Arena(_ARENA)
    threads = cpu.threads(1)
    preload = "onnx" if spec.framework == "onnx" else "paddle"
    process, connection = spawn(arena.fd, preload=preload, threads=threads)
    try:
        with connection:
            connection.setblocking(True)
            connection.settimeout(seconds)
            order = json.dumps(spec.order(threads, {}, found={})).encode()
            arena.write(0, order)
            connection.send(pack(Frame(Op.LOAD, 1, tensors=(Tensor(14, 0, 0, len(order), (len(order),)),))))
            return _heard(connection, arena)
    except TimeoutError:
        return {"error": f"took longer than {seconds:g} s"}
    except OSError as error:
        return {"error": f"the worker is gone: {error}"}
    finally:
        _ended(process)
        arena.close()


def _heard(connection: socket.socket, arena: Arena) -> Wire:
    while True:
        message = connection.recv(MAX_FRAME + 1)
        if not message:
            return {"error": "the worker crashed"}
        frame = unpack(message, arena.size)
        said: Wire = json.loads(frame.payload)
        if frame.op is Op.READY:
            return said
        if frame.op is Op.ERROR:
            return {"error": f"{said['reason'] or 'LoadFailed'}: {said['message']}"}


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def text(found: Wire) -> str:
    """The same for people."""
    lines = [
        f"path      {found['path']}",
        f"format    {found['framework']} {found['format']}".rstrip(),
        f"size      {int(str(found['bytes'])) / 1e6:.2f} MB",
    ]
    for side in ("inputs", "outputs"):
        tensors = found[side]
        assert isinstance(tensors, list)
        for number, tensor in enumerate(tensors):
            shape = ", ".join(str(length) for length in tensor["shape"])
            head = side if number == 0 else ""
            lines.append(f"{head:<9} {tensor['name']} {tensor['datatype']} [{shape}]")
    engines = found["engines"]
    assert isinstance(engines, dict)
    for number, (name, said) in enumerate(engines.items()):
        head = "engines" if number == 0 else ""
        if said["loads"]:
            result = f"loads in {said['loadSeconds']} s, runs in {said['milliseconds']} ms"
            result += f" ({said['threads']} threads)"
        else:
            result = f"does not load: {said['reason']}"
        lines.append(f"{head:<9} {name}: {result}")
    batching = found["batching"]
    if isinstance(batching, dict) and batching:
        rows, why = batching["maxRows"], batching.get("reason", "")
        lines.append(f"batching  up to {rows} rows" if int(rows) > 1 else f"batching  none: {why}")
    if found["note"]:
        lines.append(f"note      {found['note']}")
    return "\n".join(lines)


def main(path: Path, *, as_json: bool) -> int:
    """0 when an engine loads it, 1 when none does, 2 when there is nothing."""
    try:
        found = inspect(path)
    except ValueError as error:
        print(f"runtime: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=2) if as_json else text(found))
    engines = found["engines"]
    assert isinstance(engines, dict)
    return 0 if any(said["loads"] for said in engines.values()) else 1
