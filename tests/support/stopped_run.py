"""What `test_processes.py` stops: `pytest tests/support/stopped_run.py -k few` (or `every`)."""

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from src.demo.anvil import anvil
from tests.service.databases import database_url


def few(stack: ExitStack, folder: Path) -> None:
    database_url("postgresql", folder)
    stack.enter_context(anvil(timestamp=1_700_000_000))


def every(stack: ExitStack, folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    from tests.service.web.browsing import CHROMIUM, CHROMIUM_OPTIONS
    from tests.support.forta_bridge import production_bot
    from tests.support.object_store import object_store

    few(stack, folder)
    stack.enter_context(object_store(new(folder / "s3")))
    bot = stack.enter_context(
        production_bot(new(folder / "bot"), {"MODEL_PATH": os.environ["MODEL_PATH"]})
    )
    bot.initialize()
    chromium = stack.enter_context(sync_playwright()).chromium
    chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS).new_page()


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("start", [few, every])
def test_servers_run_until_the_end(start, tmp_path, request, monkeypatch):
    if start is every:
        monkeypatch.setenv("MODEL_PATH", str(request.getfixturevalue("bundle_path")))
    with ExitStack() as stack:
        start(stack, tmp_path)
        (tmp_path / "ready").touch()
        threading.Event().wait()
