"""A small recording, served."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.chain.recording.format import open_writer
from src.chain.recording.rows import encode_block
from tests.chain.recording.blocks import make_block, make_log
from tests.chain.replay.served import UNKNOWN_HASH, serve


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    """Blocks 10, 11 and 13; 11 has two transfers of TOKEN."""
    with open_writer(tmp_path, 1) as writer:
        for numbers in ((10, 11), (13,)):
            for number in numbers:
                logs = [make_log(0), make_log(1, topics=[UNKNOWN_HASH])] if number == 11 else []
                block = make_block(number, logs)
                writer.add(encode_block(block, receipts_root_verified=True))
            writer.write()
    with serve(tmp_path) as url:
        yield url
