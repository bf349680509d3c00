"""Results that workers give in order, whatever happens to the workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray_nodes

import own_process

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_worker_that_is_killed_is_replaced_and_the_order_stays(
    two_nodes: str, tmp_path: Path
) -> None:
    deaths = {4, 9}
    items = [
        (str(tmp_path / f"{'x' * (1 + number % 5)}{number}"), number in deaths)
        for number in range(14)
    ]
    ended = own_process.ended(
        ray_nodes.spread_in_order, two_nodes, items, environment=ray_nodes.IMPORTS
    )
    assert ended.returncode == 0, ended.stderr
    assert len(list(tmp_path.iterdir())) == len(deaths)  # each killed a worker, once
    expected = [(place, 3 * len(word)) for place, (word, _) in enumerate(items)]
    assert ended.stdout.strip() == str(expected)
