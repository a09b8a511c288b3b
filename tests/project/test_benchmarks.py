"""The benchmarks' own parts: what they count, compare, judge and generate. Nothing is timed."""

import json
import subprocess
import sys

import psutil
import pytest

from benchmarks import __main__ as bench
from benchmarks import soak as soak_run
from benchmarks import start_up
from benchmarks.cgroup import cpu_group
from benchmarks.hostile import HostileTraffic
from benchmarks.recorded import DEFAULT_RECORDING, recorded_transactions
from benchmarks.report import Line, shown, table, write_json
from benchmarks.soak_bots import Subject, Usage, in_process
from benchmarks.soak_oracle import Oracle, Verdict
from benchmarks.soaking import Latencies, Moment, Outcome, soak
from benchmarks.sources import Conduct, sources
from benchmarks.timing import Timing, interleaved, median, once
from benchmarks.traffic import Traffic
from src.chain.transfers import decode_transfers
from src.demo.processes import supervised
from src.utils.constants import ANOMALOUS_ALERT_ID, NORMAL_ALERT_ID


def test_calls_are_timed_alternately_after_one_that_does_not_count():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = interleaved(calls, rounds=3, round_seconds=0)
    assert order == ["a", "b", *["a", "b"] * 3]
    assert set(times) == {"a", "b"}


def test_the_median_ignores_one_busy_moment():
    timings = [Timing(1.0, 3.0), Timing(90.0, 2.0), Timing(2.0, 100.0)]
    assert median(timings) == Timing(2.0, 3.0)


def test_a_start_is_measured_in_a_process_of_its_own(monkeypatch):
    for name in ("_BOT", "_EMPTY"):
        monkeypatch.setattr(start_up, name, "import src.settings")
    line = next(start_up.measure(rounds=1, cores=1))
    assert line.value > 0


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
def test_a_line_holds_when_all_limits_are_met(limits, holds):
    assert Line("g", "time", 2.0, 10.0, **limits).holds is holds


def test_values_are_shown_in_a_unit_of_their_size():
    assert [shown(v, "s") for v in (2.5, 0.0125, 4e-6)] == ["2.5 s", "12.5 ms", "4 us"]
    assert shown(207.3, "MB") == "207 MB"


def test_the_table_and_the_file_say_what_does_not_hold(tmp_path):
    lines = [Line("g", "decode", 2e-6, 10e-6, "eth_abi", limit=1e-6)]
    assert "MISSED" in table(lines)
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


def test_recorded_transactions_are_fed_as_they_were_under_new_hashes():
    recorded = recorded_transactions(DEFAULT_RECORDING)
    traffic = HostileTraffic(3, recorded)
    made = [traffic.transaction().event for _ in range(300)]
    assert len({event["transaction"]["hash"] for event in made}) == 300
    shapes = {json.dumps(transaction.logs()) for transaction in recorded}
    as_recorded = [
        event
        for event in made
        if json.dumps([{k: v for k, v in log.items() if k != "logIndex"} for log in event["logs"]])
        in shapes
    ]
    assert len(as_recorded) > 100
    assert {event["transaction"]["from"] for event in as_recorded} <= {
        transaction.sender for transaction in recorded
    }


def subject_of(answer):
    return Subject(answer, lambda: Usage(python_mb=100.0))


def test_a_soak_counts_what_is_lost_and_does_not_hold_then():
    answers = iter([None, *[["-"]] * 1000])

    def handle(event):
        if next(answers) is None:
            raise ValueError("broken")
        return [(NORMAL_ALERT_ID, {}), ("OF-A-RULE", {})] if has_transfers(event) else []

    received = []
    *_, outcome = soak(
        subject_of(handle), HostileTraffic(1), transactions=50, on_findings=received.append
    )
    assert (outcome.transactions, outcome.lost) == (50, 1)
    assert (len(received), received[0]) == (50, None)
    assert outcome.failures() == ["1 lost"]


def test_a_finding_where_none_belongs_is_counted_as_lost():
    *_, outcome = soak(
        subject_of(lambda _: [(NORMAL_ALERT_ID, {})]), HostileTraffic(1), transactions=50
    )
    assert outcome.lost == 50 - outcome.with_transfers > 0


def test_answers_over_the_budget_are_late_and_a_soak_with_many_does_not_hold():
    *_, outcome = soak(
        subject_of(lambda event: [(NORMAL_ALERT_ID, {})] if has_transfers(event) else []),
        HostileTraffic(1), transactions=20, budget_seconds=-1.0,
    )  # fmt: skip
    assert outcome.late == 20
    assert outcome.failures() == ["20 late"]


def test_a_soak_ends_with_its_time():
    *_, outcome = soak(
        subject_of(lambda event: []), HostileTraffic(1), transactions=None, seconds=1e-9
    )
    assert outcome.transactions == 1


def has_transfers(event):
    from forta_agent import create_transaction_event

    return bool(decode_transfers(create_transaction_event(event).logs))


def outcome_of(python_mb, **changes):
    moments = [Moment(1.0, 100, Usage(python_mb=mb)) for mb in python_mb]
    return Outcome(moments=moments, transactions=100, **changes)


@pytest.mark.parametrize(
    ("outcome", "failures"),
    [
        (outcome_of([205.0, 209.0], filled=Usage(python_mb=200.0)), []),
        (outcome_of([205.0, 211.0], filled=Usage(python_mb=200.0)), ["Python grew by 11.0 MB"]),
        (outcome_of([300.0]), []),
        (outcome_of([251.0, 240.0], limit_mb=250.0), ["Python took 251 MB"]),
        (outcome_of([1.0], verdict=Verdict(wrong=2)), ["2 wrong"]),
    ],
)
def test_a_soak_holds_while_memory_stays_and_nothing_is_wrong(outcome, failures):
    assert outcome.failures() == failures


def test_quantiles_of_latencies_are_right_within_a_tenth():
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.quantile(0.5) == pytest.approx(0.5, rel=0.1)
    assert latencies.quantile(0.99) == pytest.approx(0.99, rel=0.1)
    assert latencies.longest == 1.0


@pytest.fixture(scope="module")
def handled():
    """The findings of the real handler on the traffic of one seed, sources as in the soak."""
    recorded = recorded_transactions(DEFAULT_RECORDING)
    answers = []
    with (
        sources(Conduct(failing_share=0.05, hostile=True)) as settings,
        in_process(settings | {"LOOKUP_DEADLINE_SECONDS": "0.05"}, 0) as subject,
    ):
        for outcome in soak(
            subject, HostileTraffic(9, recorded), transactions=150, on_findings=answers.append
        ):
            assert outcome.lost == 0
    return recorded, answers


def verdict_of(recorded, answers):
    oracle = Oracle(HostileTraffic(9, recorded))
    for each in answers:
        oracle.check(each)
    return oracle.finish()


def test_the_oracle_finds_the_bots_findings_right(handled):
    verdict = verdict_of(*handled)
    assert (verdict.checked, verdict.wrong, verdict.examples) == (150, 0, [])
    assert verdict.scored > 50


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("anomaly_score", lambda text: f"{float(text) + 0.002:.3f}"),
        ("anomaly_score", lambda text: "nan"),
        ("transfer_counts", lambda text: str(int(text) + 1)),
        ("tokens_type_counts", lambda text: str(int(text) + 1)),
        ("prediction", lambda text: "ANOMALY" if text == "NORMAL" else "NORMAL"),
        ("account_active_period_in_minutes", lambda text: "1.5"),
        ("USDC_value", lambda text: str(float(text) + 1e-6)),
    ],
)
def test_the_oracle_notices_what_is_not_true(handled, name, change):
    recorded, answers = handled
    index, position, metadata = next(
        (i, j, metadata)
        for i, findings in enumerate(answers)
        for j, (alert_id, metadata) in enumerate(findings or ())
        if alert_id == NORMAL_ALERT_ID and (name != "USDC_value" or is_small(metadata.get(name)))
    )
    findings = list(answers[index])
    findings[position] = (NORMAL_ALERT_ID, metadata | {name: change(metadata[name])})
    verdict = verdict_of(recorded, [*answers[:index], findings, *answers[index + 1 :]])
    assert verdict.wrong == 1
    assert verdict.examples[0].startswith(f"transaction {index}: ")


def is_small(text):
    return text is not None and float(text) < 1e6


def test_the_oracle_notices_a_kind_that_does_not_fit_the_score(handled):
    recorded, answers = handled
    swapped = [
        [
            (ANOMALOUS_ALERT_ID, metadata | {"prediction": "ANOMALY"})
            if alert_id == NORMAL_ALERT_ID
            else (alert_id, metadata)
            for alert_id, metadata in findings
        ]
        for findings in answers
    ]
    assert verdict_of(recorded, swapped).wrong > 50


@pytest.mark.parametrize(
    "arguments",
    [
        ["--transactions", "0"],
        ["--minutes", "0"],
        ["--recording", "/nowhere"],
        ["--guard", "--minutes", "1"],
        ["--guard", "--hostile-sources"],
        ["--hostile-sources", "--recording", "/nowhere"],
    ],
)
def test_a_soak_that_cannot_be_is_refused(arguments, capsys):
    try:
        code = soak_run.main(arguments)
    except SystemExit as stop:  # argparse ends wrong usage so
        code = stop.code
    assert code == 2
    assert "--" in capsys.readouterr().err


def test_a_process_in_a_cpu_group_is_there_and_the_group_goes_with_it():
    with cpu_group(0.2) as group:
        if group is None:
            pytest.skip("cannot create a control group")
        sleeper = subprocess.Popen(
            supervised([sys.executable, "-c", "input()"]), stdin=subprocess.PIPE
        )
        group.add(sleeper.pid)
        listed = (group.folder / "cgroup.procs").read_text().split()
        assert str(sleeper.pid) in listed
        sleeper.communicate(b"\n")
        assert not psutil.pid_exists(sleeper.pid)
    assert not group.folder.exists()


@pytest.mark.integration
def test_a_soak_writes_its_figures(tmp_path):
    path = tmp_path / "soak.json"
    arguments = ["--transactions", "40", "--budget-ms", "600000"]  # however busy the machine is
    assert soak_run.main([*arguments, "--json", str(path)]) == 0
    figures = json.loads(path.read_text())
    assert (figures["transactions"], figures["checked"]) == (40, 40)
    assert figures["failures"] == []
    assert figures["kinds"][NORMAL_ALERT_ID] > 0
