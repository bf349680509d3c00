"""`segpref audit` and `align` with plain weights that see patches of images of any size."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import UNet
from safetensors.torch import load_file, save_file

from segpref.cli.main import main
from segpref.judges import OracleJudge
from segpref.policies import read_plain
from segpref.types import Case, Slate

UNET = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2],
    "num_res_units": 1, "dropout": 0.2,
}  # fmt: skip
PARTS = {"train": ["p0", "p1", "p2", "p3"], "judge": [], "validation": ["p4", "p5", "p6"],
         "test": ["p7"], "by_patient": True}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of three sizes, weights for windows of 16 x 16, and a split."""
    root = tmp_path_factory.mktemp("patched")
    rng = np.random.default_rng(0)
    for number in range(8):
        shape = np.array([22 + number % 3, 20])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        distance = np.linalg.norm(grid - shape / 2 - rng.uniform(-2, 2, 2), axis=-1)
        label = ((distance < 7).astype(np.uint8) + (distance < 4)).astype(np.uint8)
        image = (label + rng.normal(0, 0.4, shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (root / "data" / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / "data" / name / f"p{number}.nii.gz")
    torch.manual_seed(0)
    (root / "own").mkdir()
    save_file(UNet(**UNET).state_dict(), root / "own" / "unet.safetensors")
    content = {
        "weights": "unet.safetensors",
        "network": {"class_path": "monai.networks.nets.UNet", "init_args": UNET},
        "label_space": {"kind": "multi-class", "names": ["background", "liver", "tumour"]},
        "preparation": {"dims": 2, "normalise": "z-score", "patch": [16, 16]},
        "labelled": ["p0"],
    }
    (root / "own" / "model.yaml").write_text(yaml.safe_dump(content))
    (root / "split.json").write_text(json.dumps(PARTS))
    return root


def run(place: Path, name: str, *options: str) -> int:
    labels = '{"names": ["background", "liver", "tumour"]}'
    return main(
        [name, "--model", str(place / "own" / "model.yaml"), "--judge", "oracle",
         "--data", str(place / "data"), "--data_options", labels, "--candidates", "6",
         "--split", str(place / "split.json"), "--cache", str(place / "cache"), *options]
    )  # fmt: skip


def align(place: Path, out: str, *options: str, keep: bool = True) -> int:
    kept = ["--keep_tuned"] if keep else []
    return run(
        place, "align", "--out", str(place / out), "--epochs", "1", "--images_per_epoch", "4",
        "--learning_rate", "0.01", *kept, *options,
    )  # fmt: skip


def test_an_audit_of_images_of_several_sizes(place: Path) -> None:
    assert run(place, "audit", "--out", str(place / "audit.json")) == 0
    found = json.loads((place / "audit.json").read_text())
    assert found["judge"]["slates"] + sum(found["judge"]["skipped"].values()) == 3
    assert found["flips"]["flip_rate"] == 0


def test_flip_rates_are_measured_on_patches_as_the_training_sees_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Case] = []

    def noted(judge: OracleJudge, case: Case, slate: Slate) -> Any:
        seen.append(case)
        return score(judge, case, slate)

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    score = OracleJudge.score
    monkeypatch.setattr(OracleJudge, "score", noted)
    monkeypatch.setattr(sys.modules["segpref.workflows.align"], "train", stopped)
    assert align(place, "flips", "--method", "calibrated") == 130
    found = json.loads((place / "flips" / "audit.json").read_text())
    assert {case.id for case in seen} == {"p4", "p5", "p6"}
    assert {case.image.shape for case in seen} == {(1, 16, 16)}
    assert len({case.window for case in seen}) > len(seen) / 2
    # Whole images, in windows that overlap, have no last stage that dropout could be put into.
    assert "dropout" in {family["family"] for family in found["families"]}
    assert sum(part["count"] for part in found["mined"]) > 100


@pytest.mark.slow
def test_a_calibrated_alignment_on_patches(place: Path) -> None:
    assert align(place, "calibrated", "--method", "calibrated") == 0
    assert json.loads((place / "calibrated" / "summary.json").read_text())["pool_cases"] == 3
    page = (place / "calibrated" / "report.html").read_text()
    assert "candidate masks of a patch of p" in page


@pytest.mark.slow
def test_diversity_is_that_of_patches(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"class_path": "segpref.proposals.DropoutRates", "init_args": {"rates": [0.0, 0.5]}}
    assert align(place, "rates", "--families", json.dumps([rates])) == 0
    assert (
        "Predictions of 3 images under dropout have a pairwise Dice of" in capsys.readouterr().err
    )


def tuned(place: Path, out: str) -> bool:
    model = read_plain(place / out / "tuned" / "model.yaml")
    best = load_file(place / out / "best.safetensors")
    return all(torch.equal(value, best[name]) for name, value in model.file.weights.items())


@pytest.mark.slow
def test_what_could_not_be_written_back_is_written_when_the_run_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segpref.policies.plain_weights as plain

    def killed(path: Path, *rest: Any) -> None:
        write(path, *rest)
        raise KeyboardInterrupt

    write = plain.write_weights
    with monkeypatch.context() as patched:
        patched.setattr(plain, "write_weights", killed)
        assert align(place, "killed") == 130
    assert not (place / "killed" / "tuned").exists()
    assert align(place, "killed", "--resume") == 0
    assert tuned(place, "killed")
    before = (place / "killed" / "tuned" / "unet.safetensors").stat().st_mtime_ns
    assert align(place, "killed", "--resume") == 0
    assert (place / "killed" / "tuned" / "unet.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_empty_folder_in_the_place_of_what_is_tuned_is_filled(place: Path) -> None:
    assert align(place, "empty") == 0
    for file in (place / "empty" / "tuned").iterdir():
        file.unlink()
    assert align(place, "empty", "--resume") == 0
    assert tuned(place, "empty")


@pytest.mark.slow
def test_the_first_process_of_a_launch_writes_for_all(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert align(place, "launched") == 0
    shutil.rmtree(place / "launched" / "tuned")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert align(place, "launched", "--resume") == 0
        assert (place / "launched" / "tuned").exists() == (rank == "0")


@pytest.mark.slow
def test_what_is_tuned_is_written_before_the_report(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["segpref.workflows.align"], "alignment_report", starved)
        with pytest.raises(ZeroDivisionError):
            align(place, "starved")
    assert tuned(place, "starved")
    assert not (place / "starved" / "report.html").exists()
    assert align(place, "starved", "--resume") == 0
    assert (place / "starved" / "report.html").exists()


@pytest.mark.slow
def test_masks_of_other_models_are_candidates(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "others").mkdir()
    for name in ("p1", "p2", "p4", "p6"):
        shutil.copy(place / "data" / "labels" / f"{name}.nii.gz", place / "others")
    others = ("--others", json.dumps([str(place / "others")]))
    file = place / "with-others.json"
    assert run(place, "audit", *others, "--out", str(file)) == 0
    assert "has no mask of 1 of 3 images, such as p5" in " ".join(capsys.readouterr().err.split())
    families = {one["family"]: one for one in json.loads(file.read_text())["families"]}
    # The masks are the truth here: best wherever they are.
    assert families["other"]["chosen"] == pytest.approx(2 / 3)
    assert families["other"]["gain"] > 0
    assert align(place, "others-run", *others) == 0
    assert "has no mask of 1 of 3 images, such as p3" in " ".join(capsys.readouterr().err.split())
    assert "other" in (place / "others-run" / "report.html").read_text()


def test_a_folder_without_masks_of_the_pool_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tests-only").mkdir()
    shutil.copy(place / "data" / "labels" / "p7.nii.gz", place / "tests-only")
    assert align(place, "refused", "--others", json.dumps([str(place / "tests-only")])) == 1
    assert "of none of the 3 images that are asked about, such as p1" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (place / "refused").exists()


def test_others_are_folders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, "audit", "--others", json.dumps([str(place / "nowhere")])) == 1
    assert f"there is no folder {place / 'nowhere'}" in " ".join(capsys.readouterr().err.split())


def test_masks_that_judge_are_no_candidates(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = str(place / "data" / "labels")
    both = ("--judge", labels, "--others", json.dumps([labels]))
    assert align(place, "favourite", *both) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert f"the masks of {labels} are the judge and a candidate" in printed
    assert not (place / "favourite").exists()


def test_calibration_wants_masks_of_the_validation_images(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "pool-only").mkdir()
    for name in ("p1", "p2", "p3"):
        shutil.copy(place / "data" / "labels" / f"{name}.nii.gz", place / "pool-only")
    others = ("--others", json.dumps([str(place / "pool-only")]))
    assert align(place, "unmeasured", "--method", "calibrated", *others) == 1
    assert "of none of the 3 images that are asked about, such as p4" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (place / "unmeasured").exists()


@pytest.mark.slow
def test_what_is_not_shown_to_be_better_is_not_written_back(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Three validation patients can show nothing, whatever was gained."""
    assert align(place, "doubtful", keep=False) == 0
    out = place / "doubtful"
    said = " ".join(capsys.readouterr().err.split())
    assert "Not shown to be better than the base on validation" in said
    assert "with fewer than 6 validation patients nothing is shown" in said
    assert "The random-preference control (--control) was not run" in said
    assert "tuned was not written" in said
    assert not (out / "tuned").exists()
    found = json.loads((out / "verdict.json").read_text())
    assert (found["word"], found["patients"]) == ("not shown", 3)
    page = (out / "report.html").read_text()
    assert "Not shown to be better than the base on validation" in page
    assert align(place, "doubtful", "--resume") == 0
    assert tuned(place, "doubtful")
    images = ["--input", str(place / "data" / "images" / "p4.nii.gz"), "--output"]
    for number, model in enumerate((out, out / "tuned" / "model.yaml")):
        caplog.clear()
        assert main(["predict", "--model", str(model), *images, str(place / f"m{number}")]) == 0
        assert "is not shown to be better than its base" in caplog.text
    caplog.clear()
    own = place / "own" / "model.yaml"
    assert main(["predict", "--model", str(own), *images, str(place / "m2")]) == 0
    assert "base" not in caplog.text


@pytest.mark.slow
def test_the_control_beside_a_run_stands_in_its_verdict(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert align(place, "coin", "--control") == 0
    assert "This is a random-preference control" in " ".join(capsys.readouterr().err.split())
    assert align(place, "judged") == 0
    assert "The random-preference control (coin): " in " ".join(capsys.readouterr().err.split())
    assert "The random-preference control (coin): " in (place / "judged/report.html").read_text()
