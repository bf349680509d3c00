"""Short trainings of every kind on phantoms, whose results are on record.

Each takes seconds and needs nothing but a folder; run as a program, the module records them anew:
``PYTHONPATH=. python tests/baseline/runs.py``. A commit that changes the record says why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from records import Run, make_record

from segpref.cli.main import main
from segpref.data import Dataset, Preparation, Source, Volume
from segpref.data.phantoms import write_phantoms
from segpref.inference import LatentSampler
from segpref.judges import RatersJudge
from segpref.objectives import DPO
from segpref.policies import ModelCard, NetworkSpec, PolicySpec
from segpref.policies.diffusion import DIFFUSION, Sampler, SampleSlates
from segpref.preferences import Extremes
from segpref.training import PreferenceSignal, RunFolder, align, fit_ambiguous, fit_diffusion
from segpref.types import LabelSpace

RECORD = Path(__file__).with_name("record.json")

RUNS: dict[str, Run] = {}

HEART = ["--data_options", '{"patient_pattern": "(phantom\\\\d+)"}']


def unet(**changes: Any) -> str:
    arguments = {
        "spatial_dims": 2, "in_channels": None, "out_channels": None, "channels": [8, 16, 32],
        "strides": [2, 2], "num_res_units": 1, "dropout": 0.1, **changes,
    }  # fmt: skip
    return json.dumps({"module": "monai.networks.nets.UNet", "arguments": arguments})


def run(make: Run) -> Run:
    """Put a training on the list, under its name."""
    RUNS[make.__name__.replace("_", "-")] = make
    return make


def command(place: Path, name: str, out: str, *options: str) -> Path:
    """A command that makes a run folder, unless it is there."""
    if not (place / out / "summary.json").exists():
        paths = ["--out", str(place / out), "--cache", str(place / "cache")]
        assert main([name, *paths, *options]) == 0
    return place / out


SAME_EVERYWHERE = ("--proposal_precision", "no", "--families", "paper")
"""Some processors have bfloat16 and others don't; and these families need passes of every kind."""


def hearts(place: Path) -> list[str]:
    folder = place / "hearts"
    if not folder.exists():
        write_phantoms(folder, "cardiac", (48, 48), 12, seed=0, slices_per_patient=2)
    return ["--data", str(folder), *HEART]


def fit(place: Path, out: str, *options: str) -> Path:
    return command(
        place, "fit", out, *hearts(place), "--preparation.size", "[32, 32]", "--network", unet(),
        "--epochs", "2", "--images_per_epoch", "12", "--batch_size", "4", "--learning_rate", "0.02",
        *options,
    )  # fmt: skip


@run
def fit_2d(place: Path) -> Path:
    return fit(place, "base", "--labelled", "2", "--epochs", "20", "--images_per_epoch", "32",
               "--augment", "none")  # fmt: skip


@run
def fit_augmented(place: Path) -> Path:
    return fit(place, "augmented", "--labelled", "2")


@run
def fit_judge(place: Path) -> Path:
    split = str(fit_2d(place) / "split.json")
    return fit(place, "judge", "--split", split, "--part", "judge", "--dropout", "0.05",
               "--epochs", "20", "--images_per_epoch", "32", "--augment", "none")  # fmt: skip


@run
def fit_semisupervised(place: Path) -> Path:
    method = {"class_path": "segpref.training.semisupervised.UniMatch",
              "init_args": {"threshold": 0.5, "decay": 0.9}}  # fmt: skip
    return fit(place, "semisupervised", "--labelled", "2", "--method", json.dumps(method))


def aligned(place: Path, out: str, *options: str) -> Path:
    base, judge = fit_2d(place), fit_judge(place)
    return command(
        place, "align", out, *hearts(place), "--model", str(base), "--judge", str(judge),
        "--epochs", "2", "--images_per_epoch", "8", "--batch_size", "4", "--candidates", "10",
        "--learning_rate", "0.0005", *SAME_EVERYWHERE, *options,
    )  # fmt: skip


@run
def align_region(place: Path) -> Path:
    return aligned(place, "region")


@run
def align_image(place: Path) -> Path:
    return aligned(place, "image", "--reduction", "image")


@run
def align_refresh(place: Path) -> Path:
    return aligned(place, "refresh", "--refresh", "1", "--reference", "round")


@run
def align_calibrated(place: Path) -> Path:
    return aligned(place, "calibrated", "--method", "calibrated")


@run
def align_pseudo_label(place: Path) -> Path:
    return aligned(place, "pseudo-label", "--method", "pseudo-label")


@run
def align_control(place: Path) -> Path:
    return aligned(place, "control", "--control", "true", "--supervised", "0")


def chests(place: Path) -> list[str]:
    folder = place / "chests"
    if not folder.exists():
        write_phantoms(folder, "chest", (48, 48), 24, seed=0)
    return ["--data", str(folder)]


@run
def align_multi_label(place: Path) -> Path:
    base = command(
        place, "fit", "chest-base", *chests(place), "--preparation.size", "[32, 32]",
        "--network", unet(), "--labelled", "4", "--epochs", "6", "--images_per_epoch", "32",
        "--learning_rate", "0.02", "--augment", "photometric",
    )  # fmt: skip
    return command(
        place, "align", "chest", *chests(place), "--model", str(base), "--judge", "oracle",
        "--epochs", "2", "--images_per_epoch", "8", "--batch_size", "4", "--candidates", "10",
        "--learning_rate", "0.0005", *SAME_EVERYWHERE,
    )  # fmt: skip


def balls(place: Path) -> list[str]:
    """Volumes of several sizes with a ball within a ball."""
    folder = place / "balls"
    rng = np.random.default_rng(0)
    for number in range(8) if not folder.exists() else ():
        shape = np.array([22 + number % 3, 20, 10])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * (1, 1, 2)
        distance = np.linalg.norm(grid - shape * (0.5, 0.5, 1) - rng.uniform(-2, 2, 3), axis=-1)
        label = (distance < 7).astype(np.uint8) + (distance < 4)
        image = (label + rng.normal(0, 0.4, shape)).astype(np.float32)
        for part, array in (("images", image), ("labels", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            volume = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0]))
            nib.save(volume, folder / part / f"p{number}.nii.gz")
    return ["--data", str(folder), "--data_options", '{"names": ["background", "rind", "core"]}']


@run
def fit_3d_patch(place: Path) -> Path:
    return command(
        place, "fit", "ball-base", *balls(place), "--preparation.dims", "3",
        "--preparation.size", "null", "--preparation.patch", "[16, 16, 8]",
        "--preparation.normalise", "z-score",
        "--network", unet(spatial_dims=3, channels=[4, 8], strides=[2]), "--labelled", "2",
        "--epochs", "3",
        "--images_per_epoch", "8", "--batch_size", "2", "--learning_rate", "0.02",
    )  # fmt: skip


@run
def align_3d_patch(place: Path) -> Path:
    return command(
        place, "align", "ball", *balls(place), "--model", str(fit_3d_patch(place)),
        "--judge", "oracle", "--epochs", "2", "--images_per_epoch", "4", "--batch_size", "2",
        "--candidates", "10", "--learning_rate", "0.0005", *SAME_EVERYWHERE,
    )  # fmt: skip


SAM = {"side": 32, "patch": 4, "width": 32, "layers": 2, "heads": 2, "prompt_width": 32}


@run
def align_promptable(place: Path) -> Path:
    folder = place / "discs"
    if not folder.exists():
        write_phantoms(folder, "chest", (32, 32), 12, seed=1)
    data = ["--data", str(folder)]
    network = {"class_path": "segpref.policies.promptable.small_sam", "init_args": SAM}
    prompter = {"class_path": "segpref.prompts.WholeImage", "init_args": {"structures": 5}}
    base = command(
        place, "fit", "promptable-base", *data, "--preparation.size", "[32, 32]",
        "--preparation.normalise", "percentile", "--promptable", json.dumps(network),
        "--prompter", json.dumps(prompter), "--labelled", "4", "--epochs", "1",
        "--images_per_epoch", "4", "--batch_size", "2",
    )  # fmt: skip
    return command(
        place, "align", "promptable", *data, "--model", str(base), "--judge", "oracle",
        "--epochs", "2", "--images_per_epoch", "4", "--batch_size", "2",
        "--feedback.kind", "ranking",
    )  # fmt: skip


def squares(patients: range) -> Dataset:
    """A bright square per patient, outlined by two raters; the second draws it larger."""
    volumes = []
    for number in patients:
        rng = np.random.default_rng(number)
        raters = np.zeros((1, 2, 1, 16, 16), np.uint8)
        y, x = rng.integers(2, 8, 2)
        raters[0, 0, 0, y : y + 5, x : x + 5] = 1
        raters[0, 1, 0, y - 1 : y + 6, x - 1 : x + 6] = 1
        image = raters[:, 0] + 0.05 * rng.standard_normal((1, 1, 16, 16))
        source = Source(
            id=f"n{number}", patient=f"p{number}", images=(Path("none"),), text="Sharp."
        )
        pixels = image.astype(np.float32)
        volumes.append(Volume(source, {}, pixels, raters[:, 0], None, raters=raters))
    return Dataset(volumes, LabelSpace("multi-label", ("square",)))


@run
def align_diffusion(place: Path) -> Path:
    arguments = {
        "channels": [8, 16], "cross": 16, "heads": 2, "latent": 2, "latent_channels": 8,
        "text_encoder": None, "middle_attention": False, "attention": [False, False],
    }  # fmt: skip
    pool, validation = squares(range(6)), squares(range(10, 12))
    card = ModelCard(
        network=NetworkSpec("segpref.policies.diffusion.AmbiSegNetwork", arguments),
        label_space=pool.label_space,
        preparation=Preparation(crop=(16, 16)),
        labelled=pool.patients,
        policy=DIFFUSION,
    )
    base, tuned = RunFolder(place / "diffusion-base"), RunFolder(place / "diffusion")
    if not base.finished:
        base.open({}, resume=False)
        fit_diffusion(
            list(pool), list(validation), card, base, epochs=1, images_per_epoch=12, batch_size=4,
            validation_samples=2, validation_sampler=Sampler(steps=2), learning_rate=1e-3,
        )  # fmt: skip
    if not tuned.finished:
        tuned.open({}, resume=False)
        judge = RatersJudge(pool.label_space, "mean", "dice")
        align(
            base.path, pool, validation, judge,
            PreferenceSignal(pool.label_space, Extremes(0.001), DPO(2000.0)), tuned,
            proposals=SampleSlates(4, sampler=Sampler(steps=2)), epochs=2, images_per_epoch=4,
            batch_size=2, learning_rate=1e-4,
        )  # fmt: skip
    return tuned.path


@run
def align_latent(place: Path) -> Path:
    arguments = {"channels": [8, 16], "features": 8, "latent": 2, "latent_channels": 8}
    pool, validation = squares(range(6)), squares(range(10, 12))
    card = ModelCard(
        network=NetworkSpec("segpref.networks.ProbabilisticUNet", arguments),
        label_space=pool.label_space,
        preparation=Preparation(crop=(16, 16)),
        policy=PolicySpec("segpref.policies.LatentSegmenter"),
    )
    base, tuned = RunFolder(place / "latent-base"), RunFolder(place / "latent")
    if not base.finished:
        base.open({}, resume=False)
        fit_ambiguous(
            list(pool), list(validation), card, base, epochs=1, images_per_epoch=32, batch_size=4,
            validation_samples=2, learning_rate=1e-2, average=0.0,
        )  # fmt: skip
    if not tuned.finished:
        tuned.open({}, resume=False)
        judge = RatersJudge(pool.label_space, "mean", "dice")
        align(
            base.path, pool, validation, judge,
            PreferenceSignal(pool.label_space, Extremes(0.001), DPO(2.0)), tuned,
            proposals=SampleSlates(4, sampler=LatentSampler()), epochs=2, images_per_epoch=4,
            batch_size=2, learning_rate=1e-3,
        )  # fmt: skip
    return tuned.path


STUDY: dict[str, Any] = {
    "name": "four-tasks",
    "description": "a base, a judge, an audit and a run",
    "split": {"judge": 2, "validation": 2, "test": 2},
    "preparation": {"dims": 2, "size": [32, 32]},
    "network": json.loads(unet()),
    "bases": {"weak": {"labelled": 2, "epochs": 20, "images_per_epoch": 32, "learning_rate": 0.01}},
    "judges": {
        "weak": {
            "class_path": "segpref.studies.judging.ModelBased",
            "init_args": {
                "train_on": {
                    "labelled": 2, "epochs": 20, "images_per_epoch": 32, "learning_rate": 0.01,
                }
            },
        }
    },
    "align": {
        "epochs": 1, "images_per_epoch": 4, "batch_size": 2, "candidates": 10,
        "proposal_precision": "no", "families": "paper",
    },
    "methods": {"RN-DPO": {"reduction": "region"}},
    "seeds": [0],
}  # fmt: skip


@run
def study(place: Path) -> Path:
    out, recipe = place / "study", place / "four-tasks.yaml"
    recipe.write_text(yaml.safe_dump(STUDY))
    if not (out / "tables.csv").exists():
        paths = ["--out", str(out), "--cache", str(place / "cache"), "--workers", "0"]
        assert main(["study", "--recipe", str(recipe), *hearts(place), *paths]) == 0
    return out / "seed-0" / "runs" / "weak" / "weak" / "rn-dpo"


if __name__ == "__main__":
    make_record(RECORD, RUNS, sys.argv[1:])
