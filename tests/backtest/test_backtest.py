"""A backtest says what live handling says, from every layout, whatever interrupts it."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug import Response

from src.backtest.__main__ import main
from src.backtest.errors import BacktestError
from src.backtest.kernels import arrow, joins, look_alikes
from src.backtest.output.output import Output, Part
from src.backtest.reading import columns
from src.backtest.reading.assemble import assemble
from src.backtest.reading.columns import SECRET
from src.backtest.reading.layouts import detect
from src.backtest.reading.plan import Slice, whole_table
from src.backtest.reading.reading import SliceReader
from src.backtest.scoring.decisions import BatchDecider
from src.backtest.scoring.prefilter import CONDITIONS, Surroundings, candidates
from src.backtest.scoring.scoring import Cells, Scorer
from src.chain.recording.receipts_root import receipts_root
from src.decision.second_opinion import SecondOpinion, open_attack_model
from src.detection.assessment import Assessor
from src.detection.counterparties import CounterpartyBook
from src.detection.detectors import DETECTORS
from src.detection.detectors.base import Equipment
from src.detection.evidence import Evidence, TokenFact
from src.detection.features.definitions import FEATURE_NAMES, TokenProfile, feature_row
from src.detection.features.reference_values import ReferenceValue, ReferenceValues
from src.detection.features.view import view_of
from src.detection.forest.model import load_model
from src.detection.policy import Condition, Match, Scope, parse_policy
from src.detection.records import Action
from src.detection.suite import DetectorSuite
from src.settings import PROJECT_ROOT
from tests.backtest.data import (
    hostile_history,
    write_cryo,
    write_dataset,
    write_etl,
)
from tests.chain.test_record import Node

POLICY = (PROJECT_ROOT / "policy.yaml").read_text()
THRESHOLD = 0.6
RULES = ("flash_loan_profit", "drained_account", "isolation_forest")


@pytest.fixture(scope="module")
def model():
    return load_model(PROJECT_ROOT / "isolation_forest.pkl", FEATURE_NAMES)


@pytest.fixture(scope="module")
def history(model):
    return hostile_history(tokens=list(model.manifest.token_amounts))


@pytest.fixture(scope="module")
def etl(tmp_path_factory, history):
    folder = tmp_path_factory.mktemp("etl")
    write_etl(folder, history)
    return folder


def run(data, out, *more):
    arguments = ["--data", str(data), "--out", str(out), "--threshold", str(THRESHOLD)]
    return main([*arguments, "--workers", "2", *map(str, more)])


def rows_of(out, table="decisions"):
    paths = sorted((out / table).glob("day=*/*.parquet"))
    tables = [pq.ParquetFile(path).read().to_pandas() for path in paths]
    return pd.concat(tables).set_index("tx_hash") if tables else pd.DataFrame()


def content_of(out):
    names = [p for p in sorted(out.rglob("*")) if p.is_file() and ".lock" not in p.name]
    left_out = ("timing.json", "journal")
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in names
        if p.relative_to(out).parts[0] not in left_out
    }


def attack_of(model):
    """The shipped attack model, as these tests use the shipped forest."""
    return open_attack_model(None, PROJECT_ROOT / "isolation_forest.pkl", model, None)


def live(model, history, facts=None, policy=None):
    """Every transaction by itself, through the functions of live handling."""
    facts = facts or {}
    profile = TokenProfile.from_manifest(model.manifest)
    suite = DetectorSuite.from_policy(
        policy or parse_policy(POLICY), 1, Equipment(THRESHOLD, model.manifest.token_amounts)
    )
    assessor = Assessor(model, attributions=10)
    second = SecondOpinion(attack_of(model), assessor, model.inputs, profile, explain_from=1)
    book = CounterpartyBook(10**6)
    found = {}
    for t in sorted(history, key=lambda t: (t.block, t.index)):
        if not t.transfers:
            continue
        assessment, row, features = None, None, {}
        if t.sender is not None:
            row = feature_row(t.transfers, t.sender, profile)
            features = dict(zip(FEATURE_NAMES, row.tolist(), strict=True))
            row = row[[FEATURE_NAMES.index(name) for name in model.inputs]]
            assessment = assessor.assess(row)
        evidence = Evidence(
            t.transfers, t.sender, t.to, 1, t.block, t.timestamp, t.nonce, None, assessment,
            {} if row is None else dict(zip(model.inputs, row.tolist(), strict=True)),
            {m.token: facts[m.token] for m in t.transfers if m.token in facts},
            None, book.enter(t.transfers, t.sender), values=profile.values,
            attack=second.assess(t.transfers, t.sender, features, assessment, frozenset()),
        )  # fmt: skip
        found[t.tx_hash] = (row, assessment, suite.decide(evidence), evidence)
    return found


# Parsing


@given(st.lists(st.integers(0, 2**256 - 1)))
def test_amounts_are_exact_and_round_like_pythons(values):
    words, good = columns.parsed_amounts(pa.chunked_array([[str(v) for v in values]], pa.string()))
    assert good.all()
    assert columns.integers(words) == values
    assert arrow.to_floats(words).tolist() == [float(v) for v in values]


@pytest.mark.parametrize("bits", [53, 54, 64, 65, 117, 118, 128, 192, 255])
def test_amounts_between_two_floats_round_to_even(bits):
    near = [2**bits + delta for delta in (-1, 0, 1)]
    half = 2 ** max(bits - 53, 0)
    near += [2**bits + k * half + d for k in (1, 2, 3) for d in (-1, 0, 1)]
    near = [v for v in near if 0 <= v < 2**256]
    words, _ = columns.parsed_amounts(pa.chunked_array([[str(v) for v in near]]))
    assert arrow.to_floats(words).tolist() == [float(v) for v in near]


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1_0", " 1", "1 ", "1.0", "0x1", "٣", str(2**256), "9" * 79, None]
)
def test_what_is_no_uint256_is_refused(text):
    _, good = columns.parsed_amounts(pa.chunked_array([["7", text]], pa.string()))
    assert good.tolist() == [True, False]


@given(st.binary(min_size=42, max_size=42) | st.text(max_size=44).map(str.encode))
def test_what_is_no_address_is_refused(data):
    array = pa.chunked_array([pa.array([data]).cast(pa.binary())])
    text = pa.chunked_array([pa.Array.from_buffers(pa.string(), 1, array.chunk(0).buffers())])
    _, good = columns.parsed_bytes(text, 20)
    digits = data[2:].decode("latin-1").lower()
    expected = (
        len(data) == 42
        and data[:2].lower() == b"0x"
        and all(digit in "0123456789abcdef" for digit in digits)
    )
    assert good[0] == expected


@given(st.lists(st.binary(min_size=20, max_size=20)))
def test_addresses_survive_as_text_and_as_bytes(values):
    texts = ["0x" + value.hex() for value in values]
    shouted = [text.upper() for text in texts]
    from_text, _ = columns.parsed_bytes(pa.chunked_array([shouted], pa.string()), 20)
    from_bytes, _ = columns.parsed_bytes(pa.chunked_array([values], pa.binary()), 20)
    assert (from_text == from_bytes).all()
    assert columns.hex_column(from_text, 20).to_pylist() == texts


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_cut_columns_with_gaps_are_read_as_they_are(kind):
    texts = ["0x" + f"{n:02x}" * 20 if n % 3 else None for n in range(20)]
    column = pa.chunked_array([pa.array(texts[:9], kind).slice(2), pa.array(texts[9:], kind)])
    words, good = columns.parsed_bytes(column, 20)
    assert good.tolist() == [text is not None for text in texts[2:]]
    assert columns.hex_column(words[good], 20).to_pylist() == [t for t in texts[2:] if t]
    amounts = [str(n) if n % 3 else None for n in range(20)]
    words, good = columns.parsed_amounts(pa.chunked_array([pa.array(amounts, kind).slice(3)]))
    assert good.tolist() == [amount is not None for amount in amounts[3:]]
    assert columns.integers(words) == [int(amount or 0) for amount in amounts[3:]]


@given(st.lists(st.integers(0, 5)), st.integers(0, 2**64 - 1))
def test_rows_are_numbered_by_first_appearance_whatever_the_seed(values, seed):
    words = np.array(values, np.uint64).reshape(-1, 1)
    number, first = arrow.number_rows(words, np.uint64(seed))
    order = list(dict.fromkeys(values))
    assert number.tolist() == [order.index(value) for value in values]
    assert first.tolist() == [values.index(value) for value in order]


def test_thousands_of_rows_are_numbered_as_well():
    values = np.random.default_rng(0).integers(0, 5_000, 20_000).tolist()  # the table grows thrice
    number, first = arrow.number_rows(np.array(values, np.uint64).reshape(-1, 1), np.uint64(7))
    order = {value: place for place, value in enumerate(dict.fromkeys(values))}
    assert number.tolist() == [order[value] for value in values]
    assert first.tolist() == [values.index(value) for value in order]


@given(
    st.lists(st.sampled_from([f"0x{7:040x}", f"0x{2**159:040X}", "0x7", "", None]), max_size=30),
    st.integers(0, 30),
    st.sets(st.integers(0, 29)),
    st.booleans(),
)
def test_some_values_are_parsed_as_among_all(texts, cut, some, as_dictionary):
    chunks = [pa.array(texts[:cut], pa.string()), pa.array(texts[cut:], pa.string())]
    column = pa.chunked_array(
        [chunk.dictionary_encode() for chunk in chunks] if as_dictionary else chunks
    )
    rows = np.array(sorted(row for row in some if row < len(texts)), np.int64)
    everything = columns.parsed_bytes(pa.chunked_array(chunks), 20)
    for found, wanted in zip(columns.parsed_bytes(column, 20, rows), everything, strict=True):
        assert np.array_equal(found, wanted[rows])
    assert everything[1].tolist() == [text is not None and len(text) == 42 for text in texts]


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 7)), st.integers(0, 2**63 - 1))
def test_rows_are_found_where_they_stand_first_whatever_the_secret(keys, wanted, half):
    words = [np.array([[v, 7 * v] for v in values], np.uint64) for values in (keys, wanted)]
    secret = np.array([2 * half + 1, 1, 1, 1], np.uint64)
    found = joins.find_rows(*(w.reshape(-1, 2) for w in words), secret)
    assert found.tolist() == [keys.index(v) if v in keys else -1 for v in wanted]


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40),
            st.integers(0, 4),
            st.integers(0, 4) | st.none(),
        ),
        max_size=6,
    )
)
def test_accounts_are_numbered_by_transaction(transactions):
    moves = [move for moved, _, _ in transactions for move in moved]
    sizes = [len(moved) for moved, _, _ in transactions]

    def words(accounts):
        return np.array([[a, 2**64 - 1 if a else 0, a] for a in accounts], np.uint64).reshape(-1, 3)

    sender, recipient, origin, called, most = joins.number_accounts(
        np.cumsum([0, *sizes]), words([a for a, _ in moves]), words([b for _, b in moves]),
        words([o for _, o, _ in transactions]), words([c or 0 for _, _, c in transactions]),
        np.array([c is not None for _, _, c in transactions], np.bool_), SECRET,
    )  # fmt: skip
    at, largest = 0, 1
    for tx, (moved, sent_by, to) in enumerate(transactions):
        number = {0: 0}
        for move in moved:
            for account in move:
                number.setdefault(account, len(number))
        part = {account for move in moved for account in move}
        for payer, payee in moved:
            assert (sender[at], recipient[at]) == (number[payer], number[payee])
            at += 1
        assert called[tx] == (number[to] if to in part else -1)
        assert origin[tx] == number.setdefault(sent_by, len(number))
        largest = max(largest, len(number))
    assert most == largest


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=60))
def test_look_alikes_are_searched_where_they_can_be(moves):
    # Twelve accounts of three looks; 0 is the zero address.
    address = [0, *(((n % 3) << 150) | (n << 60) | n % 3 | 1 << 20 for n in range(1, 12))]
    words = np.array(
        [[a >> 128, (a >> 64) % 2**64, a % 2**64] for a in address], np.uint64
    )  # fmt: skip
    payer = np.array([a for a, _ in moves], np.int32)
    payee = np.array([b for _, b in moves], np.int32)
    found = look_alikes.may_look_alike(payer, payee, words[payer], words[payee], 12, 16, SECRET)
    entered = [(row, *pair) for row, (a, b) in enumerate(moves) for pair in ((a, b), (b, a))
               if a != b and 0 not in (a, b)]  # fmt: skip
    expected = {
        row
        for row, account, other in entered
        if any(
            account == same and other != one and address[other] % 2**16 == address[one] % 2**16
            and address[other] >> 148 == address[one] >> 148
            for _, same, one in entered
        )
    }  # fmt: skip
    assert set(np.flatnonzero(found).tolist()) == expected


def test_many_distinct_rows_keep_their_numbers():
    words = np.arange(20_000, dtype=np.uint64).reshape(-1, 1)
    number, _ = arrow.number_rows(np.concatenate([words, words[::-1]]), np.uint64(1))
    assert (number[:20_000] == number[20_000:][::-1]).all()


# The same as live


@pytest.mark.parametrize("layout", ["data set", "ethereum-etl", "cryo", "cryo logs"])
def test_every_layout_gives_what_live_handling_gives(tmp_path, model, history, layout):
    data, out = tmp_path / "data", tmp_path / "out"
    if layout == "data set":
        write_dataset(data, history)
    elif layout == "ethereum-etl":
        write_etl(data, history)
    else:
        write_cryo(data, history, logs=layout == "cryo logs")
    assert run(data, out, "--features") == 0
    assert_like_live(out, live(model, history), model)


def assert_like_live(out, expected, model, least_alerts=5):
    decisions, alerts = rows_of(out), rows_of(out, "alerts")
    assert set(decisions.index) == set(expected)
    assert decisions.index.is_unique
    raised = 0
    for tx_hash, (row, assessment, decision, _) in expected.items():
        found = decisions.loc[tx_hash]
        assert found["action"] == decision.action.name
        if assessment is None:
            assert found["prediction"] == "INVALID"
            assert pd.isna(found["anomaly_score"])
        else:
            assert found["anomaly_score"] == assessment.score
            assert found["anomaly_percentile"] == assessment.percentile
            assert found[list(model.inputs)].tolist() == row.tolist()
            assert found["prediction"] == ("ANOMALY" if assessment.score >= THRESHOLD else "NORMAL")
        anomaly = assessment is not None and assessment.score >= THRESHOLD
        if decision.action or anomaly:
            raised += 1
            alert = alerts.loc[tx_hash]
            assert [r["reason"] for r in json.loads(alert["reasons"])] == [
                v.reason for v in decision.reasons
            ]
        if anomaly:
            told = json.loads(alerts.loc[tx_hash]["model_explanations"])
            assert [(w["feature"], w["weight"]) for w in told] == [
                (w.feature, w.weight) for w in assessment.attributions
            ]
    assert raised == len(alerts) >= least_alerts


@given(data=st.data())
def test_rows_of_one_cell_have_one_score_and_one_explanation(model, data):
    forest = model.forest.trees
    rows = np.empty((2, forest.n_features))
    for column in range(forest.n_features):
        edges = [-np.inf, *np.unique(forest.threshold[forest.feature == column]).tolist(), 1e30]
        above = data.draw(st.integers(1, len(edges) - 1))
        low, high = (
            float(np.nextafter(np.float32(edges[above - 1]), np.float32(np.inf))),
            edges[above],
        )
        rows[:, column] = [data.draw(st.sampled_from([low, high])) for _ in range(2)]
    cell, names = Cells(forest).of(rows)
    assert cell.tolist() == [0, 0]
    assert len(names) == 1
    assert len(set(model.score(rows).tolist())) == 1
    weights = [[(why.feature, why.weight) for why in model.explain(row)] for row in rows]
    assert weights[0] == weights[1]


def test_a_threshold_parts_cells_and_what_is_not_finite_is_no_cell_of_others(model):
    forest = model.forest.trees
    column = int(forest.feature[0])
    edge = float(forest.threshold[0])
    above = float(np.nextafter(np.float32(edge), np.float32(np.inf)))
    rows = np.zeros((4, forest.n_features))
    rows[:, column] = [edge, above, np.inf, 1e30]
    assert Cells(forest).of(rows)[0].tolist() == [0, 1, 2, 3]


# Detectors see all that they must


@pytest.mark.parametrize("seed", range(6))
def test_no_condition_hides_a_transaction_from_its_detector(tmp_path, model, seed):
    tokens = list(model.manifest.token_amounts)
    history = hostile_history(seed, tokens=tokens)
    facts = {tokens[1]: TokenFact("USDC", impersonates=True)}
    values = ReferenceValues("2026-01-01", (ReferenceValue(1, tokens[0], "ONE", 18, 1.0),))
    model = replace(model, manifest=replace(model.manifest, reference_values=values))
    called = frozenset(t.to for t in history[:100] if t.to)
    scope = Scope("some", "why", frozenset(RULES), Match.TO, called, only_if=Condition.SENDER_PAYS)
    policy = parse_policy(POLICY)
    policy = replace(policy, scopes=(*policy.scopes, scope))
    write_etl(tmp_path, history)
    export = detect(tmp_path)
    part = Slice(0, 0, 0, 0, whole_table(export.transactions), whole_table(export.transfers))
    batch = assemble(SliceReader(export).read(part))
    scores = Scorer(model, attack_of(model).model).score(batch)
    hashes = columns.hex_column(batch.tx_hash, 32).to_pylist()
    expected = live(model, history, facts, policy)
    assert any("some: why" in str(decision) for _, _, decision, _ in expected.values())
    alike = np.array([bool(expected[h][3].look_alikes) for h in hashes])
    amounts = model.manifest.token_amounts
    decided = BatchDecider(model, policy, 1, THRESHOLD, facts, attack_of(model)).decide(
        batch, scores
    )
    for position, tx_hash in enumerate(hashes):
        decision = expected[tx_hash][2]
        if position in decided:
            assert decided[position].decision == decision
        else:
            assert decision.action is Action.ALLOW
    worth = TokenProfile.from_manifest(model.manifest).values_of(batch.transfers)
    view = view_of(batch.transfers.arrays, worth, batch.transfers.n_accounts)
    for name, entry in policy.for_chain(1).items():
        around = Surroundings(
            entry.parameters, THRESHOLD, amounts, frozenset([tokens[1]]), alike, worth, view
        )
        seen = candidates(name, batch, scores, around)
        detector = DETECTORS[name].build(entry.parameters, Equipment(THRESHOLD, amounts))
        for position in np.flatnonzero(~seen):
            evidence = expected[hashes[position]][3]
            said = detector.evaluate(evidence)
            assert not said.action, (name, hashes[position])
            blind = replace(evidence, transfers=(), tokens={}, look_alikes=())
            assert detector.evaluate(blind) == said, (name, hashes[position])


def test_the_hostile_history_makes_every_detector_of_the_policy_speak(model):
    spoke = set()
    for seed in range(6):
        tokens = list(model.manifest.token_amounts)
        facts = {tokens[1]: TokenFact("USDC", impersonates=True)}
        for *_, decision, _ in live(model, hostile_history(seed, tokens=tokens), facts).values():
            spoke |= {v.detector for v in decision.reasons if v.action}
    need_inputs = {"known_bad_address"}
    assert spoke == set(CONDITIONS) - need_inputs


# Interruptions


def test_slices_change_nothing_but_look_alikes_across_them(tmp_path, etl):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(etl, whole) == 0
    assert run(etl, cut, "--slice-rows", "60") == 0
    assert len(list((cut / "journal").iterdir())) > 5
    scores = ["anomaly_score", "block_number", "n_transfers", "prediction"]
    assert rows_of(whole)[scores].equals(rows_of(cut)[scores].loc[rows_of(whole).index])


def test_unordered_tables_are_put_in_order(tmp_path, history):
    data, out = tmp_path / "data", tmp_path / "out"
    write_dataset(data, history)
    write_etl(tmp_path / "etl", history)
    assert run(data, out, "--slice-rows", "80") == 0
    assert run(tmp_path / "etl", tmp_path / "straight", "--slice-rows", "80") == 0
    assert len(list((out / "journal").iterdir())) > 5
    assert not list(out.glob(".ordered*"))
    scores = ["anomaly_score", "block_number", "n_transfers", "prediction"]
    straight = rows_of(tmp_path / "straight")[scores]
    assert rows_of(out)[scores].loc[straight.index].equals(straight)


@pytest.mark.integration
def test_a_run_killed_at_ten_moments_resumes_to_the_same_output(tmp_path, etl):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    more = ["--slice-rows", "20", "--workers", "2"]
    assert run(etl, undisturbed, *more) == 0
    arguments = ["--data", str(etl), "--out", str(out), "--threshold", str(THRESHOLD), *more]
    command = [sys.executable, "-m", "tests.backtest.killer", "0", "10", str(out), *arguments]
    found = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert int(found.stdout) >= 5  # the later ones may find nothing left to do
    assert run(etl, out, *more) == 0
    assert content_of(out) == content_of(undisturbed)


def test_what_no_journal_vouches_for_is_done_again(tmp_path, etl):
    out = tmp_path / "out"
    assert run(etl, out, "--slice-rows", "80") == 0
    expected = content_of(out)
    entries = sorted((out / "journal").iterdir())
    entries[0].unlink()
    part = json.loads(entries[1].read_text())["parts"]
    (out / next(iter(part))).write_bytes(b"half")
    (out / "decisions" / ".unfinished-x").write_bytes(b"half")
    (out / ".unfinished-x-report.html").write_bytes(b"half")
    assert run(etl, out, "--slice-rows", "80") == 0
    assert content_of(out) == expected


@pytest.mark.integration
def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path, etl):
    out = tmp_path / "out"
    code = (
        "import resource, sys; from src.backtest.__main__ import main;"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY));"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["--data", str(etl), "--out", str(out), "--threshold", str(THRESHOLD)]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert "File too large" in found.stderr
    assert "resumes" in found.stderr
    assert "Traceback" not in found.stderr
    assert list(out.rglob("*.parquet*")) == []
    assert run(etl, out) == 0
    assert run(etl, tmp_path / "other") == 0
    assert content_of(out) == content_of(tmp_path / "other")


def test_two_runs_into_one_folder_are_refused(tmp_path, etl, capsys):
    with Output(tmp_path / "out").opened({}):
        assert run(etl, tmp_path / "out") == 1
    assert "another backtest is writing" in capsys.readouterr().err


def test_another_question_does_not_go_on_with_a_run(tmp_path, etl, capsys):
    assert run(etl, tmp_path / "out") == 0
    assert main(["--data", str(etl), "--out", str(tmp_path / "out"), "--threshold", "0.9"]) == 1
    assert "another threshold" in capsys.readouterr().err


def test_a_folder_with_something_else_is_left_alone(tmp_path, etl, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    assert run(etl, tmp_path) == 1
    assert "not empty and not a backtest" in capsys.readouterr().err


def test_a_failed_write_leaves_no_file_under_its_name(tmp_path):
    output = Output(tmp_path)
    with pytest.raises(TypeError):
        output.write_slice("1-2", [Part("decisions", "d", pa.table({"a": [1]}))], {"x": Unjson()})
    assert not list((tmp_path).rglob("*.json"))


class Unjson:
    """Cannot be written as JSON."""

    def __init__(self) -> None:
        pass


# Bad data


def test_a_missing_column_is_named(tmp_path, history):
    write_etl(tmp_path, history)
    path = tmp_path / "token_transfers.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["value", "log_index"]), path)
    with pytest.raises(BacktestError, match="token_transfers but lacks the columns log_index, val"):
        detect(tmp_path)


def test_missing_transactions_are_named(tmp_path, history):
    write_etl(tmp_path, history)
    (tmp_path / "transactions.parquet").unlink()
    with pytest.raises(BacktestError, match="contains no transactions"):
        detect(tmp_path)


def test_cryo_without_any_time_says_what_to_export(tmp_path, history):
    write_cryo(tmp_path, history, logs=False)
    next(tmp_path.glob("*blocks*")).unlink()
    with pytest.raises(BacktestError, match="lacks the column timestamp"):
        detect(tmp_path)


def test_two_layouts_in_one_folder_are_refused(tmp_path, history):
    write_etl(tmp_path / "a", history)
    write_dataset(tmp_path / "b", history)
    with pytest.raises(BacktestError, match="several layouts"):
        detect(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named(tmp_path, history, capsys, share):
    write_etl(tmp_path / "data", history)
    path = tmp_path / "data" / "token_transfers.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert run(tmp_path / "data", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "token_transfers.parquet" in error
    assert "truncated" in error


def test_damage_inside_a_file_is_named_and_nothing_is_taken_for_whole(tmp_path, history, capsys):
    write_etl(tmp_path / "data", history)
    path = tmp_path / "data" / "token_transfers.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    assert run(tmp_path / "data", tmp_path / "out") == 1
    assert "token_transfers.parquet" in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [("value", "-1"), ("value", "1e3"), ("to_address", "0x12"), ("transaction_hash", "nonsense")],
)
def test_a_damaged_value_is_shown(tmp_path, history, capsys, column, value):
    write_etl(tmp_path / "data", history)
    path = tmp_path / "data" / "token_transfers.parquet"
    table = pq.read_table(path).to_pandas()
    table.loc[3, column] = value
    table.to_parquet(path)
    assert run(tmp_path / "data", tmp_path / "out") == 1
    assert value in capsys.readouterr().err


def test_amounts_as_floats_are_refused(tmp_path, history, capsys):
    write_etl(tmp_path / "data", history)
    path = tmp_path / "data" / "token_transfers.parquet"
    table = pq.read_table(path).to_pandas()
    table.assign(value=table["value"].astype(float)).to_parquet(path)
    assert run(tmp_path / "data", tmp_path / "out") == 1
    assert "double" in capsys.readouterr().err


# Ranges, reports, what if


def test_a_range_takes_its_blocks_alone(tmp_path, etl):
    assert run(etl, tmp_path / "out", "--from-block", "5", "--to-block", "9") == 0
    assert set(rows_of(tmp_path / "out")["block_number"]) <= set(range(5, 10))
    assert len(rows_of(tmp_path / "out")) > 0


def test_the_report_shows_exploits_hit_and_missed(tmp_path, etl):
    assert run(etl, tmp_path / "one") == 0
    decisions = rows_of(tmp_path / "one")
    hit = decisions[decisions["action"] != "ALLOW"].index[0]
    missed = decisions[decisions["action"] == "ALLOW"].index[0]
    listed = tmp_path / "list.csv"
    listed.write_text(f"tx_hash\n{hit}\n{missed.upper()}\n0x{'ab' * 32}\n")
    assert run(etl, tmp_path / "two", "--exploits", listed) == 0
    found = json.loads((tmp_path / "two" / "summary.json").read_text())["exploits"]
    assert (found["listed"], found["in_data"], found["caught"]) == (3, 2, 1)
    page = (tmp_path / "two" / "report.html").read_text()
    assert "1 of 2 caught" in page
    assert "Alerts a day" in page
    assert missed in page


def test_what_if_tells_what_a_threshold_changes(tmp_path, etl, capsys):
    assert run(etl, tmp_path / "before") == 0
    arguments = ["--data", str(etl), "--out", str(tmp_path / "after"), "--threshold", "0.5"]
    assert main([*arguments, "--compare-with", str(tmp_path / "before")]) == 0
    change = json.loads((tmp_path / "after" / "comparison.json").read_text())
    before, after = rows_of(tmp_path / "before"), rows_of(tmp_path / "after")
    assert change["asked"]["threshold"] == [THRESHOLD, 0.5]
    assert change["alerts"] == [(t["action"] != "ALLOW").sum() for t in (before, after)]
    gained = (before["action"] == "ALLOW") & (after.loc[before.index, "action"] != "ALLOW")
    assert change["changes"]["gained"] == gained.sum() > 0
    assert change["changes"]["lost"] == 0
    assert "threshold 0.6 -> 0.5" in capsys.readouterr().out


def test_what_if_refuses_other_data(tmp_path, etl, history, capsys):
    write_etl(tmp_path / "less", history[:20])
    assert run(etl, tmp_path / "before") == 0
    assert run(tmp_path / "less", tmp_path / "after", "--compare-with", tmp_path / "before") == 1
    assert "different data" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--out", "x"],
        ["--out", "x", "--from-block", "3"],
        ["--out", "x", "--data", "d", "--from-block", "9", "--to-block", "3"],
        ["--out", "x", "--data", "d", "--threshold", "2"],
        ["--out", "x", "--data", "d", "--engine", "abacus"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_no_data_and_no_node_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JSON_RPC_URL", raising=False)
    assert main(["--from-block", "1", "--to-block", "2", "--out", str(tmp_path / "out")]) == 1
    assert "JSON_RPC_URL" in capsys.readouterr().err


# Straight from a node


def test_a_range_comes_straight_from_the_node_which_may_vanish(tmp_path, httpserver):
    node = Node(httpserver)
    for recorded in node.blocks.values():
        recorded.block["receiptsRoot"] = receipts_root(recorded.receipts)
    node.failures["eth_getBlockByNumber"] = [Response("gone", status=503), Response("", status=502)]
    out = tmp_path / "out"
    arguments = ["--from-block", "7", "--to-block", "8", "--url", node.url, "--out", str(out)]
    assert main(arguments) == 0
    assert (tmp_path / "out.recording" / "recording.json").exists()
    transfers = json.loads((out / "summary.json").read_text())["transfers"]
    asked = len(node.asked)
    assert main([*arguments[:-1], str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["transfers"] == transfers
    assert "eth_getBlockReceipts" not in node.asked[asked:]


def test_a_node_that_stays_away_is_an_error_and_leaves_no_report(tmp_path, capsys):
    url = "http://127.0.0.1:9"
    arguments = ["--from-block", "7", "--to-block", "8", "--url", url, "--patience", "0.1"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert "the same command resumes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
