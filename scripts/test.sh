#!/usr/bin/env bash
# All tests, or those that the arguments choose (any of pytest's).
set -euo pipefail
cd "$(dirname "$0")/.."
# One process more than cores: many tests wait for a server or a command that they started.
: "${PYTEST_XDIST_AUTO_NUM_WORKERS:=$(($(getconf _NPROCESSORS_ONLN) + 1))}"
export PYTEST_XDIST_AUTO_NUM_WORKERS
exec python -m pytest -n auto --dist loadfile "$@"
