"""What stage 2 refuses: leakage, settings out of range, and nothing to learn from."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_align import POOL, run

from segpref.data import Cache, Dataset
from segpref.judges import ModelJudge, OracleJudge
from segpref.types import SegprefError


def test_leakage_is_refused(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    patients = hearts.patients
    for parts in (
        {"pool": hearts.of_patients(patients[1:6])},
        {"pool": hearts.of_patients(patients[4:9])},
        {"validation": hearts.of_patients(patients[:1])},
    ):
        with pytest.raises(SegprefError, match="that leaks"):
            run(tmp_path / "run", heart_base, hearts, model_judge, store, resume=True, **parts)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"images_per_epoch": 0}, "at least 1"),
    ],
)
def test_settings_out_of_range(
    options: dict[str, int], said: str, heart_base: Path, hearts: Dataset,
    model_judge: ModelJudge, store: Cache, tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(SegprefError, match=said):
        run(tmp_path / "run", heart_base, hearts, model_judge, store, **options)


def test_empty_sets_are_named(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path
) -> None:
    nobody = hearts.take([])
    with pytest.raises(SegprefError, match="no image to learn from"):
        run(tmp_path / "run", heart_base, hearts, model_judge, store, pool=nobody)
    with pytest.raises(SegprefError, match="no validation image"):
        run(tmp_path / "more", heart_base, hearts, model_judge, store, validation=nobody)


def test_the_oracle_on_unlabelled_images(
    heart_base: Path, hearts: Dataset, store: Cache, tmp_path: Path
) -> None:
    pool = hearts.of_patients(hearts.patients[POOL]).without_labels()
    with pytest.raises(SegprefError, match="has no label, so the oracle can't judge it"):
        run(tmp_path / "run", heart_base, hearts, OracleJudge(hearts.label_space), store, pool=pool)
