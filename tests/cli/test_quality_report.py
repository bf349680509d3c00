"""`segpref predict --report`: which masks to look at first, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.release.hospital import export_study

import segpref
from segpref.cli.main import main
from segpref.collect import StudyFolder
from segpref.data import Cache, Images, Preparation, SeriesRule, images_for, open_dataset, read_csv
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.inference import QualityConfig
from segpref.judges import EnsembleJudge
from segpref.policies import ModelCard, NetworkSpec, load_model, save_model
from segpref.types import LabelSpace, SegprefError

HEART = ("background", "RV", "MYO", "LV")
OPTIONS = json.dumps({"names": HEART, "patient_pattern": PATIENT_PATTERN})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 slices of six patients, and six of them again with noise."""
    folder = tmp_path_factory.mktemp("pool")
    made = write_phantoms(folder / "made", "cardiac", (48, 48), 6, seed=6, slices_per_patient=2)
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number, path in enumerate(sorted((made / "images").iterdir())):
        shutil.copy(path, folder / "images" / path.name)
        if number % 4 == 0:
            image = nib.load(path)
            pixels = image.get_fdata()
            noisy = pixels + rng.normal(0, 1.5 * pixels.std(), pixels.shape)
            spoiled = nib.Nifti1Image(noisy.astype(np.float32), image.affine)
            nib.save(spoiled, folder / "images" / f"spoiled_{path.name}")
    return folder / "images"


def predict(*options: object) -> int:
    return main(["predict", *map(str, options)])


def error(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    images: Path,
    heart_folder: Path,
    fair_hearts: tuple[Path, Path],
) -> Path:
    """A folder with masks and their report."""
    heart_base, heart_judge = fair_hearts
    out = tmp_path_factory.mktemp("made")
    given = ["--model", heart_base, "--judge", heart_judge, "--input", images, "--pictures", 3]
    data = ["--validation", heart_folder, "--data_options", OPTIONS, "--cache", out / "cache"]
    assert predict(*given, *data, "--output", out / "masks", "--report", out / "report") == 0
    return out


@pytest.mark.slow
def test_spoiled_images_are_the_first(made: Path) -> None:
    rows = read_csv(made / "report" / "quality.csv")
    assert len(rows) == 30 * 3
    assert [int(row["rank"]) for row in rows] == list(range(1, 91))
    first = [row["id"] for row in read_csv(made / "report" / "look-first.csv")]
    assert sum(name.startswith("spoiled") for name in first[:8]) == 6
    assert all(row["look"] == "yes" for row in rows if row["image"].startswith("spoiled"))
    assert {row["structure"] for row in rows} == {"RV", "MYO", "LV"}
    kept = json.loads((made / "report" / "quality.json").read_text())
    assert kept["images"] == 30
    assert kept["labelled_patients"] == 6
    assert kept["masks"][0]["image"] == rows[0]["image"]


@pytest.mark.slow
def test_the_first_are_the_worst_by_the_labels(made: Path, images: Path) -> None:
    labels = images.parent / "made" / "labels"

    def dice(row: dict[str, str]) -> float:
        mask, label = (
            np.asarray(nib.load(path).dataobj) == HEART.index(row["structure"])
            for path in (
                made / "masks" / f"{row['image']}.nii.gz",
                labels / f"{row['image'].removeprefix('spoiled_')}.nii.gz",
            )
        )
        both = mask.sum() + label.sum()
        return 2 * (mask & label).sum() / both if both else np.nan

    rows = read_csv(made / "report" / "quality.csv")
    for structure in HEART[1:]:
        measured = [dice(row) for row in rows if row["structure"] == structure]
        assert np.nanmean(measured[:10]) < np.nanmean(measured[-10:]) - 0.15


@pytest.mark.slow
def test_the_first_are_a_pool_for_collect_init(
    made: Path, fair_hearts: tuple[Path, Path], tmp_path: Path
) -> None:
    heart_base, _ = fair_hearts
    listed = read_csv(made / "report" / "look-first.csv")
    rows = read_csv(made / "report" / "quality.csv")
    flagged = dict.fromkeys(row["image"] for row in rows if row["look"] == "yes")
    assert [row["id"] for row in listed] == list(flagged)
    pool = made / "report" / "look-first.csv"
    study = tmp_path / "study"
    options = ["--model", heart_base, "--pool", pool, "--out", study, "--images", 6]
    assert main(["collect", "init", *map(str, options), "--cache", str(made / "cache")]) == 0
    asked = {one.case for one in StudyFolder(study).contents().items}
    assert asked
    assert asked <= {row["id"] for row in listed}


@pytest.mark.slow
def test_a_calibration_is_used_again(
    made: Path,
    images: Path,
    fair_hearts: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heart_base, heart_judge = fair_hearts
    kept = made / "report" / "calibration.json"
    common = ["--model", heart_base, "--input", images, "--validation", kept, "--pictures", 0]
    common += [
        "--cache",
        made / "cache",
        "--output",
        made / "masks",
        "--report",
        tmp_path / "again",
    ]
    assert predict(*common, "--judge", heart_judge) == 0
    for name in ("quality.csv", "look-first.csv", "calibration.json"):
        assert (tmp_path / "again" / name).read_bytes() == (made / "report" / name).read_bytes()
    capsys.readouterr()
    assert predict(*common, "--judge", f"[{heart_judge}, {heart_judge}]") == 1
    assert "was made with another judge" in error(capsys)


@pytest.mark.slow
def test_a_damaged_image_does_not_cost_the_report(
    images: Path,
    heart_folder: Path,
    fair_hearts: tuple[Path, Path],
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heart_base, heart_judge = fair_hearts
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted(images.iterdir())[:3]:
        shutil.copy(path, some)
    (some / "damaged.nii.gz").write_bytes(b"nothing")
    options = ["--model", heart_base, "--judge", heart_judge, "--input", some, "--pictures", 1]
    options += ["--validation", made / "report" / "calibration.json", "--cache", made / "cache"]
    assert predict(*options, "--output", tmp_path / "out", "--report", tmp_path / "report") == 1
    assert "3 of 4 images were segmented" in error(capsys)
    assert json.loads((tmp_path / "report" / "quality.json").read_text())["without_mask"] == [
        "damaged"
    ]
    assert "1 images have no mask: damaged." in (tmp_path / "report" / "quality.html").read_text()


@pytest.mark.slow
def test_what_does_not_fit_is_refused_before_masks_are_made(
    images: Path,
    heart_folder: Path,
    fair_hearts: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heart_base, heart_judge = fair_hearts
    common = ["--model", heart_base, "--input", images, "--output", tmp_path / "out"]
    data = ["--data_options", OPTIONS, "--cache", tmp_path / "cache"]
    report = ["--report", tmp_path / "report"]
    labelled = ["--validation", heart_folder, *data]
    split = tmp_path / "split.json"
    patients = sorted({f"phantom{number:03d}" for number in range(12)})
    parts = {"judge": [], "test": [], "by_patient": True}
    for given, said in (
        ([*labelled, *report], "needs --judge, --validation and --report"),
        (["--judge", heart_judge], "needs --judge, --validation and --report"),
        ([*labelled, *report, "--judge", "oracle"], "this judge reads labels"),
        ([*labelled, *report, "--judge", heart_base], "is to be its own judge"),
        (
            [*labelled, *report, "--judge", heart_judge, "--box", "[1, 1, 4, 4]"],
            "leave prompts out",
        ),
        (
            [*labelled, *report, "--judge", heart_judge, "--format", "seg.nrrd"],
            "leave format out",
        ),
        (
            ["--validation", tmp_path / "gone.json", *report, "--judge", heart_judge],
            "there is no file",
        ),
    ):
        assert predict(*common, *given) == 1
        assert said in error(capsys)
    for validation, said in (
        (patients[:8], "that leaks what is to be measured"),
        (patients[8:9], "that neither model nor judge was trained with"),
        (["someone"], "is in the validation part of"),
    ):
        rest = [one for one in patients if one not in validation]
        split.write_text(json.dumps({**parts, "train": rest, "validation": validation}))
        given = [*labelled, *report, "--judge", heart_judge, "--split", split]
        assert predict(*common, *given) == 1
        assert said in error(capsys)
    assert not (tmp_path / "out").exists()


def untrained(path: Path, space: LabelSpace, preparation: Preparation, seed: int) -> Path:
    arguments = {
        "spatial_dims": preparation.dims,
        "in_channels": 1,
        "out_channels": space.channels,
        "channels": [4, 8],
        "strides": [2],
        "dropout": 0.2,
    }
    spec = NetworkSpec("monai.networks.nets.UNet", arguments)
    torch.manual_seed(seed)
    save_model(path, spec.build(), ModelCard(spec, space, preparation, ("image",)))
    return path


KINDS = {
    "3D": ("cardiac", (24, 24, 12), Preparation(dims=3, size=(24, 24, 12))),
    "patches": ("cardiac", (24, 24, 12), Preparation(dims=3, patch=(16, 16, 8))),
    "multi-label": ("chest", (32, 32), Preparation(dims=2, size=(32, 32))),
    "slices": ("cardiac", (24, 24, 6), Preparation(dims=2, size=(24, 24))),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(tmp_path: Path, kind: str) -> None:
    """Untrained networks: what is drawn is nonsense, and often nothing at all."""
    name, size, preparation = KINDS[kind]
    data = write_phantoms(tmp_path / "data", name, size, 6, seed=0)
    new = write_phantoms(tmp_path / "new", name, size, 2, seed=1) / "images"
    space = open_dataset(data).label_space
    assert space is not None
    model = untrained(tmp_path / "a.safetensors", space, preparation, 0)
    judges = [
        untrained(tmp_path / f"{seed}.safetensors", space, preparation, seed) for seed in (1, 2)
    ]
    written = segpref.predict(
        model, new, tmp_path / "masks", judge=[str(one) for one in judges], validation=data,
        report=tmp_path / "report", cache=tmp_path / "cache",
        quality=QualityConfig(reruns=2, pictures=1),
    )  # fmt: skip
    rows = read_csv(tmp_path / "report" / "quality.csv")
    images = {row["image"] for row in rows}
    assert len(rows) == len(images) * len(space.structures)
    assert len(written) == len(images) * space.fields
    assert all(0 <= float(row["predicted_dice"]) <= 1 for row in rows)
    assert all(row["model_disagreement"] != "" and row["judge_spread"] != "" for row in rows)
    if kind == "3D":
        assert all(float(row["size_mm"]) >= 0 for row in rows)


@pytest.mark.slow
def test_masks_for_the_pacs_are_reported_on_as_others_are(tmp_path: Path) -> None:
    """An export whose files lie in one folder: three series per study, of which one is an image."""
    data = write_phantoms(tmp_path / "data", "cardiac", (24, 24, 6), 6, seed=0)
    for number, path in enumerate(sorted((data / "images").iterdir())[:3]):
        export_study(tmp_path / "export", number, np.asarray(nib.load(path).dataobj))
    space = LabelSpace("multi-class", HEART)
    model, judge = (
        untrained(tmp_path / f"{seed}.safetensors", space, Preparation(dims=2, size=(24, 24)), seed)
        for seed in (0, 1)
    )
    rule = SeriesRule(description="cine short*")
    for form in ("image", "dicom-seg"):
        segpref.predict(
            model, tmp_path / "export", tmp_path / form, format=form, judge=judge, validation=data,
            report=tmp_path / f"of-{form}", cache=tmp_path / "cache", series=rule,
            data_options={"names": HEART, "patient_pattern": PATIENT_PATTERN},
            quality=QualityConfig(reruns=2, pictures=1, flag_rate=0.9),
        )  # fmt: skip
    for name in ("quality.csv", "look-first.csv", "calibration.json"):
        plain = (tmp_path / "of-image" / name).read_bytes()
        assert (tmp_path / "of-dicom-seg" / name).read_bytes() == plain
    first = tmp_path / "of-dicom-seg" / "look-first.csv"
    taken = {one.id: one for one in Images(tmp_path / "export", series=rule).sources()}
    assert read_csv(first)
    for one in images_for(first, ("image",)).sources():
        assert one == taken[one.id]


@pytest.mark.slow
def test_a_judge_that_never_scores_is_refused(tmp_path: Path) -> None:
    class Silent:
        needs_label = False

        def score(self, case: object, slate: segpref.Slate) -> np.ndarray:
            return np.full(slate.masks.shape[:2], np.nan)

    data = write_phantoms(tmp_path / "data", "chest", (32, 32), 6, seed=0)
    space = open_dataset(data).label_space
    assert space is not None
    preparation = Preparation(dims=2, size=(32, 32))
    model = untrained(tmp_path / "a.safetensors", space, preparation, 0)
    with pytest.raises(SegprefError, match="needs one that scores a mask by itself"):
        segpref.predict(
            model, data / "images", tmp_path / "masks", judge=Silent(), validation=data,
            report=tmp_path / "report", cache=tmp_path / "cache",
        )  # fmt: skip
    assert not (tmp_path / "masks").exists()


def test_an_ensemble_says_what_each_member_says(
    heart_base: Path, heart_judge: Path, hearts: object
) -> None:
    """Whole masks of a volume: the mean of the members' IoU, and their spread."""
    members = [load_model(path)[0] for path in (heart_base, heart_judge)]
    judge = EnsembleJudge(members, cache=Cache())
    judge.prepare(hearts)  # type: ignore[arg-type]
    case = hearts[0]  # type: ignore[index]
    masks = judge.predictions(case)
    found = judge.whole_scores([case], masks[:1], members[0].label_space)
    own = np.array([1.0, 1.0, 1.0])
    planes = members[0].label_space.structure_masks(masks, field_axis=1)
    both = (planes[0] & planes[1]).sum(axis=(1, 2))
    either = (planes[0] | planes[1]).sum(axis=(1, 2))
    other = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    assert found.score == pytest.approx((own + other) / 2)
    assert found.spread == pytest.approx(np.abs(own - other) / np.sqrt(2))
