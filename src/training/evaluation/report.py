"""The evaluation as a text a person can read: Markdown, and HTML with the pictures inside."""

import html
from collections.abc import Iterable
from typing import Any

from src.reports.markdown import markdown_to_html, percent_span, plain, span, table
from src.reports.page import page, pictures, tiles
from src.training.evaluation.unseen.attacks import BENEFICIARY
from src.training.evaluation.unseen.cross_fit import ATTACK_SCORE
from src.training.evaluation.unseen.report import unseen_sections

Figures = dict[str, Any]

TITLES = {
    "scores.png": "Scores of background and exploits",
    "recall.png": "Exploits flagged against background flagged",
    "strata.png": "AUC by number of transfers, with intervals by row",
    "budget.png": "What each threshold flags",
    "ablations.png": "AUC without feature groups and over splits of the data",
}


def sections(figures: Figures) -> list[tuple[str, list[str]]]:
    """The report's sections: title and Markdown paragraphs (a table is one paragraph)."""
    data = figures["data"]
    background = data["background"]
    return [
        *unseen_sections(figures),
        (
            "What was compared",
            [
                "From here on: the isolation forest alone, on the exploits that its features were "
                "formed on.",
                f"{background['transactions']:,} ordinary transactions with ERC-20 transfers of "
                f"{background['blocks']} whole blocks ({background['first_date']} to "
                f"{background['last_date']}) against {data['exploits']} known exploits, which are "
                f"{data['exploit_clusters']} different transfer graphs "
                f"({_counts(data['exploit_derivations'])}-derived transfers). Background scores "
                "are cross-fitted by whole blocks; no exploit was ever fitted on.",
                "Intervals are 95% bootstrap intervals. Background is always resampled by block; "
                "exploits by row, and by cluster of equal transfer graphs, since runs of one "
                "attack are not independent.",
            ],
        ),
        ("Discrimination", [_auc_table(figures), _paired_text(figures)]),
        ("Recall at a share of the background flagged", [_recall_table(figures)]),
        (
            f"At the threshold {figures['threshold']:g}",
            [_stratum_table(figures), _single_text(figures)],
        ),
        ("What other thresholds give", [_operating_table(figures)]),
        ("Benign hard cases", [_hard_cases_table(figures), _hard_cases_text(figures)]),
        ("Like with like, another chain, real logs", [_other_table(figures)]),
        (
            "Artefacts: does the result rest on where the rows come from?",
            [_ablation_table(figures), _seeds_text(figures)],
        ),
        ("Each feature alone", [_feature_table(figures)]),
        ("What it cannot see", ["\n".join(f"- {line}" for line in limits(figures))]),
    ]


def limits(figures: Figures) -> list[str]:
    """What the model cannot see and what the evaluation cannot show, plainly."""
    data = figures["data"]
    single = figures["by_stratum_at_threshold"]["1"]
    few = figures["by_stratum_at_threshold"]["2-4"]
    return [
        f"Single-transfer thefts: {single['exploits_flagged']} of {single['exploits']} are flagged "
        f"(of those with two to four transfers {few['exploits_flagged']} of {few['exploits']}). "
        "They rank high, but one transfer of somebody else's tokens looks the same whether it was "
        "stolen or withdrawn; only a known token in an extraordinary amount can lift one.",
        "Flash-loan arbitrage: it has the transfer graph of a flash-loan attack. The attack score "
        "knows what some 35 reference tokens a chain are worth, not what others are: about half of "
        "its alarms on ordinary traffic are arbitrage or liquidity management.",
        "Address poisoning, phishing of approvals and small sums: a zero-value or tiny transfer is "
        "ordinary by its structure.",
        "Thefts of ether and of ERC-721 tokens: no ERC-20 transfer, no score.",
        "Evasion: relays, one account for each dealing and events of tokens without a reputation "
        "are undone, an attack split over transactions or run on own capital is not. What still "
        "helps an attacker: ageing a token until it has a reputation; accounts that were funded "
        "before with at least 1% of the largest flow, so that they spend money of their own; "
        "moving ether instead of WETH between own accounts, which shows in no Transfer event.",
        f"{data['exploits']} exploits, {data['exploit_clusters']} different ones: no figure of a "
        "stratum is tight, and the ideas for features were formed with some of them in sight.",
        "Most exploit transfers are rebuilt from calls, without mints, burns and fee transfers. "
        "The structural features leave mints and burns out for that reason; what a real log adds "
        "to an attack that mints is not measured.",
        "Background blocks were chosen by others for their own tests; half of the transactions "
        "are of one source. Alert rates in production may differ by a factor of two.",
        "Other chains: the data holds no ordinary transactions of theirs. Their attacks are ranked "
        "among mainnet's, without an amount profile of the chain's own tokens (`npm run collect` "
        "and `npm run train` make one from a node); what a profile would change is not measured.",
    ]


def to_markdown(figures: Figures, pictures: Iterable[str], title: str) -> str:
    """The whole report as Markdown; pictures are files beside it."""
    parts = [f"# {title}"]
    for heading, paragraphs in sections(figures):
        parts += [f"## {heading}", *filter(None, paragraphs)]
    parts.append("## Pictures")
    parts += [f"![{TITLES[name]}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def to_html(figures: Figures, plots: dict[str, bytes], title: str) -> str:
    """The whole report as one HTML file that needs no other."""
    body = [
        tiles(_summary(figures)),
        pictures((TITLES[name], plot) for name, plot in plots.items()),
    ]
    for heading, paragraphs in sections(figures):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        body += [markdown_to_html(paragraph) for paragraph in paragraphs if paragraph]
    return page(title, "\n".join(body))


def _summary(figures: Figures) -> list[tuple[str, str]]:
    """What matters most: first what was unseen, then the forest at its threshold."""
    tiles = [
        (
            f"{row['recall_0.4%']['rows']:.0%}",
            f"of {one['attacks']} unseen attacks found at 0.4% of the background, {name}",
        )
        for name, one in figures["unseen"]["sets"].items()
        for row in [one["detectors"].get(ATTACK_SCORE)]
        if row is not None and BENEFICIARY not in name
    ]
    at = figures["by_stratum_at_threshold"]["all"]
    return [
        *tiles,
        (
            f"{at['exploits_flagged']} of {at['exploits']}",
            "older exploits flagged by the forest at its threshold",
        ),
        (
            f"{at['background_flagged']:,} of {at['background']:,}",
            "ordinary transactions flagged by it",
        ),
    ]


def _auc_table(figures: Figures) -> str:
    rows = [
        [
            name,
            stratum,
            f"{row['background']:,} / {row['exploits']}",
            f"**{row['auc']:.3f}**",
            span(row["by_row"]),
            span(row["by_cluster"]),
        ]
        for name, detector in figures["detectors"].items()
        for stratum, row in detector["auc"].items()
    ]
    header = ["detector", "transfers", "background / exploits", "AUC", "by row", "by cluster"]
    return table(header, rows)


def _paired_text(figures: Figures) -> str:
    lines = [
        f"against {name}: " + ", ".join(f"{stratum} {low:+.3f} to {high:+.3f}" for
        stratum, (low, high) in strata.items())
        for name, strata in figures["paired_differences"].items()
    ]  # fmt: skip
    return "AUC gained, on the same resamples by cluster: " + "; ".join(lines) + "."


def _recall_table(figures: Figures) -> str:
    rows = [
        [
            name,
            rate,
            f"{row['threshold']:.3f}",
            f"**{row['recall']:.1%}**",
            percent_span(row["by_row"]),
            percent_span(row["by_cluster"]),
        ]
        for name, detector in figures["detectors"].items()
        for rate, row in detector["recall"].items()
    ]
    precision = "; ".join(
        f"{name} {detector['average_precision']['value']:.3f} "
        f"({span(detector['average_precision']['by_cluster'])} by cluster)"
        for name, detector in figures["detectors"].items()
    )
    header = ["detector", "background flagged", "threshold", "recall", "by row", "by cluster"]
    return table(header, rows) + f"\n\nAverage precision at this mix: {precision}."


def _stratum_table(figures: Figures) -> str:
    rows = [
        [
            name,
            f"{row['background_flagged']} of {row['background']:,}",
            f"{row['exploits_flagged']} of {row['exploits']}",
        ]
        for name, row in figures["by_stratum_at_threshold"].items()
    ]
    return table(["transfers", "background flagged", "exploits flagged"], rows)


def _single_text(figures: Figures) -> str:
    single = figures["by_stratum_at_threshold"]["1"]
    return (
        f"Single transfers, plainly: {single['exploits_flagged']} of {single['exploits']} exploits "
        "with one transfer are flagged. A good AUC there only says that they rank above most "
        "single transfers."
    )


def _operating_table(figures: Figures) -> str:
    shown = {0.5, 0.55, 0.6, 0.65, 0.67, 0.7, 0.75, figures["threshold"]}
    rows = [
        [
            f"{point['threshold']:g}",
            f"{point['background']:.2%}",
            percent_span(point["background_by_block"], 2),
            f"{point['recall']:.0%}",
            percent_span(point["by_cluster"]),
            f"{point['recall_of_clusters']:.0%}",
        ]
        for point in figures["operating_points"]
        if point["threshold"] in shown
    ]
    header = [
        "threshold",
        "background",
        "by block",
        "exploits",
        "by cluster",
        "each cluster as one",
    ]
    return table(header, rows)


def _hard_cases_table(figures: Figures) -> str:
    rows = [
        [
            plain(case["name"]),
            f"{case['flagged']} of {case['transactions']:,}",
            f"{case['flagged'] / case['transactions']:.1%}",
            percent_span(case["interval"], 1),
            f"{case['highest']:.2f}",
        ]
        for case in figures["hard_cases"]
    ]
    return table(["group", "flagged", "share", "95%", "highest score"], rows) if rows else ""


def _hard_cases_text(figures: Figures) -> str:
    counted = [case for case in figures["hard_cases"] if case["counted"]]
    if not counted:
        return ""
    flagged = sum(case["flagged"] for case in counted)
    total = sum(case["transactions"] for case in counted)
    return (
        f"Benign hard cases together: {flagged} of {total:,} ({flagged / total:.1%}). The other "
        "groups are no part of that sum: what they hold is not known to be benign."
    )


def _other_table(figures: Figures) -> str:
    rows = [
        [
            name,
            str(row["exploits"]),
            f"{row['auc']:.3f}",
            span(row["by_cluster"]) if "by_cluster" in row else "",
            ", ".join(map(str, row.get("scores", []))),
        ]
        for name, row in figures["other_sets"].items()
    ]
    return table(["set", "attacks", "AUC", "by cluster", "scores"], rows) if rows else ""


def _ablation_table(figures: Figures) -> str:
    rows = [
        [
            plain(row["name"]),
            f"{row['background']:,} / {row['exploits']}",
            f"{row['auc']:.3f}",
            "" if row["auc_5_or_more"] is None else f"{row['auc_5_or_more']:.3f}",
            "" if row["recall"] is None else f"{row['recall']:.0%}",
        ]
        for row in figures["ablations"]
    ]
    header = ["variant", "background / exploits", "AUC", "AUC 5+", "recall at 0.4%"]
    return table(header, rows)


def _seeds_text(figures: Figures) -> str:
    values = figures["seeds"]
    return (
        f"Other random seeds: AUC {min(v['auc'] for v in values):.3f} to "
        f"{max(v['auc'] for v in values):.3f}, recall at 0.4% "
        f"{min(v['recall'] for v in values):.0%} to {max(v['recall'] for v in values):.0%}."
    )


def _feature_table(figures: Figures) -> str:
    rows = [
        [
            f"`{name}`",
            f"{row['auc']:.3f}",
            f"{row['background_not_zero']:.1%}",
            f"{row['exploits_not_zero']:.1%}",
        ]
        for name, row in figures["single_features"].items()
    ]
    return table(["feature", "AUC alone", "background above 0", "exploits above 0"], rows)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
