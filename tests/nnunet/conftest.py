"""Models that stock nnU-Net trained, once for all tests."""

from __future__ import annotations

import pytest
from nnunet_workplace import Workplace, made_workplace


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return made_workplace(tmp_path_factory.mktemp("nnunet"))
