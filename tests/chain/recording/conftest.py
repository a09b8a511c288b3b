"""A node of two blocks for every file here."""

import pytest
from pytest_httpserver import HTTPServer

from tests.chain.recording.node import Node


@pytest.fixture
def node(httpserver: HTTPServer) -> Node:
    return Node(httpserver)
