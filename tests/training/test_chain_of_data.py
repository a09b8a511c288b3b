"""The chain of the data that a model is trained on."""

from pathlib import Path

import pytest

from src.chain.recording.format import open_writer
from src.datasets.training_set import RECORDING_FOLDER, chain_id_of
from tests.chain.recording.blocks import write_blocks
from tests.history.imports import imported


@pytest.mark.parametrize("inside", ["", RECORDING_FOLDER])
def test_it_is_the_recordings(tmp_path: Path, inside: str) -> None:
    with open_writer(tmp_path / inside, 8453):
        pass
    assert chain_id_of(tmp_path) == 8453


def test_it_is_that_of_the_recording_that_a_store_was_imported_from(tmp_path: Path) -> None:
    write_blocks(tmp_path, 1, 2, chain_id=8453)
    assert chain_id_of(imported(tmp_path).folder) == chain_id_of(tmp_path) == 8453


def test_it_is_unknown_where_nothing_says_it(tmp_path: Path) -> None:
    assert chain_id_of(tmp_path) is None
