"""`segpref sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from segpref.folder_kinds import refuse_other_kind
from segpref.inference.image_sampler import open_image_sampler
from segpref.inference.sample import sample_folder
from segpref.policies.diffusion import Sampler, Solver
from segpref.progress import console
from segpref.targets import check_outputs
from segpref.workflows.options import SeriesOptions, Trust

__all__ = ["EXAMPLES", "sample"]

EXAMPLES = """\
  segpref sample --model MODEL --input IMAGES --output masks
  segpref sample --model MODEL --input IMAGES --output masks --text "The Margin is Sharp."
  segpref sample --model MODEL --reference BASE --knob 0.5 --input image.png --output masks
"""


def sample(
    model: Path,
    input: Path,
    output: Path,
    settings: dict[str, Any],
    opening: Trust,
    exports: SeriesOptions,
    text: str | None = None,
    centre: tuple[float, float] | None = None,
    samples: int = 16,
    solver: Solver = "dpm-solver++",
    steps: int = 15,
    threshold: float = 0.0,
    batch_size: int = 64,
    seed: int = 0,
    reference: Path | None = None,
    knob: float = 1.0,
    mixed: Literal["weights", "predictions"] = "weights",
) -> None:
    """Draw several masks of new images from a diffusion model, with mean, majority and uncertainty.

    Args:
        model: file or run folder of a diffusion model.
        input: an image, the folder of a DICOM series, a folder of images or series, a table of images
            (.csv or .parquet), or a folder written by segpref pack.
        output: folder for the masks; each image gets a folder of its own there.
        settings: the resolved options.
        opening: what may be opened.
        exports: which DICOM series are images.
        text: describes the image in the words that the model was trained with, such as "The Margin is
            Sharp."; optional for models that were trained with text_dropout.
        centre: where a model that sees a crop should look in every image, --centre "[x, y]"; in the
            middle if left out. In pixels from 0, as a viewer shows them: column and row of a picture,
            the first two voxel indices of NIfTI and DICOM series. Beyond the crop masks are empty, mean
            and uncertainty NaN.
        samples: number of masks per image.
        solver: dpm-solver++ or unipc (10 to 20 steps are enough), ddim (100) or ddpm (1000).
        steps: passes of the network per sample; time grows with it. For ddim a divisor of the 1000
            (or however many) steps of the process.
        threshold: samples above it are foreground; they lie around -1 and +1.
        batch_size: samples that are denoised together.
        seed: the same seed gives the same masks.
        reference: file or run folder of the model that an alignment began with; needed for --knob.
        knob: interpolation weight: 0 is the reference (more diverse), 1 the aligned model (more
            accurate), 0.5 halfway; 1.5 extrapolates.
        mixed: what is interpolated: weights cost nothing, predictions need both networks at every step.

    """
    check_outputs(folders=[output.expanduser()])
    refuse_other_kind(output.expanduser(), None)
    sampler = Sampler(solver, steps, threshold=threshold, batch_size=batch_size)
    image_sampler = open_image_sampler(model, sampler, reference, knob, mixed, opening.trust)
    written = sample_folder(
        image_sampler,
        input,
        output,
        count=samples,
        text=text,
        seed=seed,
        centre=centre,
        series=exports.series,
    )
    console.print(
        f"{output}: {len(written)} files written, {samples} samples of every image",
        highlight=False,
        soft_wrap=True,
    )
