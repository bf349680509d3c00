"""Figures of the study."""

from __future__ import annotations

import io

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segpref.policies import load_model
from segpref.policies.promptable import PromptablePolicy
from segpref.studies.charts import PALETTE
from segpref.studies.prompted.lab import PromptedLab
from segpref.studies.prompted.perform import BASE, FLIPPED, aligned_row, row_file
from segpref.studies.prompted.results import read_row

__all__ = ["examples", "flip_curves"]

_SHOWN = 6


def flip_curves(lab: PromptedLab) -> bytes | None:
    """Dice over the share of flips, by feedback and reduction; None where nothing is finished."""
    base, share = read_row(lab, BASE), max(lab.recipe.unlabelled)
    figure = Figure((4.0 * len(FLIPPED), 3.4), dpi=150, layout="constrained")
    drawn = False
    panels = figure.subplots(1, len(FLIPPED), sharey=True)
    for axes, kind in zip(panels, FLIPPED, strict=True):
        for number, how in enumerate(("image", "region")):
            points = []
            for rate in (0.0, *lab.recipe.flips):
                found = read_row(lab, aligned_row(share, kind, how, rate))
                if found is not None:
                    points.append((rate, found.mean("Dice")))
            if len(points) > 1:
                drawn = True
                axes.plot(*np.array(points).T, color=PALETTE[number], marker="o", label=how)
        if base is not None:
            axes.axhline(base.mean("Dice"), color="#808892", ls="--", label="no alignment")
        axes.set_title(kind)
        axes.set_xlabel("share of candidates that change places")
    panels[0].set_ylabel("Dice")
    panels[0].legend(frameon=False)
    return _png(figure) if drawn else None


def examples(lab: PromptedLab) -> bytes | None:
    """Test images with truth, box and points, and what base and aligned model draw; or None."""
    aligned = aligned_row(max(lab.recipe.unlabelled), "ranking", "region")
    if not (row_file(lab, 0, BASE).exists() and row_file(lab, 0, aligned).exists()):
        return None
    test = lab.fold(0).test.take(range(_SHOWN))
    outlines = []
    for row in (BASE, aligned):
        policy, _ = load_model(lab.folder(0) / row)
        assert isinstance(policy, PromptablePolicy)
        policy.prepare(test, lab.cache)
        images = torch.from_numpy(np.stack([case.image for case in test]))
        outlines.append((policy.logits(images)[:, 0] > 0).cpu().numpy())
        prompts = policy.prompts_for(images)
    figure = Figure((2 * _SHOWN, 2.4), dpi=150, layout="constrained")
    for number, (case, (prompt,)) in enumerate(zip(test, prompts, strict=True)):
        axes = figure.add_subplot(1, _SHOWN, number + 1)
        axes.imshow(case.image[0], cmap="gray")
        masks = (np.asarray(case.label)[0] == 1, *(rows[number] for rows in outlines))
        for mask, colour in zip(masks, ("white", PALETTE[1], PALETTE[2]), strict=True):
            if mask.any() and not mask.all():
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)
        if prompt.box is not None:
            left, top, right, bottom = prompt.box
            box = (left, top), right - left, bottom - top
            axes.add_patch(Rectangle(*box, fill=False, ls=":", color=PALETTE[4]))
        for x, y, _ in prompt.points:
            axes.plot(x, y, "+", color=PALETTE[4], ms=5)
        axes.set_axis_off()
    figure.suptitle(
        "white: truth; orange: no alignment; green: aligned; dots and crosses: what nobody drew",
        fontsize=9,
    )
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
