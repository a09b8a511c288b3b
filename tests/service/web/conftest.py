"""A browser, and the service on its embedded demo, for every file here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.service.web.browsing import CHROMIUM, CHROMIUM_OPTIONS, json_at, quiet_page, service
from tests.support.waiting import wait_until

NO_CHROMIUM = "NO CHROMIUM: the web pages were not driven; install Debian's chromium"


@pytest.fixture(scope="package")  # its event loop may not outlive these tests
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="session")
def demo(home: Path) -> Iterator[str]:
    """The service on its embedded demo, all of whose transactions are decided."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with service(home) as base:
        wait_until(lambda: json_at(f"{base}/alerts?alert_id=ANOMALOUS-TOKEN-TRANSFERS-TX"))
        yield base


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with quiet_page(browser, viewport={"width": 1280, "height": 900}) as opened:
        yield opened
