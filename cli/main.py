"""Arguments in, exit code out: 0, 1 with one line on stderr, 2 for wrong arguments, 130 for Ctrl-C."""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence

from controllers.rollout.canary import Verb

from . import live, status
from .cluster import Cluster, Kubectl
from .command import command
from .errors import CliError
from .explain import explain
from .look import look

_COMMANDS = {
    Verb.Promote: "end the present step as passed; --full: no analysis any more, straight to 100 %%",
    Verb.Pause: "hold the weight until resume",
    Verb.Resume: "go on with a paused run, with a new attempt at its step",
    Verb.Abort: "back to the stable revision, and reject the candidate",
    Verb.Retry: "try a rejected revision, or a paused step, again",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="kubectl paddle", description="Looks at canaries and commands them.")
    kinds = top.add_subparsers(dest="kind", required=True, metavar="canary")
    canary = kinds.add_parser("canary", help="the canary of a PaddleModel or PaddleService")
    commands = canary.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("name", metavar="NAME", help="of the PaddleModel or PaddleService")
    common.add_argument("-n", "--namespace", default="", help="default: that of the kubeconfig's context")
    common.add_argument("--kubeconfig", default="", help="default: what kubectl uses")
    common.add_argument("--context", default="", help="default: the kubeconfig's present one")

    show = commands.add_parser(
        "status", parents=[common], help="phase, weights, windows, metrics of both sides"
    )
    show.add_argument(
        "-w", "--watch", action="store_true", help="until the run ends; exit code 1 unless it is promoted"
    )
    commands.add_parser(
        "explain", parents=[common], help="the one thing that the run waits for, with numbers"
    )
    commands.add_parser("history", parents=[common], help="the last runs and how they ended")
    for verb, text in _COMMANDS.items():
        one = commands.add_parser(verb.value, parents=[common], help=text)
        one.add_argument(
            "--timeout", type=float, default=30.0, help="seconds to wait for the operator's answer"
        )
        if verb is Verb.Promote:
            one.add_argument(
                "--full", action="store_true", help="skip all analysis, but neither readiness nor checks"
            )
    return top


def main(arguments: Sequence[str] | None = None, *, cluster: Cluster | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return _run(
            options,
            cluster
            or Kubectl(namespace=options.namespace, kubeconfig=options.kubeconfig, context=options.context),
        )
    except CliError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _run(options: argparse.Namespace, cluster: Cluster) -> int:
    name: str = options.name
    match options.command:
        case "status" if options.watch:
            terminal = sys.stdout.isatty()
            look(cluster, name, time.time)  # a wrong name ends the command; a later failure may pass
            ended = live.watch(lambda: look(cluster, name, time.time), sys.stdout, terminal=terminal)
            return 0 if status.good(ended) else 1
        case "status":
            lines = status.status(look(cluster, name, time.time))
        case "explain":
            lines = [explain(look(cluster, name, time.time))]
        case "history":
            lines = status.history(look(cluster, name, time.time))
        case word:
            verb = Verb.PromoteFull if word == Verb.Promote and options.full else Verb(word)
            token = secrets.token_hex(6)
            answer = command(
                cluster, name, verb, token=token, now=time.time, sleep=time.sleep, timeout=options.timeout
            )
            lines = [answer]
    print("\n".join(lines), flush=True)
    return 0
