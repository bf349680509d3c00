"""Figures of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from segpref.late import late
from segpref.policies.promptable import load_promptable
from segpref.report.chart_parts import PALETTE, png_of
from segpref.report.views import plane_of
from segpref.studies.prompted.results import read_row
from segpref.studies.prompted.rows import FLIPPED, aligned_row, row_file
from segpref.studies.prompted.workspace import PromptedWorkspace

if TYPE_CHECKING:
    from matplotlib import figure as figures
    from matplotlib import patches
else:
    figures, patches = late("matplotlib.figure"), late("matplotlib.patches")

__all__ = ["examples", "flip_curves"]

_SHOWN = 6


def flip_curves(workspace: PromptedWorkspace) -> bytes | None:
    """Dice over the share of what is said wrongly, by reduction; None where nothing is finished."""
    recipe = workspace.recipe
    base = read_row(workspace, recipe.prompts[0])
    panels = [(f"{kind}, neighbours change places", kind, recipe.flips, 0) for kind in FLIPPED]
    panels += [("ranking, turned round", "ranking", recipe.reversals, 1)]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return None
    figure = figures.Figure((3.4 * len(panels), 3.4), dpi=150, layout="constrained")
    drawn = False
    (every,) = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axes, (title, kind, rates, noise) in zip(every, panels, strict=True):
        for number, how in enumerate(("image", "region")):
            points = []
            for rate in (0.0, *rates):
                said = (0.0, rate) if noise else (rate, 0.0)
                found = read_row(workspace, aligned_row(max(recipe.unlabelled), kind, how, *said))
                if found is not None:
                    points.append((rate, found.mean("Dice")))
            if len(points) > 1:
                drawn = True
                axes.plot(*np.array(points).T, color=PALETTE[number], marker="o", label=how)
        if base is not None:
            axes.axhline(base.mean("Dice"), color="#808892", ls="--", label="no alignment")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("how often")
    every[0].set_ylabel("Dice")
    every[0].legend(frameon=False)
    return png_of(figure) if drawn else None


def examples(workspace: PromptedWorkspace) -> bytes | None:
    """Test images with truth, box and points, and what base and aligned model draw; or None."""
    aligned = aligned_row(max(workspace.recipe.unlabelled), "ranking", "region")
    rows = workspace.recipe.prompts[0], aligned
    if not all(row_file(workspace, 0, row).exists() for row in rows):
        return None
    test = workspace.fold(0).test.take(range(_SHOWN))
    outlines = []
    for row in rows:
        policy, _ = load_promptable(workspace.folder(0) / row)
        policy.prepare(test, workspace.cache)
        images = torch.from_numpy(np.stack([case.image for case in test]))
        outlines.append((policy.logits(images)[:, 0] > 0).cpu().numpy())
        prompts = policy.prompts_for(images)
    figure = figures.Figure((2 * _SHOWN, 2.4), dpi=150, layout="constrained")
    for number, (case, (prompt,)) in enumerate(zip(test, prompts, strict=True)):
        axes = figure.add_subplot(1, _SHOWN, number + 1)
        axes.imshow(plane_of(case), cmap="gray")
        masks = (np.asarray(case.label)[0] == 1, *(drawn[number] for drawn in outlines))
        for mask, colour in zip(masks, ("white", PALETTE[1], PALETTE[2]), strict=True):
            if mask.any() and not mask.all():
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)
        if prompt.box is not None:
            left, top, right, bottom = prompt.box
            box = (left, top), right - left, bottom - top
            axes.add_patch(patches.Rectangle(*box, fill=False, ls=":", color=PALETTE[4]))
        for x, y, _ in prompt.points:
            axes.plot(x, y, "+", color=PALETTE[4], ms=5)
        axes.set_axis_off()
    figure.suptitle(
        "white: truth; orange: no alignment; green: aligned; dots and crosses: automatic prompts",
        fontsize=9,
    )
    return png_of(figure)
