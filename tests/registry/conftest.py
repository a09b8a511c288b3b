"""Bundles, and a store in a folder and on a real S3 server."""

import pytest

from src.registry.registry import (
    Registry,
)
from src.registry.store import Store
from tests.registry.bundles import make_bundle, small_fraud_bundle
from tests.support.object_store import s3, url

__all__ = ["s3", "url"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / str(version), 1_700_000_000 + version) for version in range(3)]


@pytest.fixture
def registry(url):
    return Registry(Store(url))


@pytest.fixture(scope="module")
def fraud_bundle(tmp_path_factory):
    return small_fraud_bundle(tmp_path_factory.mktemp("fraud"), 1_700_000_009)
