"""What every detector of the policy finds and what it costs: `npm run evaluate:rules`."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from src.datasets.location import EXPLOIT_TRANSFERS_FILE, EXPLOITS_FILE
from src.decision.policy_file import load_policy
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence
from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.detection.policy import Mode, Policy
from src.detection.records import Action, Status
from src.detection.suite import DetectorSuite
from src.files import write_file
from src.reports.intervals import share_interval
from src.reports.markdown import table
from src.settings import load_settings
from src.training.attack.data import REPLAY_TRANSFERS_FILE, REPLAYS_FILE
from src.training.evaluation import names, rule_cases
from src.training.evaluation.unseen.measure import UnseenData

MAX_FALSE_ALARMS = 0.005
"""Share of the background that a detector may flag and still be on by default."""


def run(options: argparse.Namespace) -> int:
    """Carry the command out with its parsed arguments; returns its exit code."""
    rule_cases.need_dataset(options.data)
    settings = load_settings()
    policy = load_policy(options.policy or settings.policy_path, settings.model_public_key)
    model = load_model(settings.model_path, FEATURE_NAMES, public_key=settings.model_public_key)
    threshold = settings.anomaly_threshold
    if threshold is None:
        threshold = model.manifest.anomaly_threshold
    facts = rule_cases.Facts(model, options.data)
    equipment = Equipment(threshold, model.manifest.token_amounts)
    data = UnseenData.of(options)
    sets = collect(options.data, facts, data)
    report = evaluate_rules(policy, equipment, sets)
    suites = {name: _suite(policy, [name], equipment) for name in names.NAMING}
    report["named"] = names.named(suites, options.data, data, facts, sets)
    report["model_version"] = model.version
    write_file(options.out / "rules.json", (json.dumps(report, indent=1) + "\n").encode())
    write_file(options.out / "rules.md", to_markdown(report).encode())
    sys.stdout.write(f"{to_markdown(report)}\nWritten to {options.out}/rules.md and rules.json.\n")
    return 0


def evaluate_rules(policy: Policy, equipment: Equipment, sets: dict[str, list[Evidence]]) -> Any:
    """Counts of actions for each detector alone, and for the detectors so far together.

    Detectors are taken in the policy's order, those that are off left out; a shadow detector is
    measured alone and stays out of the sums.
    """
    steps = []
    so_far: list[str] = []
    entries = policy.for_chain(1)
    before = {name: _counts(_suite(policy, [], equipment), cases) for name, cases in sets.items()}
    for detector, entry in entries.items():
        if entry.mode is Mode.OFF:
            continue
        alone = _suite(policy, [detector], equipment)
        step: dict[str, Any] = {
            "detector": detector,
            "mode": str(entry.mode),
            "alone": {name: _counts(alone, cases) for name, cases in sets.items()},
            "before": before,
        }
        if entry.mode is Mode.ON:
            so_far.append(detector)
            together = _suite(policy, so_far, equipment)
            before = {name: _counts(together, cases) for name, cases in sets.items()}
        step["after"] = before
        step["within_limit"] = (
            step["alone"]["background"]["flagged"]
            <= MAX_FALSE_ALARMS * step["alone"]["background"]["transactions"]
        )
        steps.append(step)
    return {"steps": steps, "most_false_alarms": MAX_FALSE_ALARMS}


def _suite(policy: Policy, names: Sequence[str], equipment: Equipment) -> DetectorSuite:
    entries = {
        name: type(entry)(Mode.ON, entry.parameters)
        for name, entry in policy.for_chain(1).items()
        if name in names
    }
    return DetectorSuite.from_policy(Policy(entries, {}, policy.scopes), 1, equipment)


def _counts(suite: DetectorSuite, cases: Iterable[Evidence]) -> dict[str, Any]:
    decisions = [suite.decide(evidence) for evidence in cases]
    actions = [decision.action for decision in decisions]
    flagged = sum(action >= Action.REVIEW for action in actions)
    undecided = sum(
        decision.action < Action.REVIEW
        and any(verdict.status is Status.MISSING_INPUTS for verdict in decision.reasons)
        for decision in decisions
    )
    low, high = share_interval(flagged, len(actions)) if actions else (0.0, 0.0)
    return {
        "transactions": len(actions),
        "flagged": flagged,
        "blocked": sum(action is Action.BLOCK for action in actions),
        "undecided": undecided,
        "share": flagged / len(actions) if actions else None,
        "interval": [low, high],
    }


def to_markdown(report: Any) -> str:
    """The report for people."""
    sets = list(report["steps"][0]["alone"]) if report["steps"] else []
    alone = [
        [step["detector"], step["mode"], *(_cell(step["alone"][name]) for name in sets)]
        for step in report["steps"]
    ]
    joined = [
        [
            step["detector"],
            *(f"{_share(step['before'][name])} → {_share(step['after'][name])}" for name in sets),
        ]
        for step in report["steps"]
    ]
    over = [step["detector"] for step in report["steps"] if not step["within_limit"]]
    limit = f"{report['most_false_alarms']:.1%}"
    parts = [
        "# What the policy's detectors find and cost",
        "At least `REVIEW`, in transactions; each detector alone. The background is what ordinary "
        "blocks hold, so it has attacks in it too: a flagged transaction there is a false alarm at "
        "most. Where a detector lacks an input, such as the age of a contract, so many more could "
        "be flagged. Poisoning rows are single transfers, not whole transactions, without their "
        'sender: "alone" is the row as it is, "remembered" the same after one genuine payment of '
        "the victim to the imitated address.",
        table(["Detector", "Mode", *sets], alone),
        "## Before and after each detector",
        "The decision of all detectors that are on, in the policy's order, before and after this "
        "one joins.",
        table(["Detector", *sets], joined),
        f"Over {limit} of the background: {', '.join(over)}."
        if over
        else f"No detector flags more than {limit} of the background.",
        "## Named",
        "The informational detectors ask for nothing: how many transactions each names. A "
        "rewritten exploit counts if any of its transactions is named.",
        names.to_markdown(report["named"]),
    ]
    return "\n\n".join(parts) + "\n"


def _cell(counts: Any) -> str:
    if not counts["transactions"]:
        return "none"
    low, high = counts["interval"]
    blocked = f", {counts['blocked']} blocked" if counts["blocked"] else ""
    undecided = f", {counts['undecided']:,} lack an input" if counts["undecided"] else ""
    return (
        f"{counts['flagged']:,} of {counts['transactions']:,} ({_share(counts)}, "
        f"95%: {low:.2%} to {high:.2%}{blocked}{undecided})"
    )


def _share(counts: Any) -> str:
    return "none" if counts["share"] is None else f"{counts['share']:.2%}"


def collect(folder: Path, facts: rule_cases.Facts, unseen: UnseenData) -> dict[str, list[Evidence]]:
    """The sets that are judged, by name."""
    background = tqdm(
        rule_cases.background(folder, facts), unit="tx", disable=not sys.stderr.isatty()
    )
    sets = {"background": [case.evidence for case in background]}
    if unseen.blocks is not None:
        further = rule_cases.background(unseen.blocks, facts)
        sets["further whole blocks"] = [case.evidence for case in further]
    if unseen.replays is not None:
        tables = (unseen.replays / REPLAYS_FILE, unseen.replays / REPLAY_TRANSFERS_FILE)
        sets["replays"] = [case.evidence for case in rule_cases.attacks(*tables, facts)]
    listed = folder / EXPLOITS_FILE, folder / EXPLOIT_TRANSFERS_FILE
    sets["exploits"] = [case.evidence for case in rule_cases.attacks(*listed, facts)]
    attempts: list[rule_cases.Case] = []
    payoffs: list[rule_cases.Case] = []
    for case in rule_cases.poisoning(folder, facts):
        (payoffs if case.kind == rule_cases.PAYOFF else attempts).append(case)
    for kind in rule_cases.ATTEMPTS:
        name = kind.removeprefix("poisoning_").replace("_", " ")
        of_kind = [case for case in attempts if case.kind == kind]
        sets[f"poisoning: {name}, alone"] = [case.evidence for case in of_kind]
        sets[f"poisoning: {name}, remembered"] = [rule_cases.with_memory(c) for c in of_kind]
    sets["poisoning: payoff, alone"] = [case.evidence for case in payoffs]
    sets["poisoning: payoff, remembered"] = [rule_cases.with_memory(case) for case in payoffs]
    return sets
