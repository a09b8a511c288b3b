"""The service in a process of its own, and what its tests need of a browser."""

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.service.serving import serving
from tests.support.waiting import PATIENCE

CHROMIUM = os.environ.get("CHROMIUM_PATH") or which("chromium") or which("chromium-browser")

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=PATIENCE * 1000)


@contextmanager
def service(folder: Path, **settings: str) -> Iterator[str]:
    """The real service in a process of its own, on a database of its own; yields its address."""
    settings = {"CACHE_DIR": str(folder / "cache"), "ANALYSIS_DIRECT_BLOCKS": "10"} | settings
    with serving(folder, workers=1, **settings) as (base, _):
        yield base


def json_at(url: str):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.loads(answer.read())
    except OSError:
        return None


@contextmanager
def quiet_page(browser: Browser, **options) -> Iterator[Page]:
    """A page that must log no error, and ask no other site for anything."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda said: said.type in ("error", "warning") and errors.append(said.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            errors.append(asked.url)
            if not asked.url.startswith(("http://127.0.0.1", "file://", "data:"))
            else None
        ),
    )
    yield page
    context.close()
    assert errors == []


def middle_of(one: Locator) -> tuple[float, float]:
    """Where a mouse points at it, on the screen."""
    one.scroll_into_view_if_needed()
    box = one.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """With the mouse."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def theft(base: str) -> str:
    return json_at(f"{base}/alerts?alert_id=ANOMALOUS-TOKEN-TRANSFERS-TX")[0]["transaction_hash"]
