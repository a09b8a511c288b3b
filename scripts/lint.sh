#!/usr/bin/env bash
# Style, types and formatting; `--fix` applies the fixes.
set -euo pipefail
cd "$(dirname "$0")/.."
case "$*" in
--fix)
    ruff check --fix .
    ruff format .
    ;;
"")
    ruff check .
    ruff format --check .
    ;;
*)
    echo "lint: the only option is --fix; without it nothing is changed" >&2
    exit 2
    ;;
esac
mypy
