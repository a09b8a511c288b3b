"""A report of one transaction is one file that needs nothing else."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from src.service import report
from tests.service.web.browsing import quiet_page, theft


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


@pytest.mark.parametrize("words", [["hello"], ["0x" + "0" * 64, "--node", "ftp://x"]])
def test_a_report_says_what_is_wrong_with_its_options(words: list[str], capsys) -> None:
    try:
        code = report.main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert "hex digits" in (said := capsys.readouterr().err) or "http://" in said
