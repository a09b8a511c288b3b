"""What a backtest says was gained and lost."""

import pytest

from src.backtest.scoring.money import moved_by
from src.chain.recording.format import open_writer
from src.chain.transfers import TRANSFER_TOPIC, Transfer
from src.chain.well_known import load_well_known_tokens
from src.detection.evidence import Evidence, TokenFact
from src.detection.records import Action, Decision
from tests.backtest.runs import rows_of, run
from tests.chain.recording.blocks import WORD, make_log
from tests.chain.recording.blocks import rows_of as block_rows

SENDER, VICTIM = "0x" + "a1" * 20, "0x" + "b2" * 20
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
COUNTERFEIT = "0x" + "c3" * 20
WELL_KNOWN = load_well_known_tokens(1)


def moved(*amounts):
    transfers = [
        Transfer(token, VICTIM, SENDER, amount, at) for at, (token, amount) in enumerate(amounts)
    ]
    facts = {COUNTERFEIT: TokenFact("USDC", impersonates=True)}
    evidence = Evidence(transfers, SENDER, tokens=facts)
    return moved_by(evidence, Decision(Action.ALLOW, (), ()), WELL_KNOWN)


@pytest.mark.parametrize(
    ("amounts", "gained_usd"),
    [
        ([(USDC, 22_000_000)], 22.0),
        ([(WETH, 10**18)], None),
        ([(COUNTERFEIT, 22_000_000)], None),
        ([(USDC, 22_000_000), (WETH, 1)], None),
    ],
)
def test_listed_stablecoins_alone_have_a_price(amounts, gained_usd):
    money = moved(*amounts).money
    assert (money.gained_usd, money.lost_usd, money.lost_by) == (gained_usd, gained_usd, VICTIM)
    assert (money.native_is_known, money.gas_is_known) == (False, False)
    assert {part.token: part.amount for part in money.gained} == dict(amounts)


def test_the_sentence_names_listed_tokens_and_marks_imitations():
    assert moved((USDC, 22_000_000)).summary == (
        "0xa1a1a1…a1a1 gained 22 USDC (about $22); 0xb2b2b2…b2b2 lost 22 USDC (about $22)."
    )
    assert "USDC (not the well-known token, 0xc3c3c3…c3c3)" in moved((COUNTERFEIT, 1)).summary


def test_the_sentence_names_the_chains_own_coin(tmp_path):
    words = [[WORD + f"{side:040x}" for side in sides] for sides in ((3, 5), (4, 6))]
    logs = [make_log(at, topics=[TRANSFER_TOPIC, *sides]) for at, sides in enumerate(words)]
    with open_writer(tmp_path / "recording", 56) as writer:
        writer.add(block_rows(1, logs=logs))
        writer.write()
    assert run(tmp_path / "recording", tmp_path / "out", "--threshold", "0") == 0
    (summary,) = rows_of(tmp_path / "out", "alerts")["summary"]
    assert "(without internal transfers of BNB, which are unknown)" in summary
