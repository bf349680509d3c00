"""An aligned fold of nnU-Net gives what is on record: to the bit on machines that recorded it."""

from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_workplace import Workplace, needs_nnunet
from record import RECORD, aligned_fold
from tests.baseline.records import check, result
from tests.machine_records import on_record


@needs_nnunet
@pytest.mark.slow
def test_an_aligned_fold_gives_what_is_on_record(workplace: Workplace, tmp_path: Path) -> None:
    recorded, same = on_record(RECORD)
    found = result(aligned_fold(workplace, tmp_path))
    check(found, recorded["align-fold"], same)
