"""A report of one transaction is one file that needs nothing else."""

import gzip
import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from src.history.importing import ImportOptions, import_history
from src.service import report
from tests.backtest.data import Transaction, hostile_history, write_dataset
from tests.chain.recording.blocks import make_block, write_blocks
from tests.history.imports import imported
from tests.service.web.browsing import quiet_page, theft
from tests.support.fake_chain import FakeNode, serve


@pytest.mark.integration
def test_a_report_needs_nothing_but_itself(
    demo: str, home: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    tx_hash, out = theft(demo), home / "report.html"
    for name in [name for name in os.environ if name.startswith("JSON_RPC")]:
        monkeypatch.delenv(name)
    # Not the database of the service, which has decided about the transaction already.
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{home / 'report.db'}")
    assert report.main([tx_hash, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    with quiet_page(browser) as page:
        page.goto(out.as_uri())
        expect(page.get_by_role("region", name="Decision")).to_contain_text("BLOCK")
        background = page.locator(".card").first.evaluate("e => getComputedStyle(e).borderRadius")
        assert background == "10px"  # the style sheet inside it is in force
        assert page.locator("script, link, img, iframe").count() == 0


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, Transaction]:
    """A history store whose second slice holds this transaction, and the symbol of its token."""
    tx = max(hostile_history(seed=3), key=lambda t: len(t.transfers))
    tx.transfers[:] = tx.transfers[:3]
    history = [t for t in hostile_history(seed=4, blocks=tx.block) if t.transfers]
    write_dataset(tmp_path / "data", [*history, tx])
    with gzip.open(tmp_path / "data" / "tokens.csv.gz", "wt", encoding="utf-8") as file:
        file.write(f"address,symbol\n{tx.transfers[0].token},SOUP\n")
    options = ImportOptions(slice_transfers=100)
    import_history(
        str(tmp_path / "data"), tmp_path / "store", options, lambda _total: lambda _done: None
    )
    return tmp_path / "store", tx


def test_a_report_is_drawn_from_a_store_without_a_node_or_a_database(
    store: tuple[Path, Transaction], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tx = store
    for name in [name for name in os.environ if name.startswith("JSON_RPC")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'none.db'}")
    out = tmp_path / "report.html"
    assert report.main([tx.tx_hash, "--store", str(folder), "--out", str(out)]) == 0
    page = out.read_text()
    assert f"block {tx.block}" in page
    assert "SOUP" in page
    assert all(moved.recipient in page for moved in tx.transfers)
    assert "<dt>Gas</dt><dd>unknown</dd>" in page  # not nothing
    assert not (tmp_path / "none.db").exists()


def test_a_report_says_that_a_store_lacks_the_transaction(
    store: tuple[Path, Transaction], capsys
) -> None:
    folder, _ = store
    assert report.main(["0x" + "0" * 64, "--store", str(folder)]) == 1
    assert "has no transaction" in capsys.readouterr().err
    assert report.main(["0x" + "0" * 64, "--store", str(folder.parent)]) == 2
    assert "is no history store" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["hello"], ["0x" + "0" * 64, "--node", "ftp://x"]])
def test_a_report_says_what_is_wrong_with_its_options(words: list[str], capsys) -> None:
    try:
        code = report.main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert "hex digits" in (said := capsys.readouterr().err) or "http://" in said


def test_a_report_from_a_recordings_store_is_on_its_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    for name in [name for name in os.environ if name.startswith("JSON_RPC")]:
        monkeypatch.delenv(name)
    write_blocks(tmp_path / "recording", 1, chain_id=8453)
    folder, receipt = imported(tmp_path / "recording").folder, make_block(1).receipts[0]
    words = [receipt["transactionHash"], "--store", str(folder), "--out", str(tmp_path / "page")]
    assert report.main(words) == 0
    assert "https://basescan.org/tx/0x" in (tmp_path / "page").read_text()
    with serve(FakeNode().answer) as url:
        assert report.main([*words, "--node", url]) == 2
    assert "was recorded on chain 8453, but the node is on chain 1" in capsys.readouterr().err
    monkeypatch.setenv("FORTA_CHAIN_ID", "1")
    assert report.main(words) == 2
    assert "FORTA_CHAIN_ID must be 8453, the chain of" in capsys.readouterr().err
