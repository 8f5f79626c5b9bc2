"""`python fuzz_guided.py TARGET SECONDS CORPUS`: atheris looks for bytes that break a target, guided by the
lines that they reach. A program of its own, in an environment with atheris.
"""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    target, seconds, corpus = sys.argv[1:]
    with atheris.instrument_imports(include=["runtime"]):
        targets = importlib.import_module("tests.runtime.fuzzing").TARGETS
    atheris.Setup([target, f"-max_total_time={seconds}", "-max_len=4096", corpus], targets[target][0])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
