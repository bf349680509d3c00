"""All mutations together take more than a few seconds, and none may go on for ever."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import HANGS_S


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _hang_is_a_failure() -> Iterator[None]:
    """CPU time of this process, not time on the clock: a loaded machine is only slow."""

    def hangs(*_: object) -> None:
        raise AssertionError(f"still at it after {HANGS_S} seconds of CPU time")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANGS_S)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)
