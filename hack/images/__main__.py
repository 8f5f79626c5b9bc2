"""Builds the images and loads them into the running cluster: `python -m hack.images [name ...]`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from hack.images import base, inputs, node, specs
from hack.images.build import build_all
from hack.images.buildah import BuildError, Store, ensure_tools


def parser() -> argparse.ArgumentParser:
    short = [image.short for image in specs.images({})]
    known = ["base", *short, "all", "prune"]
    result = argparse.ArgumentParser(prog="python -m hack.images", description=__doc__)
    result.add_argument(
        "names",
        nargs="*",
        type=lambda text: (
            text if text in known else result.error(f"no image {text!r}: one of {', '.join(known)}")
        ),
        metavar="name",
        help=f"base, {', '.join(short)}, all (default), or prune (free what earlier builds left)",
    )
    result.add_argument("--rebuild", action="store_true", help="build anew, whatever is there")
    result.add_argument("--no-load", action="store_true", help="do not load them into the cluster")
    return result


def build_images(wanted: Sequence[str], *, rebuild: bool = False, load: bool = True) -> None:
    """Builds the named images (short names, or `all`) where something changed, and loads them.

    Raises BuildError with one line that says what failed and where its log is.
    """
    images = [image for image in specs.images(os.environ) if "all" in wanted or image.short in wanted]
    if os.environ.get("CLUSTER") == "kind":
        for image in images:
            node.build_with_docker(
                image.dockerfile,
                image.name,
                target=image.target,
                arguments=dict(image.arguments),
                root=inputs.ROOT,
            )
        if load:
            node.load_kind([image.name for image in images])
        return
    ensure_tools()
    store = Store()
    with store.locked():
        if "prune" in wanted:
            store.prune()
        if "base" in wanted:
            print(f"images: base {base.ensure(store, rebuild=rebuild)}")
        built = build_all(store, images, rebuild=rebuild) if images else []
        if load and built and node.running():
            node.load(store, built)
    if built:
        sizes = ", ".join(f"{entry.name} {entry.size / 1e6:.0f} MB" for entry in built)
        where = (
            ""
            if node.running()
            else " (no cluster runs: `make cluster-up`, then they are loaded by the next run)"
        )
        print(f"images: ready: {sizes}{where}")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        build_images(options.names or ["all"], rebuild=options.rebuild, load=not options.no_load)
    except (BuildError, subprocess.SubprocessError, FileNotFoundError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
