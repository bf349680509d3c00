"""`segpref align` on trained folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nnunet_workplace import CASES, SHORT, Workplace, command, mask, needs_nnunet, split_file

from counting_backend import Counting
from segpref.cli.main import main
from segpref.inference import whole_images
from segpref.policies import load_model, open_model, read_card
from segpref.policies.nnunet import read_nnunet


@needs_nnunet
@pytest.mark.slow
def test_a_fold_is_aligned_with_another_as_its_judge(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = workplace.trained("3d_fullres"), tmp_path / "run"
    command(
        workplace, "align", model / "fold_0", out, *SHORT, "--learning_rate", "0.01",
        "--judge", str(model / "fold_1"), "--pool", str(workplace.new_images),
        "--split", split_file(tmp_path / "split.json", ["case1", "case2"]),
        "--cache", str(tmp_path / "cache"),
    )  # fmt: skip
    assert "without the mirrored views" in " ".join(capsys.readouterr().err.split())
    card = read_card(out)
    assert card.labelled == ("case1", "case2")
    # Before and after are scored alike, mirrored views and all.
    assert card.mirroring == (0, 1, 2)
    fold, base = open_model(model / "fold_0", trust=True), open_model(out / "base.safetensors")
    one, other = (
        whole_images(opened.policies(), opened.card.preparation, opened.mirroring)
        for opened in (fold, base)
    )
    assert one.digest() == other.digest()
    tuned = out / "tuned" / model.name
    assert [path.name for path in tuned.glob("fold_*")] == ["fold_0"]
    assert read_nnunet(tuned, trust=True).policy().digest() == load_model(out)[0].digest()
    assert read_nnunet(model, trust=True).policy("0").digest() != load_model(out)[0].digest()
    # Stock predicts from it what we do.
    results = workplace.root / "results" / "aligned"
    results.mkdir()
    moved = tuned.rename(results / tuned.name)
    stock = mask(workplace.predicted(moved, "0"))
    command(workplace, "predict", moved, tmp_path / "ours", "--input", str(workplace.new_images))
    np.testing.assert_array_equal(mask(tmp_path / "ours" / "new.nii.gz"), stock)


@needs_nnunet
@pytest.mark.slow
def test_a_fold_that_is_compiled_comes_out_as_without(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpref.networks.compiled.BACKEND", backend := Counting())
    model, made = workplace.trained("3d_fullres"), []
    for name, more in (("plain", ()), ("compiled", ("--compile", "true"))):
        command(
            workplace, "align", model / "fold_0", tmp_path / name, *SHORT, *more,
            "--learning_rate", "0.01", "--judge", str(model / "fold_1"),
            "--pool", str(workplace.new_images),
            "--split", split_file(tmp_path / "split.json", ["case1", "case2"]),
            "--cache", str(tmp_path / "cache"),
        )  # fmt: skip
        assert (backend.runs > 0) == bool(more)
        made.append(load_model(tmp_path / name)[0].digest())
    assert made[0] == made[1]


@needs_nnunet
@pytest.mark.slow
def test_masks_of_the_2d_configuration_judge_the_3d_one(
    workplace: Workplace, tmp_path: Path
) -> None:
    model, masks, out = workplace.trained("3d_fullres"), tmp_path / "masks", tmp_path / "run"
    images = workplace.made / "imagesTr"
    command(workplace, "predict", workplace.trained("2d"), masks, "--input", str(images))
    command(
        workplace, "align", model / "fold_0", out, *SHORT, "--learning_rate", "0.01",
        "--judge", str(masks), "--method", "calibrated", "--cache", str(tmp_path / "cache"),
        "--split", split_file(tmp_path / "split.json", CASES[1:5]),
    )  # fmt: skip
    rates = [one["flip_rate"] for one in json.loads((out / "audit.json").read_text())["mined"]]
    assert rates
    assert all(0 <= rate <= 1 for rate in rates)
    assert [path.name for path in (out / "tuned" / model.name).glob("fold_*")] == ["fold_0"]
    assert read_nnunet(model, trust=True).policy("0").digest() != load_model(out)[0].digest()


@needs_nnunet
@pytest.mark.slow
@pytest.mark.parametrize(("configuration", "folds"), [("3d_fullres", ["0", "1"]), ("2d", ["0"])])
def test_all_folds_are_tuned(
    workplace: Workplace, tmp_path: Path, configuration: str, folds: list[str]
) -> None:
    model, out = workplace.trained(configuration), tmp_path / "run"
    options = [
        "--judge", "oracle", "--learning_rate", "0.01", "--cache", str(tmp_path / "cache"),
        "--split", split_file(tmp_path / "split.json", CASES[1:5]), *SHORT,
    ]  # fmt: skip
    command(workplace, "align", model, out, *options)
    before, after = (read_nnunet(one, trust=True) for one in (model, out / "tuned" / model.name))
    assert after.folds == before.folds == tuple(folds)
    for fold in folds:
        assert after.policy(fold).digest() != before.policy(fold).digest()
        assert (out / f"fold_{fold}" / "summary.json").is_file() == (len(folds) > 1)
    leaky = split_file(tmp_path / "leaky.json", ["case4"])
    Path(leaky).write_text(Path(leaky).read_text().replace("case0", "case1"))
    assert (
        main(
            [
                "align",
                "--model",
                str(model),
                "--data",
                str(workplace.made),
                "--out",
                str(tmp_path / "no"),
                "--trust",
                "--judge",
                "oracle",
                "--split",
                leaky,
            ]
        )
        == 1
    )
