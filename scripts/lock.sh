#!/usr/bin/env bash
# Recompile the hash-pinned locks from the .in files. Needs uv (pip install uv).
set -euo pipefail
cd "$(dirname "$0")/.."
common=(--override overrides.txt --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links)
uv pip compile "${common[@]}" "$@" requirements.in -o requirements.txt
uv pip compile "${common[@]}" "$@" -c requirements.txt requirements-dev.in -o requirements-dev.txt
