"""The slate of one validation image of `segpref demo`, as one picture for the documentation.

segpref demo --out runs/demo
python -m benchmarks.slate_picture runs/demo docs/results/phantoms/slate.png
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from segpref.data import Cache, Folders, write_atomically
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.inference import whole_images
from segpref.policies import load_model
from segpref.preferences import TopVsRandom
from segpref.report import Picture, SlatePicture, slate_tiles, typical
from segpref.studies import Workspace, load_recipe, scored_slates

SEED, CANDIDATES, COLUMNS = 0, 32, 8


def main(demo: Path, file: Path) -> None:
    """Draw the slate that the demo's base makes and its judge ranks.

    Args:
        demo: folder of a finished demo on phantoms.
        file: PNG that is written.
    """
    recipe, _ = load_recipe("phantoms")
    names = ("background", "RV", "MYO", "LV")
    reader = Folders(demo / "data", names=names, patient_pattern=PATIENT_PATTERN)
    workspace = Workspace(recipe, reader, demo, Cache(demo / "cache"))
    (base,), (judge,) = recipe.bases, recipe.judges
    policy, card = load_model(workspace.base_folder(SEED, base))
    case = typical(workspace.validation(SEED), 8).take([6])
    whole = whole_images([policy], card.preparation)
    chosen = workspace.judge(SEED, base, judge)
    (scored,) = scored_slates(whole, case, chosen, workspace.slates(CANDIDATES), SEED)
    scores = scored.scores[:, 0]
    pairs = TopVsRandom()(scores, np.random.default_rng(SEED))
    shown = SlatePicture(
        name=scored.case.id,
        image=np.asarray(scored.case.image),
        slate=scored.slate,
        scores=scores,
        label_space=workspace.dataset.label_space,
        pair=(int(pairs[0, 0]), int(pairs[0, 1])) if len(pairs) else None,
        truth=None if scored.case.label is None else np.asarray(scored.case.label),
        spacing_mm=scored.case.spacing_mm,
    )
    write_atomically(file, _grid(slate_tiles(shown)))


def _grid(tiles: tuple[Picture, ...]) -> bytes:
    rows = -(-len(tiles) // COLUMNS)
    figure = Figure((1.25 * COLUMNS, 1.5 * rows), dpi=125, layout="constrained")
    for axes, tile in zip(figure.subplots(rows, COLUMNS).flat, tiles, strict=True):
        axes.imshow(np.asarray(Image.open(io.BytesIO(tile.png)).convert("RGB")))
        axes.set_axis_off()
        family = tile.caption.partition(" (")[0]
        colour = "#8f3b00" if tile.badge else "#1b2430"
        told = f"score {tile.title}  {tile.badge}".rstrip()
        axes.text(0, -0.04, family, fontsize=6.5, va="top", transform=axes.transAxes)
        axes.text(0, -0.15, told, fontsize=6.5, va="top", color=colour, transform=axes.transAxes)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    picture = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small = io.BytesIO()
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
