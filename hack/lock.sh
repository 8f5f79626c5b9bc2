#!/usr/bin/env bash
# Compiles each dependency group of pyproject.toml into requirements/<group>.txt: exact versions with
# hashes, no index address. dev first, so that every image has the versions the tests ran with.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  local group=$1; shift
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --group "$group" --generate-hashes \
    --no-emit-index-url --no-header --no-annotate "$@" -o "requirements/$group.txt"
}
.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate - -o requirements/uv.txt <<<"uv"
compile dev
for group in operator runtime paddle; do compile "$group" -c requirements/dev.txt; done
compile tools
compile conformance
for peer in mosec kserve litserve bentoml; do compile "peer-$peer"; done
compile fuzz
compile envoy
