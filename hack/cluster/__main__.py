"""The command line of the local cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hack.cluster import binaries, paths
from hack.cluster.console import ClusterError, Console
from hack.cluster.flavour import choose


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("binaries", help="build the programs into the cache folder")
    build.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(binaries.NAMES)}; default: all"
    )
    commands.add_parser("up", help="bring the cluster up, or verify and repair it")
    commands.add_parser("down", help="take the cluster down and leave nothing but the cache")
    commands.add_parser("status", help="say what runs; exit 1 unless all is well")
    load = commands.add_parser("load", help="import a docker-archive into the cluster's container runtime")
    load.add_argument("archive", type=Path)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with one line on stderr otherwise."""
    arguments = _parser().parse_args(argv)
    console = Console()
    try:
        if arguments.command == "binaries":
            binaries.ensure(arguments.names, console=console)
            console.say(f"programs are in {paths.BIN}")
            return 0
        cluster = choose()
        match arguments.command:
            case "up":
                cluster.up(console=console)
            case "down":
                cluster.down(console=console)
            case "load":
                cluster.load_image(arguments.archive, console=console)
            case _:
                return 0 if cluster.status(console=console) else 1
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
