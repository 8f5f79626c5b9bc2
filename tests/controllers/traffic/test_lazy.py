"""An operator that routes nothing pays nothing for it."""

import subprocess
import sys

CODE = """
import sys, controllers.__main__, controllers.traffic.setup
print(sorted({name.partition(".")[0] for name in sys.modules} & {"grpc", "envoy", "cryptography"}))
"""


def test_grpc_and_envoys_types_are_not_imported_before_they_are_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
