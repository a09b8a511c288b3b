"""How often the informational detectors name a transaction: MEV, and exploits by mistake.

They ask for nothing, so that neither hits nor false alarms show what they do. A thief who dresses
as a trader is one of the exploits that are named.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.datasets.location import EXPLOITS_FILE
from src.detection.detectors.arbitrage import ArbitrageDetector
from src.detection.detectors.balanced import BalancedDetector
from src.detection.evidence import Evidence
from src.detection.records import Status
from src.detection.suite import DetectorSuite
from src.reports.markdown import table
from src.training.evaluation import rule_cases
from src.training.evaluation.unseen.measure import UnseenData
from src.training.evaluation.unseen.robustness import TRANSACTIONS, TRANSFERS

NAMING = (ArbitrageDetector.NAME, BalancedDetector.NAME)

_MIN_DEALINGS = 3
"""Between parties: fewer are no circle."""

Cases = Iterable[tuple[str, Evidence]]
"""Of each transaction what counts once, if any of several parts is named, and its evidence."""


def named(
    suites: dict[str, DetectorSuite],
    folder: Path,
    data: UnseenData,
    facts: rule_cases.Facts,
    sets: Mapping[str, Sequence[Evidence]],
) -> list[dict[str, Any]]:
    """By set, how many transactions there are and how many each detector names."""
    bots = rule_cases.read_mev_bots(folder)
    whole = {name: sets[name] for name in ("background", "further whole blocks") if name in sets}
    whole["blocks rebuilt from calls"] = [
        case.evidence for case in rule_cases.background_of_calls(folder, facts)
    ]
    rows = []
    for name, evidence in whole.items():
        rows.append(_counted(suites, name, _apart(evidence)))
        by_bots = [one for one in evidence if _is_mev(one, bots)]
        if by_bots:
            rows.append(_counted(suites, f"{name}: by MEV bots", _apart(by_bots)))
    rows.append(_counted(suites, "exploits", _apart(sets["exploits"])))
    bsc = folder / "exploit_transfers_bsc.csv.gz"
    if bsc.is_file():
        cases = rule_cases.attacks(folder / EXPLOITS_FILE, bsc, facts)
        rows.append(_counted(suites, "exploits on BSC", _by_attack(cases)))
    if "replays" in sets:
        rows.append(_counted(suites, "replays", _apart(sets["replays"])))
    for evasions in data.evasions:
        for path in sorted(evasions.glob(f"*{TRANSACTIONS}")):
            evasion = path.name.removesuffix(TRANSACTIONS)
            cases = rule_cases.attacks(path, evasions / f"{evasion}{TRANSFERS}", facts)
            rows.append(_counted(suites, f"{evasions.name}: {evasion}", _by_attack(cases)))
    return rows


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The figures for people."""
    cells = [
        [row["set"], f"{row['transactions']:,}", *(f"{row[name]:,}" for name in NAMING)]
        for row in rows
    ]
    return table(["Set", "transactions", *NAMING], cells)


def _is_mev(evidence: Evidence, bots: frozenset[str]) -> bool:
    is_bot = evidence.sender in bots or evidence.to in bots
    return is_bot and len(evidence.dealings) >= _MIN_DEALINGS


def _apart(evidence: Sequence[Evidence]) -> Cases:
    return ((str(at), one) for at, one in enumerate(evidence))


def _by_attack(cases: Iterable[rule_cases.Case]) -> Cases:
    return ((case.tx_hash, case.evidence) for case in cases)


def _counted(suites: dict[str, DetectorSuite], name: str, cases: Cases) -> dict[str, Any]:
    seen: set[str] = set()
    found: dict[str, set[str]] = {detector: set() for detector in suites}
    for key, evidence in cases:
        seen.add(key)
        for detector, suite in suites.items():
            verdicts = suite.decide(evidence).reasons
            if any(verdict.status is Status.DECIDED for verdict in verdicts):
                found[detector].add(key)
    counts = {detector: len(keys) for detector, keys in found.items()}
    return {"set": name, "transactions": len(seen), **counts}
