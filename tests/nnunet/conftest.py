"""Models that stock nnU-Net trained, once for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.nnunet.stock import Stock
from nnunet_workplace import Workplace, made_workplace
from stock_at_once import run_at_once


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(Stock, "run", run_at_once)
    yield made_workplace(tmp_path_factory.mktemp("nnunet"))
    monkeypatch.undo()
