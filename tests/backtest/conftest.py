"""A history that tries everything, and the model that knows its tokens."""

import pytest

from src.detection.features.definitions import FEATURE_NAMES
from src.detection.forest.model import load_model
from src.settings import PROJECT_ROOT
from tests.backtest.data import (
    hostile_history,
    write_etl,
)


@pytest.fixture(scope="package")
def model():
    return load_model(PROJECT_ROOT / "isolation_forest.pkl", FEATURE_NAMES)


@pytest.fixture(scope="package")
def history(model):
    return hostile_history(tokens=list(model.manifest.token_amounts))


@pytest.fixture(scope="package")
def etl(tmp_path_factory, history):
    folder = tmp_path_factory.mktemp("etl")
    write_etl(folder, history)
    return folder
