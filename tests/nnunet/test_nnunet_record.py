"""An aligned fold of nnU-Net gives what is on record: to the bit on the machine of the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nnunet_workplace import Workplace, needs_nnunet
from record import RECORD, aligned_fold
from tests.baseline.records import check, machine, result


@needs_nnunet
@pytest.mark.slow
def test_an_aligned_fold_gives_what_is_on_record(workplace: Workplace, tmp_path: Path) -> None:
    record = json.loads(RECORD.read_text())
    found = result(aligned_fold(workplace, tmp_path))
    check(found, record["runs"]["align-fold"], machine() == record["machine"])
