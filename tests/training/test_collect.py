"""Collecting training tables from a real local chain."""

from collections.abc import Iterator

import pandas as pd
import pytest

from src.chain.recording.dataset import load_transfers
from src.datasets.tables import read_table
from src.datasets.training_set import load_background
from src.demo.anvil import Chain, anvil
from src.settings import SETTINGS
from src.training.blocks import WantedBlock, read_block_list
from src.training.collect import main
from tests.support.recording_chain import play

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with anvil(timestamp=1_700_000_000) as running:
        play(running)
        yield running


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def newest(chain):
    return int(chain.rpc("eth_blockNumber"), 16)


def collect(chain, out, *options):
    return main([*options, "--url", chain.url, "--out", str(out), "--patience", "2"])


def test_a_range_becomes_a_data_set_that_training_reads(chain, tmp_path, capsys):
    assert collect(chain, tmp_path, "--from-block", "0", "--to-block", str(newest(chain))) == 0
    background = load_background(tmp_path)
    # One mint by the deployment, and in each of three blocks three transfers that succeed.
    assert background.n_transfers.sum() == 10
    assert set(load_transfers(tmp_path)["token_std"].to_pylist()) == {"erc20", "erc721"}
    transactions = pd.read_parquet(tmp_path / "transactions.parquet")
    assert transactions["receipts_root_verified"].all()
    assert transactions["full_block"].all()
    assert "npm run train" in capsys.readouterr().out


def test_a_list_of_scattered_blocks_gives_those_blocks_and_their_sources(chain, tmp_path):
    wanted = [1, 7, 8]
    hashes = [chain.rpc("eth_getBlockByNumber", hex(number), False)["hash"] for number in wanted]
    table = pd.DataFrame({"block_number": wanted, "block_hash": hashes, "source": ["a", "b", "b"]})
    table.to_csv(tmp_path / "blocks.csv", index=False)
    assert collect(chain, tmp_path / "out", "--blocks", str(tmp_path / "blocks.csv")) == 0
    found = pd.read_parquet(tmp_path / "out" / "transactions.parquet")
    assert set(found["block_number"]) <= set(wanted)
    assert found[found["block_number"] == 1]["source"].unique().tolist() == ["a"]


def test_collecting_again_adds_what_is_missing(chain, tmp_path):
    assert collect(chain, tmp_path, "--from-block", "2", "--to-block", "4") == 0
    assert collect(chain, tmp_path, "--from-block", "0", "--to-block", "9") == 0
    once = tmp_path / "once"
    assert collect(chain, once, "--from-block", "0", "--to-block", "9") == 0
    for name in ("transactions.parquet", "transfers.parquet"):
        assert pd.read_parquet(tmp_path / name).equals(pd.read_parquet(once / name))


def test_a_block_of_another_chain_is_refused(chain, tmp_path, capsys):
    table = pd.DataFrame({"block_number": [1], "block_hash": ["0x" + "5" * 64]})
    table.to_csv(tmp_path / "blocks.csv", index=False)
    assert collect(chain, tmp_path / "out", "--blocks", str(tmp_path / "blocks.csv")) == 1
    assert "another chain" in capsys.readouterr().err
    assert not (tmp_path / "out" / "transactions.parquet").exists()


def test_a_block_that_is_not_there_yet_is_refused(chain, tmp_path, capsys):
    assert collect(chain, tmp_path, "--from-block", "0", "--to-block", "99999") == 1
    assert "newest block" in capsys.readouterr().err


def test_a_list_is_sorted_and_each_block_stands_once(tmp_path):
    path = tmp_path / "blocks.csv"
    path.write_text("block_number,block_hash\n9,\n3,0xab\n9,\n")
    assert read_block_list(path) == [WantedBlock(3, "0xab"), WantedBlock(9)]


@pytest.mark.parametrize("content", ["hash\n1\n", "block_number\n-1\n", "block_number\n1.5\n"])
def test_what_is_no_list_of_blocks_is_refused(tmp_path, content):
    path = tmp_path / "blocks.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match="block_number"):
        read_block_list(path)


@pytest.mark.parametrize(
    "options", [[], ["--from-block", "3"], ["--from-block", "3", "--to-block", "2"]]
)
def test_neither_a_range_nor_a_list_is_wrong_usage(options, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main([*options, "--out", str(tmp_path)])
    assert stopped.value.code == 2


def test_the_shipped_block_list_is_one(pytestconfig):
    blocks = read_block_list(pytestconfig.rootpath / "docs/model/training_manifest.csv")
    assert len(blocks) == len(
        read_table(pytestconfig.rootpath / "docs/model/training_manifest.csv")
    )
    assert all(block.block_hash and block.source for block in blocks)
