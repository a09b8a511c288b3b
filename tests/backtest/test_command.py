"""The command: ranges, reports, what-if, wrong usage, and blocks from a node."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from werkzeug import Response

from src.backtest.__main__ import main
from src.chain.recording.receipts_root import receipts_root
from src.datasets.store import open_store
from src.history.importing import ImportOptions, import_history
from tests.backtest.data import (
    write_etl,
)
from tests.backtest.runs import THRESHOLD, rows_of, run
from tests.chain.recording.blocks import write_blocks
from tests.chain.recording.node import Node


def test_a_range_takes_its_blocks_alone(tmp_path, etl):
    assert run(etl, tmp_path / "out", "--from-block", "5", "--to-block", "9") == 0
    assert set(rows_of(tmp_path / "out")["block_number"]) <= set(range(5, 10))
    assert len(rows_of(tmp_path / "out")) > 0


def test_the_output_may_have_any_name(tmp_path, etl):
    """Also that of a pattern which matches its neighbour, or of partitions."""
    names = ("out", "[ao]?t*", "action=ALLOW/day=1/out")
    for name in names:
        assert run(etl, tmp_path / name) == 0
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in names]
    assert summaries == summaries[:1] * len(names)


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
    assert ">&gt;0.9999<" in page
    assert ">1.0000<" not in page
    assert "listed stablecoins at one dollar" in page
    assert f'<a href="https://etherscan.io/tx/{missed}">' in page
    assert "its score is below the threshold of 0.6, and no detector asks" in page


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
    assert main(["--from-block", "1", "--to-block", "2", "--out", str(tmp_path / "out")]) == 2
    assert "JSON_RPC_URL" in capsys.readouterr().err


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


def test_an_export_is_judged_on_the_chain_that_it_says(tmp_path, etl, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for path in etl.iterdir():
        table = pq.read_table(path)
        pq.write_table(
            table.append_column("blockchain", pa.array(["base"] * len(table))), data / path.name
        )
    out = tmp_path / "out"
    assert run(data, out, "--chain", "1") == 2
    said = capsys.readouterr().err
    assert "--chain must be 8453, the chain of " in said
    assert "token_transfers.parquet: blockchain says base" in said
    assert run(data, out) == 0
    assert json.loads((out / "summary.json").read_text())["run"]["chain_id"] == 8453


def test_nothing_is_written_into_the_folder_of_a_recording(tmp_path):
    recording = tmp_path / "recording"
    write_blocks(recording, 1)
    before = files_of(recording)
    assert run(recording, tmp_path / "out") == 0
    assert files_of(recording) == before
    assert open_store(tmp_path / "out.store").layout == "recording"


def test_the_store_of_a_recording_is_used_unless_blocks_were_added(tmp_path):
    recording = tmp_path / "recording"
    write_blocks(recording, 1)
    import_history(str(recording), recording, ImportOptions(), lambda _: lambda _: None)
    (recording / ".lock").unlink()
    before = files_of(recording)
    assert run(recording, tmp_path / "one") == 0
    assert files_of(recording) == before
    assert not (tmp_path / "one.store").exists()
    write_blocks(recording, 2)
    assert run(recording, tmp_path / "two") == 0
    assert set(rows_of(tmp_path / "two")["block_number"]) == {1, 2}


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_a_recording_is_judged_on_its_own_chain(tmp_path, monkeypatch, capsys):
    recording, out = tmp_path / "recording", tmp_path / "out"
    write_blocks(recording, 1, 2, chain_id=8453)
    assert run(recording, out) == 0
    assert json.loads((out / "summary.json").read_text())["run"]["chain_id"] == 8453
    assert run(recording, tmp_path / "named", "--chain", "base") == 0
    assert run(recording, tmp_path / "refused", "--chain", "1") == 2
    assert "--chain must be 8453, the chain of" in capsys.readouterr().err
    monkeypatch.setenv("FORTA_CHAIN_ID", "1")
    assert run(recording, tmp_path / "refused") == 2
    assert "FORTA_CHAIN_ID must be 8453, the chain of" in capsys.readouterr().err
    assert run(recording, tmp_path / "again", "--chain", "8453") == 0
