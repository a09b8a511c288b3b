#!/usr/bin/env bash
# Known vulnerabilities in what the locks pin: `npm run audit`. Asks the package registries.
# --strict: a package that could not be looked up counts as a failure, not as clean.
set -uo pipefail
cd "$(dirname "$0")/.."
if [[ $# -gt 0 ]]; then
    echo "audit: takes no arguments" >&2
    exit 2
fi
status=0
for lock in $(grep -l -e --hash= requirements.txt requirements/*.txt); do # the others are overrides
    echo "== $lock"
    pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r "$lock" || status=1
done
echo "== package-lock.json"
npm audit --omit=dev --audit-level=high || status=1
exit $status
