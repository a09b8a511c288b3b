#!/usr/bin/env bash
# All tests with coverage, or those that the arguments choose (any of pytest's) without: what a few
# tests cover says nothing about the whole.
set -euo pipefail
cd "$(dirname "$0")/.."
if (($# == 0)); then set -- --cov; fi
exec python -m pytest -n auto --dist loadfile "$@"
