#!/usr/bin/env bash
# All tests, or those that the arguments choose (any of pytest's).
set -euo pipefail
cd "$(dirname "$0")/.."
# Two processes more than cores: many tests wait for a server or a command that they started.
: "${PYTEST_XDIST_AUTO_NUM_WORKERS:=$(($(getconf _NPROCESSORS_ONLN) + 2))}"
export PYTEST_XDIST_AUTO_NUM_WORKERS
# The tests start some hundred Pythons. Images for containers often set this; each start would compile
# all that it imports, which takes three times as long as the start itself.
unset PYTHONDONTWRITEBYTECODE
# Not by the number of a file's tests: the few longest would come last, and the cores idle meanwhile.
exec python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
