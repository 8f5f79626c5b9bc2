#!/usr/bin/env bash
# Creates the development environment: hack/venv.sh <folder>. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate; break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "no Python >= 3.11 found on PATH: install one, or name it with PYTHON=/path/to/python make ..." >&2
  exit 1
fi
started=$(date +%s)
echo "venv: $("$python" --version) -> $venv (about 1 GB, paddlepaddle included; some minutes on a slow network)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --require-hashes -r requirements/uv.txt
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes requirements/uv.txt requirements/dev.txt requirements/tools.txt
# xds-protos carries older copies of opentelemetry-proto's modules; the newer ones serve both.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes --no-deps -r requirements/dev.txt \
  --reinstall-package opentelemetry-proto
echo "venv: ready after $(( $(date +%s) - started )) s"
