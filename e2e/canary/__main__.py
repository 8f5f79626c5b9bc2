"""Runs every canary scenario and fault run and leaves the report: what `make e2e-canary` does.

    python -m e2e.canary [pytest arguments]

Scenarios that share nothing but the operator run side by side (SIDE_BY_SIDE, 3), then those alone in which
what all share dies. Exits with 1 if one misses.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.canary import report

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "e2e/canary"
ALONE = f"{FOLDER}/test_faults.py"
#: The operator is there before the first process looks, so that none of them takes it away.
BEFORE = (("hack.cluster", "up"), ("hack.images", "all"), ("hack.deploy", "up"))


def main(arguments: Sequence[str]) -> int:
    for command in () if os.environ.get("KUBECONFIG") else BEFORE:
        if code := subprocess.run([sys.executable, "-m", *command], cwd=ROOT).returncode:
            return code
    for path in report.FOLDER.glob("*"):
        path.unlink()
    pytest = (sys.executable, "-m", "pytest", "-m", "slow or not slow", "-q", *arguments)
    together = ("-n", os.environ.get("SIDE_BY_SIDE", "3"), FOLDER, f"--ignore={ALONE}")
    environ = {"SETTLE_TIME": "15", **os.environ}
    codes = [
        subprocess.run([*pytest, *part], cwd=ROOT, env=environ).returncode for part in (together, (ALONE,))
    ]
    found = report.results()
    print(f"\nall of {len(found)} canaries:", *report.lines(found), sep="\n", flush=True)
    return int(any(codes) or any(result.problem for result in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
