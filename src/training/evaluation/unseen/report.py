"""The figures of this folder as sections of the report: title, Markdown paragraphs."""

from collections.abc import Iterable
from typing import Any

from src.reports.markdown import percent_span, span, table
from src.training.evaluation.unseen.attacks import BENEFICIARY
from src.training.evaluation.unseen.cross_fit import ATTACK_SCORE, DETECTORS, FOREST, TREES

Figures = dict[str, Any]
Sections = list[tuple[str, list[str]]]


def unseen_sections(figures: Figures) -> Sections:
    """What both models do on attacks that they were not fitted on."""
    unseen = figures["unseen"]
    sets = unseen["sets"]
    return [
        (
            "Unseen attacks",
            [
                "Each attack is scored by models that were fitted without it, without every attack "
                "that has its transfer graph or is of its protocol, and without a fifth of the "
                "background, which they score. *Attack score* is the share of background "
                "transactions that rank lower. *Clusters*: every transfer graph counts as one "
                "attack.",
                _sets_table(sets),
                _added_table(sets),
            ],
        ),
        ("Unseen attacks by number of transfers, at 0.4%", [_parts_table(sets, "by_transfers")]),
        ("Unseen attacks by class, at 0.4%", [_parts_table(sets, "by_class")]),
        (
            "The budget on three backgrounds",
            [_backgrounds_table(unseen["backgrounds"]), _alarms_text(unseen["alarms"])],
        ),
        *_robustness_section(unseen["robustness"]),
    ]


def _sets_table(sets: Figures) -> str:
    rows = [
        [
            f"{name} ({one['attacks']}, {one['clusters']} clusters)",
            detector,
            f"**{row['auc']:.3f}** ({span(row['auc_by_cluster'])})",
            f"{row['auc_of_clusters']:.3f}",
            "" if row["auc_5_or_more"] is None else f"{row['auc_5_or_more']:.3f}",
            _recall(row["recall_0.1%"]),
            _recall(row["recall_0.4%"]),
            f"{row['background_at_60%']:.2%}",
        ]
        for name, one in sets.items()
        for detector, row in one["detectors"].items()
    ]
    header = [
        "attacks",
        "detector",
        "AUC (95% by cluster)",
        "of clusters",
        "5+ transfers",
        "found at 0.1% (of clusters)",
        "found at 0.4% (of clusters)",
        "background at 60% found",
    ]
    return table(header, rows)


def _recall(row: Figures) -> str:
    return f"{row['rows']:.1%} ({row['clusters']:.1%})"


def _added_table(sets: Figures) -> str:
    rows = [
        [
            name,
            _signed(one["added"]["auc"], 1, 3),
            _signed(one["added"]["recall_0.1%"], 100, 0),
            _signed(one["added"]["recall_0.4%"], 100, 0),
        ]
        for name, one in sets.items()
    ]
    header = ["the attack score adds to the forest", "AUC", "% found at 0.1%", "% found at 0.4%"]
    return table(header, rows) + "\n\n95% intervals of the difference on the same resamples."


def _signed(interval: Iterable[float], factor: float, digits: int) -> str:
    low, high = (factor * value for value in interval)
    return f"{low:+.{digits}f} to {high:+.{digits}f}"


def _parts_table(sets: Figures, key: str) -> str:
    rows = [
        [name, part, str(row["attacks"]), *(f"{row[one]}" for one in DETECTORS)]
        for name, one in sets.items()
        if not name.endswith(BENEFICIARY)
        for part, row in one[key].items()
        if row["attacks"]
    ]
    return table(["attacks", "part", "number", *(f"found by {one}" for one in DETECTORS)], rows)


def _backgrounds_table(backgrounds: Figures) -> str:
    rows = []
    for name, one in backgrounds.items():
        for detector in DETECTORS:
            row = one[detector]
            labelled = row["labelled_mev"]
            rows.append(
                [
                    name,
                    detector,
                    f"{row['flagged']} of {one['transactions']:,}",
                    percent_span(row["interval"], 2),
                    f"{row['arbitrage']} of {one['arbitrage']}",
                    "" if labelled is None else f"{labelled[0]} of {labelled[1]}",
                ]
            )
    header = ["background", "detector", "flagged", "95%", "like arbitrage", "labelled MEV"]
    return table(header, rows)


def _alarms_text(alarms: Figures) -> str:
    parts = [
        f"{name}: {row['arbitrage']} of {row['alarms']}"
        for name, row in alarms.items()
        if not name.startswith(TREES)
    ]
    return (
        "Alarms on the first background that look like arbitrage (sender absent, three or more "
        f"transfers, no known router): {'; '.join(parts)}."
    )


def _robustness_section(robustness: Figures) -> Sections:
    if not robustness:
        return []
    paragraphs = [
        "Found at 0.4% of the background, every cluster of attacks as one, after each attack was "
        "rewritten as an attacker could have sent it. The attack score knows the facts of tokens, "
        "where they were given. One that became several transactions is found when any part is."
    ]
    for name, rows in robustness.items():
        paragraphs += [_robustness_table(name, rows), _robustness_text(rows)]
    return [("Attacks rewritten to evade", paragraphs)]


def _robustness_table(name: str, rows: list[Figures]) -> str:
    lines = [
        [
            f"`{row['evasion']}`",
            "" if row["gas"] is None else f"{row['gas']:,}",
            f"{row[FOREST]:.1%}",
            f"{row[ATTACK_SCORE]:.1%}",
        ]
        for row in rows
    ]
    return table([f"evasion of {name}", "gas, median", FOREST, ATTACK_SCORE], lines)


def _robustness_text(rows: list[Figures]) -> str:
    single = [row for row in rows if row["evasion"] != "identity" and "+" not in row["evasion"]]
    combined = [row for row in rows if "+" in row["evasion"]]
    parts = []
    for kind, some in (("single evasions", single), ("combinations", combined)):
        if some:
            mean = sum(row[ATTACK_SCORE] for row in some) / len(some)
            worst = min(some, key=lambda row: row[ATTACK_SCORE])
            parts.append(
                f"{len(some)} {kind}: mean {mean:.1%}, worst {worst[ATTACK_SCORE]:.1%} "
                f"(`{worst['evasion']}`)"
            )
    return "; ".join(parts) + "." if parts else ""
