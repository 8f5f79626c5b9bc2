"""`kubectl paddle canary <command> NAME`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # a plugin runs on whatever python3 there is
    sys.exit(f"kubectl paddle needs Python 3.11 or newer, python3 is {sys.version.split()[0]}")

from cli.main import main

if __name__ == "__main__":
    sys.exit(main())
