"""What is as promised, what is a problem, and how the report says so."""

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.chain.transfers import ZERO_ADDRESS, Transfer
from src.demo.outcome import judge, problems
from src.demo.scenarios import NO_FINDING, Played, Scenario
from src.demo.terminal import Report, draw_score
from src.demo.world import World
from tests.demo.chains import HASH, OTHER_HASH

TOKEN = "0x" + "70" * 20


def scenario(key: str, expected: str | None = None) -> Scenario:
    def never(_world: World) -> dict[str, Any]:
        raise AssertionError("not to be played")

    return Scenario(key, f"Title of {key}", expected, never)


def transfers(count: int) -> list[Transfer]:
    return [Transfer(TOKEN, ZERO_ADDRESS, ZERO_ADDRESS, 1, i) for i in range(count)]


def finding(kind: str, score: str = "0.700", count: int = 1) -> dict[str, Any]:
    reason = {"feature": "log_transfers", "value": 3.5, "weight": 0.5}
    metadata = {
        "anomaly_score": score,
        "anomaly_threshold": "0.5",
        "transfer_counts": str(count),
        "action": "BLOCK",
        "summary": "0xabc gained \x1b[2J 5 USDC.",
        "reasons": json.dumps(
            [
                {"detector": "isolation_forest", "action": "BLOCK", "reason": "It is \x1b[2J odd"},
                {"detector": "known_bad_address", "status": "missing inputs", "reason": "no list"},
            ]
        ),
        "model_explanations": json.dumps(
            [reason, {**reason, "feature": "\x1b[2J", "weight": -0.1}]
        ),
    }
    return {"alertId": f"{kind}-TOKEN-TRANSFERS-TX", "metadata": metadata}


NORMAL = Played(scenario("normal", "NORMAL"), HASH, ZERO_ADDRESS, transfers(1))

THEFT = Played(scenario("theft", "ANOMALOUS"), OTHER_HASH, ZERO_ADDRESS, transfers(1))


def test_a_normal_and_an_anomalous_finding_are_as_promised() -> None:
    outcomes = judge(
        [NORMAL, THEFT], {HASH: [finding("NORMAL")], OTHER_HASH: [finding("ANOMALOUS")]}
    )
    assert [outcome.answer for outcome in outcomes] == ["NORMAL", "ANOMALOUS"]
    assert problems(outcomes) == []


def test_a_theft_that_looks_normal_is_a_problem() -> None:
    outcomes = judge([NORMAL, THEFT], {HASH: [finding("NORMAL")], OTHER_HASH: [finding("NORMAL")]})
    assert problems(outcomes) == [
        '"Title of theft" should be ANOMALOUS, not NORMAL.',
        "No transaction is ANOMALOUS.",
    ]


def test_silence_about_a_transfer_is_a_problem() -> None:
    silent = Played(scenario("any"), "0x" + "ee" * 32, ZERO_ADDRESS, transfers(2))
    found = {HASH: [finding("NORMAL")], OTHER_HASH: [finding("ANOMALOUS")]}
    assert problems(judge([NORMAL, THEFT, silent], found)) == [
        '"Title of any" moves tokens, but the bot emitted no finding.'
    ]


def test_silence_without_a_transfer_is_no_problem() -> None:
    quiet = Played(scenario("ether", NO_FINDING), "0x" + "ee" * 32, ZERO_ADDRESS, [])
    found = {HASH: [finding("NORMAL")], OTHER_HASH: [finding("ANOMALOUS")]}
    assert problems(judge([NORMAL, THEFT, quiet], found)) == []


def test_a_bot_that_misses_transfers_is_a_problem() -> None:
    found = {HASH: [finding("NORMAL", count=0)], OTHER_HASH: [finding("ANOMALOUS")]}
    assert problems(judge([NORMAL, THEFT], found)) == [
        '"Title of normal" has 1 transfers; the bot saw 0.'
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report_on(stream: io.StringIO) -> str:
    outcomes = judge([NORMAL, THEFT], {OTHER_HASH: [finding("ANOMALOUS")]})
    report = Report(stream)
    report.table(outcomes)
    report.reasons(outcomes[1])
    report.verdict(outcomes[1])
    return stream.getvalue()


def test_the_report_names_scores_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    text = report_on(io.StringIO())
    assert re.search(r"Title of theft +0xcdcd…cdcd +1 +BLOCK +ANOMALOUS +0\.700", text)
    assert re.search(r"log_transfers +3\.5 +score x 1\.414", text)
    assert re.search(
        r"gained .* 5 USDC\.\n\n  Action BLOCK, because of\n  - isolation_forest", text
    )
    assert "known_bad_address" not in text


def test_only_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in report_on(io.StringIO())
    assert "\x1b[1;31m" in report_on(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in report_on(Terminal())


@given(st.floats(-1, 2), st.none() | st.floats(-1, 2))
def test_a_bar_is_always_of_one_width(score: float, threshold: float | None) -> None:
    assert len(draw_score(score, threshold, cells=10)) == 12


def test_a_bar_shows_on_which_side_of_the_threshold_a_score_is() -> None:
    assert draw_score(0.25, 0.5, cells=8) == "▕██  ┊   ▏"
    assert draw_score(0.75, 0.5, cells=8) == "▕████╂█  ▏"
