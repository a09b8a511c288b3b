#!/usr/bin/env bash
# Style, types and formatting; `--fix` applies the fixes.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ "${1:-}" == "--fix" ]]; then
    ruff check --fix .
    ruff format .
else
    ruff check .
    ruff format --check .
fi
mypy
