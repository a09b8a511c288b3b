"""Check a policy without running the bot: `npm run policy -- --check policy.yaml`."""

import argparse
import sys

from src import cli
from src.chain.networks import described
from src.chain.well_known import load_well_known_tokens
from src.decision.policy_file import load_policy
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Need
from src.detection.errors import ModelError
from src.detection.forest.manifest import read_manifest
from src.detection.policy import Mode, Policy
from src.settings import DEFAULT_POLICY_PATH, Settings, load_settings, model_public_key

_DESCRIPTION = """\
Check a policy file as the bot does at its start, and show what it configures. Errors name the line.
See docs/policy.md.
"""
_EPILOG = """\
examples:
  npm run policy -- --check policy.yaml --chain base
  npm run policy -- --detectors

exit codes: 0 valid, 1 invalid, 2 wrong usage.
"""


@cli.command("policy")
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    if options.detectors:
        sys.stdout.write(_describe_detectors())
        return 0
    policy = load_policy(options.check, model_public_key())
    settings = load_settings()
    chain_id = settings.chain_id if options.chain is None else options.chain
    sys.stdout.write(f"{options.check} is valid.\n{_describe(policy, chain_id, settings)}")
    return 0


def _describe(policy: Policy, chain_id: int, settings: Settings) -> str:
    lines = [f"On {described(chain_id)}:"]
    unmet, problem = _unmet_needs(chain_id, settings)
    for name, entry in policy.for_chain(chain_id).items():
        lacking = sorted(DETECTORS[name].NEEDS & unmet)
        if lacking and entry.mode is not Mode.OFF:
            lines.append(f"  -      {name}: no effect, {lacking[0]}")
            continue
        values = ", ".join(
            f"{parameter} {'the model’s' if value is None else format(value, 'g')}"
            for parameter, value in entry.parameters.items()
        )
        shown = f" ({values})" if values and entry.mode is not Mode.OFF else ""
        lines.append(f"  {entry.mode:6} {name}{shown}")
    lines += [
        f"  scope  {scope.name}: {len(scope.addresses)} addresses ({scope.match}"
        f"{f', only if {scope.only_if}' if scope.only_if else ''}) without "
        f"{', '.join(sorted(scope.detectors))}"
        for scope in policy.scopes
        if not scope.chains or chain_id in scope.chains
    ]
    return "\n".join([*lines, *problem]) + "\n"


def _unmet_needs(chain_id: int, settings: Settings) -> tuple[set[Need], list[str]]:
    """What the chain and the configured model do not offer, and a line where that is unknown."""
    unmet = set() if len(load_well_known_tokens(chain_id)) else {Need.WELL_KNOWN_SYMBOLS}
    try:
        manifest = read_manifest(settings.model_path, settings.model_public_key)
    except ModelError as error:
        return unmet, [f"  ?      what the model knows of amounts: {error}"]
    if not manifest.token_amounts_on(chain_id):
        unmet.add(Need.USUAL_AMOUNTS)
    if not manifest.reference_values.has_chain(chain_id):
        unmet.add(Need.REFERENCE_VALUES)
    return unmet, []


def _describe_detectors() -> str:
    lines = []
    for name, detector in DETECTORS.items():
        lines.append(f"{name}: {detector.SUMMARY}")
        lines.extend(
            f"  {parameter} ({'model' if p.default is None else format(p.default, 'g')}; "
            f"{p.low:g} to {p.high:g}): {p.meaning}"
            for parameter, p in detector.PARAMETERS.items()
        )
    return "\n".join(lines) + "\n"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("policy", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--check", type=cli.path, metavar="FILE", default=DEFAULT_POLICY_PATH, help="(policy.yaml)")
    add(
        "--chain",
        type=cli.chain,
        metavar="CHAIN",
        help="show the policy for this chain, by its id or name ($FORTA_CHAIN_ID, else 1)",
    )
    add("--detectors", action="store_true", help="list the detectors and their parameters")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
