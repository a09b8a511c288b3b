"""The whole handler: from the SDK's event to the finding."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

import src.agent
from benchmarks.kernels import LIME_SAMPLES, TRANSFER_ABI, TRANSFERS, Rival, sample_rows
from benchmarks.report import Line
from benchmarks.sources import Conduct, running_bot, sources
from benchmarks.timing import Timing, interleaved, median, once
from benchmarks.traffic import Traffic
from src.decision.pipeline import Pipeline
from src.decision.second_opinion import OpenedAttackModel, SecondOpinion
from src.detection.assessment import EXPLAINED_INPUTS, Assessor
from src.detection.detectors.supervised import ATTACK_REVIEW_AT
from src.detection.features.definitions import TokenProfile

SIZES = (1, TRANSFERS, 37, 200)
COLD_DELAY_SECONDS = 0.150

# What the project promises.
IDLE_SECONDS = 20e-6
WARM_SECONDS = 0.25e-3
"""Traffic as it is: rows of inputs repeat."""

NEW_ROWS_SECONDS = 0.5e-3
"""A stream of nothing but new rows, which does not occur: its time alone is promised."""

COLD_SECONDS = 0.4
TIMES_FASTER = 200

ROWS_SEEN_FOR_ONE_NEW = 9_076 // 504 - 1
"""Of 9,076 real transactions with transfers 504 have inputs that no earlier one had."""

_ROWS = {
    "seen": "row seen before",
    "mixed": f"1 row new in {ROWS_SEEN_FOR_ONE_NEW + 1}",
    "new": "row new",
}
_EVENTS = 100
_SENDERS = 3
_PAUSE_SECONDS = 1.1  # the explorer's rate limit must not be what is measured


def warm(*, rounds: int, round_seconds: float) -> Iterator[Line]:
    """No external requests, as for known tokens and senders."""
    traffic = Traffic(3)
    senders = [traffic.address() for _ in range(_SENDERS)]
    rewritten = _without_transfers(traffic.event(TRANSFERS))
    nothing = cycle(
        [_without_transfers(event) for event in traffic.events(TRANSFERS, _EVENTS, senders)]
    )
    with sources() as settings, running_bot(settings) as bot:
        times = interleaved(
            {
                "ours": lambda: src.agent.handle_transaction(next(nothing)),
                "filter_log": lambda: rewritten.filter_log(TRANSFER_ABI),
            },
            rounds=rounds, round_seconds=round_seconds,
        )  # fmt: skip
        yield Line(
            "handler", f"no transfers, {TRANSFERS} other logs",
            times["ours"].cpu, times["filter_log"].cpu,
            "forta_agent filter_log", limit=IDLE_SECONDS,
        )  # fmt: skip
        rows = sample_rows(TokenProfile.from_manifest(bot.pipeline.model.manifest))
        rival = Rival(rows)
        each = cycle(rows)
        forgetful = replace(bot, pipeline=_forgetful(bot.pipeline))
        either = cycle([*[bot] * ROWS_SEEN_FOR_ONE_NEW, forgetful])
        limits = {"seen": WARM_SECONDS, "mixed": WARM_SECONDS, "new": NEW_ROWS_SECONDS}
        against = f"scikit-learn + LIME ({LIME_SAMPLES} samples), nothing else"
        for size in SIZES:
            events = cycle(traffic.events(size, _EVENTS, senders))
            for _ in range(_EVENTS):  # ask for every fact and see every row
                src.agent.handle_transaction(next(events))
            times = interleaved(
                {
                    "seen": partial(_handle_next, cycle([bot]), events),
                    "new": partial(_handle_next, cycle([forgetful]), events),
                    "mixed": partial(_handle_next, either, events),
                    "rival": lambda: rival.score_and_explain(next(each)),
                },
                rounds=rounds, round_seconds=round_seconds,
            )  # fmt: skip
            for name, rows_are in _ROWS.items():
                promised = size == TRANSFERS
                yield Line(
                    "handler", f"{size} transfers, {rows_are}", times[name].cpu,
                    times["rival"].cpu, against,
                    limit=limits[name] if promised else None,
                    ratio_limit=TIMES_FASTER if promised and name != "new" else None,
                )  # fmt: skip


def _forgetful(pipeline: Pipeline) -> Pipeline:
    """The pipeline with models that remember no row."""
    model = pipeline.model
    assessor = Assessor(model, attributions=EXPLAINED_INPUTS, remembered=0)
    attack = SecondOpinion(
        OpenedAttackModel(pipeline.attack.model),
        model,
        pipeline.profile,
        explain_from=ATTACK_REVIEW_AT,
        remembered=0,
    )
    return replace(pipeline, assessor=assessor, attack=attack)


def cold(*, rounds: int) -> Iterator[Line]:
    """Five unknown tokens and an unknown sender; node and explorer answer after 150 ms."""
    traffic = Traffic(4)
    together: list[Timing] = []
    one_by_one: list[Timing] = []
    with sources(Conduct(COLD_DELAY_SECONDS)) as settings, running_bot(settings) as bot:
        for _ in range(rounds):
            tokens = tuple(traffic.address() for _ in range(5))
            event = Traffic(5, tokens).event(20, sender=traffic.address())
            time.sleep(_PAUSE_SECONDS)
            together.append(once(partial(src.agent.handle_transaction, event)))
            tokens = tuple(traffic.address() for _ in range(5))
            sender = traffic.address()

            def ask(tokens: tuple[str, ...] = tokens, sender: str = sender) -> None:
                for token in tokens:
                    bot.lookups.token_info(token)
                bot.lookups.first_transaction(sender)

            time.sleep(_PAUSE_SECONDS)
            one_by_one.append(once(ask))
    yield Line(
        "cold", "5 unknown tokens, unknown sender, sources at 150 ms", median(together).wall,
        median(one_by_one).wall, "the same questions one after another", kind="wall",
        limit=COLD_SECONDS,
    )  # fmt: skip


def _without_transfers(event: Any) -> Any:
    for log in event.logs:
        log.topics = ["0x" + "0" * 64, *log.topics[1:]]
    return event


def _handle_next(bots: Iterator[src.agent.Bot], events: Iterator[Any]) -> None:
    src.agent.BOT = next(bots)
    src.agent.handle_transaction(next(events))
