"""A Ray cluster that the tests of pools share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import ray_nodes

import own_process
import waiting


@pytest.fixture(scope="package")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two nodes."""
    place = tmp_path_factory.mktemp("cluster")
    # It ends with these tests, however they end; nobody can say how long they take.
    os.mkfifo(place / "held")
    held = os.open(place / "held", os.O_RDWR)
    nodes = own_process.started(
        ray_nodes.stay, place / "address", place / "held", environment=ray_nodes.IMPORTS
    )
    waiting.until(lambda: (place / "address").exists() or not nodes.process.is_alive())
    yield (place / "address").read_text()
    os.close(held)
    assert nodes.ended().returncode == 0
