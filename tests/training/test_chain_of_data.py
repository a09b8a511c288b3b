"""The chain of the data that a model is trained on."""

from pathlib import Path

import pytest

from src.chain.recording.format import open_writer
from src.datasets.training_set import RECORDING_FOLDER, chain_id_of


@pytest.mark.parametrize("inside", ["", RECORDING_FOLDER])
def test_it_is_the_recordings(tmp_path: Path, inside: str) -> None:
    with open_writer(tmp_path / inside, 8453):
        pass
    assert chain_id_of(tmp_path) == 8453


def test_it_is_mainnet_where_nothing_says_it(tmp_path: Path) -> None:
    assert chain_id_of(tmp_path) == 1
