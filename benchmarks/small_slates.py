"""How many candidates lean families need, on a small 3D problem (not part of ``make bench``; minutes).

Noisy volumes with a core in a rind; the base draws the core too small. It learns from the oracle on
patches, 20 updates. Per number of candidates and set of families: validation IoU at its best and after
the last epoch, mean and standard deviation over seeds, and the lowest of the last ones.

    python -m benchmarks.small_slates [--seeds 24]
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import torch

from segpref.data import Cache, Dataset, Folders, Preparation, prepare
from segpref.judges import OracleJudge
from segpref.policies import ModelCard, NetworkSpec, load_model, save_model
from segpref.progress import track
from segpref.proposals import NetworkProposal, SlateProposals, lean_families
from segpref.training import PreferenceSignal, RunFolder, align, fit
from segpref.types import LabelSpace

SPACE = LabelSpace("multi-class", ("background", "rind", "core"))
INPUT = Preparation(dims=3, normalise="z-score", patch=(16, 16, 8))
SPACING = (1.0, 1.0, 2.0)
SIZES = (12, 16, 24, 32)
NETWORK = {
    "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [6, 12], "strides": [2],
    "num_res_units": 1, "norm": "batch",
}  # fmt: skip


def volumes(root: Path, store: Cache) -> Dataset:
    """Nine volumes of three sizes."""
    rng = np.random.default_rng(0)
    for number in range(9):
        shape = np.array([(26, 22, 12), (20, 24, 10), (14, 20, 12)][number % 3])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * SPACING
        distance = np.linalg.norm(grid - shape * SPACING / 2 - rng.uniform(-2, 2, 3), axis=-1)
        label = ((distance < 7).astype(np.uint8) + (distance < 4)).astype(np.uint8)
        image = (1.0 * label + rng.normal(0, 0.7, shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (root / name).mkdir(exist_ok=True)
            made = nib.Nifti1Image(array, np.diag([*SPACING, 1]))
            made.header.set_xyzt_units("mm")
            nib.save(made, root / name / f"b{number}.nii.gz")
    return prepare(Folders(root, names=SPACE.names), INPUT, store)


def trained(dataset: Dataset, folder: RunFolder) -> Path:
    """A base that was trained on two volumes, and then made to draw the core too small."""
    card = ModelCard(
        NetworkSpec("monai.networks.nets.UNet", NETWORK), SPACE, INPUT, labelled=("b0", "b1")
    )
    fit(
        dataset.of_patients(["b0", "b1"]), dataset.of_patients(["b6"]), card, folder,
        epochs=60, images_per_epoch=4, batch_size=2, learning_rate=5e-3, seed=1,
    )  # fmt: skip
    model, card = load_model(folder.best)
    biases = [weight for weight in model.network.parameters() if weight.shape == (3,)]
    with torch.no_grad():
        biases[-1][2] -= 2.0
    path = folder.path / "biased.safetensors"
    save_model(path, model.network, card)
    return path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    views = lean_families(SPACE)  # those of 2D
    edits = [one for one in views if not isinstance(one, NetworkProposal)]
    sets: dict[str, Any] = {"paper": "paper", "views": views, "edits": edits}
    asked = [(size, name, seed) for size in SIZES for name in sets for seed in range(seeds)]
    found: dict[tuple[int, str], list[list[float]]] = {}
    with TemporaryDirectory() as place:
        root, store = Path(place), Cache(Path(place) / "cache")
        (root / "data").mkdir()
        dataset = volumes(root / "data", store)
        base = trained(dataset, RunFolder(root / "base"))
        pool = dataset.of_patients(["b3", "b4", "b5"])
        validation = dataset.of_patients(["b6", "b7", "b8"])
        for size, name, seed in track(asked, "Runs", total=len(asked)):
            run = RunFolder(root / f"{size} {name} {seed}")
            run.open({}, resume=False)
            align(
                base, pool, validation, OracleJudge(SPACE), PreferenceSignal(SPACE), run,
                proposals=SlateProposals(size, sets[name]), epochs=5, images_per_epoch=12,
                batch_size=3, learning_rate=3e-4, cache=store, seed=seed, proposal_precision="no",
            )  # fmt: skip
            curve = [float(row["val_iou"]) for row in run.read_metrics()]
            found.setdefault((size, name), []).append(curve)
    print(f"\n{'K':>3} {'families':9}{'before':>8}{'best':>16}{'last':>16}{'lowest':>8}")
    for (size, name), curves in found.items():
        best, last = [max(curve[1:]) for curve in curves], [curve[-1] for curve in curves]
        print(
            f"{size:3} {name:9}{curves[0][0]:8.3f}{mean(best):9.3f} ± {stdev(best):.3f}"
            f"{mean(last):9.3f} ± {stdev(last):.3f}{min(last):8.3f}"
        )


if __name__ == "__main__":
    main()
