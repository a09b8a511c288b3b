#!/usr/bin/env bash
# Remake the locks: the hash-pinned Python ones from the .in files, and package-lock.json.
set -euo pipefail
cd "$(dirname "$0")/.."
common=(--override requirements/overrides.txt --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links)
uv pip compile "${common[@]}" "$@" requirements/runtime.in -o requirements.txt
# Its overrides take the place of the common ones: another web3.
uv pip compile --override requirements/overrides-v2.txt "${common[@]:2}" "$@" requirements/v2.in -o requirements/v2.txt
uv pip compile "${common[@]}" "$@" -c requirements.txt requirements/service.in -o requirements/service.txt
uv pip compile "${common[@]}" "$@" -c requirements/service.txt requirements/dev.in -o requirements/dev.txt
uv pip compile "${common[@]}" "$@" -c requirements/dev.txt requirements/fuzz.in -o requirements/fuzz.txt
uv pip compile "${common[@]}" "$@" -c requirements/dev.txt requirements/spark.in -o requirements/spark.txt
rm -f package-lock.json
npm install --package-lock-only --ignore-scripts
node scripts/complete_npm_lock.mjs
