"""The benchmarks' own parts: what they count, compare, judge and generate. Nothing is timed."""

import json
import subprocess
import sys

import psutil
import pytest

from benchmarks import __main__ as bench
from benchmarks.cgroup import cpu_group
from benchmarks.hostile import HostileTraffic
from benchmarks.report import Line, shown, table, write_json
from benchmarks.soak import FILL, Outcome, Subject, soak
from benchmarks.timing import Timing, interleaved, median, once
from benchmarks.traffic import Traffic
from src.chain.transfers import decode_transfers
from src.utils.constants import NORMAL_ALERT_ID


def test_calls_are_timed_alternately_after_one_that_does_not_count():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = interleaved(calls, rounds=3, round_seconds=0)
    assert order == ["a", "b", *["a", "b"] * 3]
    assert set(times) == {"a", "b"}


def test_the_median_ignores_one_busy_moment():
    timings = [Timing(1.0, 3.0), Timing(90.0, 2.0), Timing(2.0, 100.0)]
    assert median(timings) == Timing(2.0, 3.0)


def test_a_single_call_is_made_once():
    made = []
    assert once(lambda: made.append(1)).wall >= 0
    assert made == [1]


def test_a_ratio_says_how_many_times_better_ours_is():
    assert Line("g", "time", 2.0, 10.0).ratio == 5
    assert Line("g", "rate", 50.0, 100.0, unit="tx/s").ratio == 0.5
    assert Line("g", "alone", 2.0).ratio is None


@pytest.mark.parametrize(
    ("limits", "holds"),
    [
        ({}, None),
        ({"limit": 2.0}, True),
        ({"limit": 1.9}, False),
        ({"ratio_limit": 5.0}, True),
        ({"ratio_limit": 5.1}, False),
        ({"limit": 2.0, "ratio_limit": 5.1}, False),
    ],
)
def test_a_line_holds_when_all_that_was_promised_holds(limits, holds):
    assert Line("g", "time", 2.0, 10.0, **limits).holds is holds


def test_values_are_shown_in_a_unit_of_their_size():
    assert [shown(v, "s") for v in (2.5, 0.0125, 4e-6)] == ["2.5 s", "12.5 ms", "4 us"]
    assert shown(207.3, "MB") == "207 MB"


def test_the_table_and_the_file_say_what_does_not_hold(tmp_path):
    lines = [Line("g", "decode", 2e-6, 10e-6, "eth_abi", limit=1e-6)]
    assert "DOES NOT HOLD" in table(lines)
    write_json(tmp_path / "new" / "out.json", lines, ["0.2 CPU: no group"])
    document = json.loads((tmp_path / "new" / "out.json").read_text())
    assert document["lines"][0]["holds"] is False
    assert document["skipped"] == ["0.2 CPU: no group"]


def test_an_unknown_group_of_lines_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        bench.main(["--only", "nothing"])
    assert exit_.value.code == 2
    assert "kernels" in capsys.readouterr().err


def test_traffic_has_the_transfers_asked_for_and_is_the_same_each_time():
    first, second = Traffic(1).event(5), Traffic(1).event(5)
    assert len(decode_transfers(first.logs)) == 5
    assert decode_transfers(first.logs) == decode_transfers(second.logs)


def test_hostile_traffic_is_the_same_for_the_same_seed_and_varied():
    one, two = HostileTraffic(3), HostileTraffic(3)
    made = [one.transaction() for _ in range(500)]
    assert made == [two.transaction() for _ in range(500)]
    sizes = {len(transaction.event["logs"]) for transaction in made}
    assert len(sizes) > 20
    assert {transaction.has_transfers for transaction in made} == {True, False}


def test_a_soak_counts_what_is_lost_and_does_not_hold_then():
    answers = iter([None, *[["-"]] * 1000])

    def handle(event):
        if next(answers) is None:
            raise ValueError("broken")
        return [NORMAL_ALERT_ID, "OF-A-RULE"] if has_transfers(event) else []

    *_, outcome = soak(Subject(handle, lambda: 100.0), 50, seed=1)
    assert (outcome.transactions, outcome.lost) == (50, 1)
    assert not outcome.holds


def has_transfers(event):
    from forta_agent import create_transaction_event

    return bool(decode_transfers(create_transaction_event(event).logs))


def test_a_soak_holds_while_memory_stays():
    assert Outcome(filled_mb=200.0, last_mb=209.0).holds
    assert not Outcome(filled_mb=200.0, last_mb=211.0).holds
    assert f"{FILL:,}" in str(Outcome(filled_mb=200.0, last_mb=209.0))


def test_a_process_in_a_cpu_group_is_there_and_the_group_goes_with_it():
    with cpu_group(0.2) as group:
        if group is None:
            pytest.skip("no control group can be made here")
        sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        group.add(sleeper.pid)
        listed = (group.folder / "cgroup.procs").read_text().split()
        assert str(sleeper.pid) in listed
        sleeper.communicate(b"\n")
        assert not psutil.pid_exists(sleeper.pid)
    assert not group.folder.exists()
