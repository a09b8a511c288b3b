#!/usr/bin/env bash
# All tests, or those that the arguments choose (any of pytest's).
set -euo pipefail
cd "$(dirname "$0")/.."
exec python -m pytest -n auto --dist loadfile "$@"
