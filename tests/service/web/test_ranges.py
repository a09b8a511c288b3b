"""A range of blocks of a local chain, analysed and shown in a real browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from src.demo.anvil import anvil
from src.demo.contracts import compile_contracts
from src.demo.scenarios import SCENARIOS, play
from src.demo.world import GENESIS, build
from tests.service.web.browsing import quiet_page, service


@pytest.mark.integration
def test_a_range_of_a_local_chain_is_analysed_to_its_end(browser: Browser, tmp_path: Path) -> None:
    with anvil(timestamp=GENESIS) as chain:
        play(build(chain, compile_contracts()), SCENARIOS)
        head = int(chain.rpc("eth_blockNumber"), 16)
        with (
            service(
                tmp_path,
                JSON_RPC_URL=chain.url,
                JSON_RPC_REQUESTS_PER_SECOND="2000",
            ) as base,
            quiet_page(browser) as page,
        ):
            page.goto(f"{base}/ui/ranges")
            expect(page.get_by_label("Last block")).to_have_value(str(head))
            page.get_by_label("First block").fill(str(head - 45))
            page.get_by_role("button", name="Analyse").click()
            page.wait_for_url("**/ui/analyses/*")
            marked = page.get_by_role("group", name="Value against gas cost, anomalies marked")
            anomaly = marked.locator("a:has(circle.k-anomaly)").first
            expect(anomaly).to_be_visible()
            plain = page.get_by_role("group", name="Value against gas cost of each transfer")
            assert plain.locator("circle.k-anomaly").count() == 0
            assert plain.locator("circle").count() == marked.locator("circle").count() > 0
            expect(page.locator("tr.anomaly").first).to_contain_text("anomaly")
            anomaly.focus()
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_contain_text("Transaction")
            expect(page.get_by_role("region", name="Decision")).to_contain_text("Anomaly score")
            page.goto(f"{base}/ui/ranges")
            page.get_by_label("Model").select_option("latest")
            page.get_by_role("button", name="Analyse").click()
            page.wait_for_url("**/ui/analyses/*")
            page.goto(f"{base}/ui/models")
            expect(page.get_by_role("region", name="Registry")).to_contain_text("gas cost")
