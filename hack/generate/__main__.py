"""``python -m hack.generate``: write every generated file; ``--check``: only say which are not current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from controllers.rules import all_rules
from hack.generate.compose import ComposeError
from hack.generate.outputs import differences, outputs, write

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when every file is current (or was written), 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m hack.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not current")
    options = parser.parse_args(arguments)
    try:
        wanted = outputs(ROOT, all_rules())
    except ComposeError as error:
        print(f"config/crd/src: {error}", file=sys.stderr)
        return 1
    if options.check:
        found = list(differences(ROOT, wanted))
        for difference in found:
            print(difference, file=sys.stderr)
        return 1 if found else 0
    changed = write(ROOT, wanted)
    for path in changed:
        print(f"wrote {path}" if path in wanted else f"removed {path}")
    print(f"{len(wanted)} generated files are current, {len(changed)} changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
