"""`python -P -m runtime serve --config models.yaml` or `--model name=path`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import ArtifactError, Batching, load_config
from runtime.addresses import bind, reserve
from runtime.desired import ConfigFile, Fixed, Source, Target
from runtime.errors import Reason
from runtime.ondemand import OnDemand
from runtime.prestart import Prestarted, prestart
from runtime.restarts import RestartOptions
from runtime.scaling import Mode
from runtime.spec import Limits, ModelSpec, from_argument

if TYPE_CHECKING:
    from runtime.telemetry.tracing import Tracing

_CONFIG = "/etc/paddle/models.yaml"
_MIB = 1 << 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runtime", description="The inference server.")
    commands = parser.add_subparsers(dest="command", required=True)
    limits = Limits()
    serve = commands.add_parser(
        "serve", help="serve the models of models.yaml, or of --model", formatter_class=_Defaults
    )
    add = serve.add_argument
    add("--config", type=Path, help=f"models.yaml (default {_CONFIG} unless --model is given)")
    add("--release-file", type=Path, help="file with the word of the models-<word>.yaml to read instead")
    add(
        "--admin-token-file", type=Path, help="file with the token of load and unload; else only loopback may"
    )
    add("--allow-signature-change", action="store_true", help="reload also what clients have to change for")
    add("--models", type=Path, default=Path("/models"), help="where `artifacts pull` put the files")
    add(
        "--model", action="append", default=[], metavar="NAME=PATH", help="serve a folder or file; repeatable"
    )
    add("--on-demand", type=Path, metavar="FOLDER", help="load what requests name of the models in FOLDER")
    add("--on-demand-models", type=int, default=4, help="of FOLDER in memory at once")
    add("--on-demand-memory", type=int, default=0, help="MiB that these may take; 0 = any number")
    add("--engine", default="auto", help="auto, native, onednn or onnxruntime, for --model")
    add("--workers", type=int, default=1, help="processes for each --model")
    add("--worker-mode", choices=list(Mode), default=Mode.FIXED.value, help="more workers when requests wait")
    add("--scale-down-after", type=float, default=limits.scale_down_after, help="seconds with one too many")
    add("--threads", type=int, default=0, help="math threads of a worker, 0 = from the cgroup, for --model")
    add("--max-batch-size", type=int, default=None, help="rows run together, for --model; measured if unset")
    add("--max-delay", type=float, default=0.0, help="milliseconds a batch may wait to fill, for --model")
    add("--http", default="0.0.0.0:8080", help="service address")
    add("--grpc", default="0.0.0.0:9000", help='gRPC address; "" for no gRPC')
    add("--admin", default="0.0.0.0:8081", help="address of /metrics and /progress")
    add("--max-body", type=int, default=limits.body // _MIB, help="MiB of a request body")
    add("--max-queue", type=int, default=limits.queue, help="requests that may wait for a model")
    add("--arena", type=int, default=limits.arena // _MIB, help="MiB shared with each model's workers")
    add(
        "--request-timeout",
        type=float,
        default=limits.request,
        help="seconds, the most a request may ask for",
    )
    add("--grace", type=float, default=limits.grace, help="seconds from SIGTERM to the end")
    add(
        "--drain-quiet",
        type=float,
        default=limits.drain_quiet,
        help="seconds without a request that end draining",
    )
    add("--connection-life", type=float, default=limits.connection_life, help="seconds, +-20 %%")
    add("--header-timeout", type=float, default=limits.header, help="seconds for a connection's first header")
    add(
        "--body-timeout", type=float, default=limits.body_start, help="seconds a body has, and what it brings"
    )
    add(
        "--run-at-least",
        type=float,
        default=limits.run_at_least,
        help="seconds before a run can count as hung",
    )
    add(
        "--crash-budget", type=int, default=5, help="deaths of its workers within 2 minutes that fail a model"
    )
    add("--crash-rest", type=float, default=60.0, help="seconds before a model that failed so is tried again")
    add("--slots", type=int, default=0, help="in use at once over all models; 0 = CPUs of the cgroup")
    add("--slot-memory", type=int, default=0, help="MiB of a worker that take a slot; 0 = a thread takes one")
    add("--no-fast-path", action="store_true", help="answer all requests through aiohttp")
    add(
        "--trace-endpoint",
        default=_environ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        help="OTLP/gRPC collector, http://host:4317; no traces without one",
    )
    add(
        "--trace-ratio",
        type=float,
        default=_environ("OTEL_TRACES_SAMPLER_ARG") or "0.01",
        help="share of requests that are traced when their caller says nothing",
    )
    add("--termination-log", type=Path, default=Path("/dev/termination-log"), help="file for the last word")
    add(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="of the JSON lines"
    )
    looked = commands.add_parser("inspect", help="what a model's files are, and which engines load them")
    looked.add_argument("path", type=Path, metavar="PATH", help="folder or file")
    looked.add_argument("--json", action="store_true", help="for programs")
    load = commands.add_parser(
        "bench", help="let clients ask a server as fast as they can", formatter_class=_Defaults
    )
    load.add_argument("--url", default="http://127.0.0.1:8080", help="of the server")
    load.add_argument("--model", required=True, help="its name there")
    load.add_argument("--concurrency", type=int, default=8, help="clients")
    load.add_argument("--seconds", type=float, default=10.0, help="that are measured")
    load.add_argument("--warm-up", type=float, default=1.0, help="seconds before that")
    load.add_argument("--rows", type=int, default=1, help="of every request")
    load.add_argument("--length", type=int, default=1, help="of every other open dimension")
    load.add_argument("--json", action="store_true", help="for programs")
    return parser


def _tool(options: argparse.Namespace) -> int:
    if options.command == "inspect":
        from runtime import inspect

        return inspect.main(options.path, as_json=options.json)
    from runtime import bench

    if min(options.concurrency, options.seconds, options.rows, options.length) <= 0 or options.warm_up < 0:
        print("runtime: numbers must be above 0", file=sys.stderr)
        return 2
    return bench.main(
        bench.Options(
            url=options.url,
            model=options.model,
            concurrency=options.concurrency,
            seconds=options.seconds,
            warm_up=options.warm_up,
            rows=options.rows,
            length=options.length,
        ),
        as_json=options.json,
    )


def _environ(*names: str) -> str:
    """The first of these variables that says something."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.command != "serve":
        return _tool(options)
    try:
        limits = _limits(options)
        if os.environ.get("PADDLE_FAULTS"):
            from runtime.faults import allowed

            allowed(os.environ)
        labels, source, targets = _desired(options)
        token = options.admin_token_file.read_text().strip() if options.admin_token_file else ""
        sockets = bind(options.http), bind(options.admin)
        grpc = reserve(options.grpc) if options.grpc else None
    except (ArtifactError, OSError, ValueError) as error:
        return _refuse(str(error), options.termination_log)
    # Before anything heavy is imported: the workers load their libraries on another core meanwhile.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # until there is somebody to hear it; workers never do
    total = sum(target.spec.workers for target in targets)
    started = [(target, prestart(target.spec, limits, total_workers=total)) for target in targets]
    try:
        return _serve(options, labels, source, started, limits, sockets, grpc, token)
    finally:
        for _, one in started:
            one.close()


def _serve(
    options: argparse.Namespace,
    labels: dict[str, str],
    source: Source,
    started: Sequence[tuple[Target, Prestarted]],
    limits: Limits,
    sockets: tuple[socket.socket, socket.socket],
    grpc: socket.socket | None,
    token: str,
) -> int:
    import uvloop

    from runtime.logs import configure
    from runtime.reload import Reloader
    from runtime.serve import Service, stop_on_signals

    log = configure(options.log_level)
    http, admin = sockets

    async def run() -> None:
        service = Service(
            Reloader(
                source,
                started,
                limits,
                log,
                pulled_to=options.models,
                any_signature=options.allow_signature_change,
            ),
            limits,
            log,
            labels=labels,
            http=http,
            admin=admin,
            termination_log=options.termination_log,
            grpc=grpc,
            tracing=_tracing(options, labels),
            fast_path=not options.no_fast_path,
            token=token,
            on_demand=source if isinstance(source, OnDemand) else None,
        )
        stop_on_signals(service)
        await service.run()

    uvloop.run(run())
    return 0


def _tracing(options: argparse.Namespace, labels: dict[str, str]) -> Tracing | None:
    if not options.trace_endpoint:
        return None
    from runtime.telemetry.tracing import Tracing

    resource = {
        "service.name": labels["paddle_service"] or "paddle-runtime",
        "service.namespace": labels["paddle_namespace"],
        "service.version": labels["revision"],
        "service.instance.id": os.environ.get("POD_NAME", ""),
    }
    return Tracing(options.trace_endpoint, ratio=options.trace_ratio, resource=resource)


def _desired(options: argparse.Namespace) -> tuple[dict[str, str], Source, Sequence[Target]]:
    """Constant labels, and the models with where they stand. Raises ArtifactError or ValueError."""
    environ = os.environ
    if options.on_demand is not None and options.config is not None:
        raise ValueError("--on-demand and --config exclude each other: models.yaml names all of its models")
    if options.on_demand is not None and not options.on_demand.is_dir():
        raise ValueError(f"--on-demand {options.on_demand} is no folder")
    if (options.model or options.on_demand) and options.config is None:
        labels = {
            "paddle_namespace": environ.get("POD_NAMESPACE", ""),
            "paddle_service": environ.get("PADDLE_SERVICE", ""),
            "revision": environ.get("PADDLE_REVISION", ""),
        }
        batching = None
        if options.max_batch_size is not None:
            batching = Batching(
                max_batch_size=options.max_batch_size, max_delay_milliseconds=options.max_delay
            )

        def make(argument: str) -> ModelSpec:
            return from_argument(
                argument,
                engine=options.engine,
                workers=options.workers,
                threads=options.threads,
                batching=batching,
            )

        fixed = Fixed([make(argument) for argument in options.model])
        if options.on_demand is None:
            return labels, fixed, fixed.read()
        on_demand = OnDemand(
            options.on_demand,
            make,
            fixed=fixed.read(),
            most=options.on_demand_models,
            limit=options.on_demand_memory * _MIB,
            patience=options.request_timeout,
        )
        return labels, on_demand, on_demand.read()
    config = ConfigFile(options.config or Path(_CONFIG), options.models, release=options.release_file)
    desired = load_config(config.path)
    labels = {
        "paddle_namespace": environ.get("POD_NAMESPACE") or desired.namespace,
        "paddle_service": environ.get("PADDLE_SERVICE") or desired.service,
        "revision": environ.get("PADDLE_REVISION") or desired.revision,
    }
    return labels, config, config.read()


def _limits(options: argparse.Namespace) -> Limits:
    for name in (
        "max_body",
        "max_queue",
        "arena",
        "request_timeout",
        "workers",
        "crash_budget",
        "crash_rest",
        "max_batch_size",
        "on_demand_models",
        "scale_down_after",
    ):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be above 0")
    for name in ("slots", "slot_memory", "on_demand_memory"):
        if (value := getattr(options, name)) < 0:
            raise ValueError(f"--{name.replace('_', '-')} {value} must not be below 0")
    if not 0 <= options.trace_ratio <= 1:
        raise ValueError(f"--trace-ratio {options.trace_ratio} must be from 0 to 1")
    if options.max_body * 2 > options.arena:
        raise ValueError(
            f"--arena {options.arena} is too small for --max-body {options.max_body}; give twice as much"
        )
    return Limits(
        body=options.max_body * _MIB,
        queue=options.max_queue,
        arena=options.arena * _MIB,
        request=options.request_timeout,
        grace=options.grace,
        drain_quiet=options.drain_quiet,
        connection_life=options.connection_life,
        header=options.header_timeout,
        body_start=options.body_timeout,
        run_at_least=options.run_at_least,
        slots=options.slots,
        slot_memory=options.slot_memory * _MIB,
        worker_mode=options.worker_mode,
        scale_down_after=options.scale_down_after,
        restarts=RestartOptions(budget=options.crash_budget, rest=options.crash_rest),
    )


def _refuse(message: str, termination_log: Path) -> int:
    """A configuration that cannot be served at all: exit code 2, the reason on stderr and for the kubelet."""
    from runtime.progress import write_termination

    print(f"runtime: {message}", file=sys.stderr, flush=True)
    write_termination(
        {"result": "failed", "reason": Reason.LOAD_FAILED.value, "message": message, "models": []},
        termination_log,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
