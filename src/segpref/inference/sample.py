"""Many masks of new images, with their mean, majority vote and uncertainty, on the images' voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8

from segpref.data.images import images_for
from segpref.data.source import Source
from segpref.data.volumes import file_stem, is_nifti
from segpref.inference.export import write_map, write_mask
from segpref.inference.predict import (
    check_case,
    check_output,
    decoded,
    each_image,
    like,
    mask_name,
    restored,
)
from segpref.inference.samples import soft_samples, summarise
from segpref.policies import ModelCard, read_card
from segpref.policies.diffusion import (
    Denoiser,
    Sampler,
    between,
    is_diffusion,
    load_diffusion,
)
from segpref.types import Case, SegprefError

__all__ = ["Drawer", "open_drawer", "sample_folder"]


@dataclass(frozen=True)
class Drawer:
    """Draws masks of whole images.

    Args:
        model: a diffusion model, or a blend of two.
        card: how images become its input.
        sampler: draws samples.
    """

    model: Denoiser
    card: ModelCard
    sampler: Sampler = field(default_factory=Sampler)

    def __call__(
        self, case: Case, count: int, text: str | None = None, seed: int = 0
    ) -> UInt8[np.ndarray, "N field *space"]:
        """``count`` masks of one image on the image's own voxels.

        Samples, not masks, are brought back to the image's grid, and cut there. Beyond the card's crop
        everything is background. All slices of a volume share the noise of sample n, and with it the
        latent that stands for the rater.

        Args:
            case: the whole image as it is on disk; a label is not looked at.
            count: samples N.
            text: one prompt for all samples; none where None.
            seed: of the noise, together with the case's id.

        Raises:
            SegprefError: an image that does not suit the model.
        """
        check_case(self.card, case)
        case = replace(case, label=None, raters=None, text=None)
        items = self.card.preparation.apply(case).images
        slices = [replace(case, image=image) for image in items]
        soft = torch.stack(
            list(soft_samples(self.model, slices, count, self.sampler, seed, text)), dim=1
        )
        signed = soft - self.sampler.threshold
        return np.stack(
            [decoded(restored(one, self.card, case), self.card.label_space) for one in signed]
        )


def open_drawer(
    model: Path | str,
    sampler: Sampler | None = None,
    reference: Path | str | None = None,
    knob: float = 1.0,
    mixed: Literal["weights", "predictions"] = "weights",
) -> Drawer:
    """What draws masks, from model files.

    Args:
        model: file or run folder of a diffusion model.
        sampler: draws samples; 15 steps of DPM-Solver++ where None.
        reference: the model that an alignment began with; needed for a knob other than 1.
        knob: w, from the reference (0) to the model (1) and beyond.
        mixed: what the knob mixes, see :func:`~segpref.policies.diffusion.between`.

    Raises:
        SegprefError: no diffusion model, or a knob without a reference.
    """
    for path in (model, reference):
        if path is not None and not is_diffusion(read_card(Path(path))):
            raise SegprefError(
                f"{path} predicts one mask and draws none: use `segpref predict`, or name a diffusion "
                "model"
            )
    if knob != 1 and reference is None:
        raise SegprefError(
            f"a knob of {knob:g} lies between two models: give --reference, the model that the "
            "alignment began with"
        )
    aligned, card = load_diffusion(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    aligned.network.to(device)
    if reference is None:
        return Drawer(aligned, card, sampler or Sampler())
    start, _ = load_diffusion(reference, aligned.encoder)
    start.network.to(device)
    return Drawer(between(start, aligned, knob, mixed), card, sampler or Sampler())


def sample_folder(
    drawer: Drawer,
    images: Path | str,
    output: Path | str,
    *,
    count: int = 16,
    text: str | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write masks of an image, or of every image in a folder, with the geometry of its input.

    Every image gets a folder of its own name in ``output`` with ``sample-01``, ..., their ``majority``
    vote, their ``mean`` (share of the samples) and ``uncertainty`` (entropy of that share in bits, 0 to
    1), each with the structure's name. Masks keep the format of the image as
    :func:`~segpref.inference.predict.predict_folder` does; mean and uncertainty are NIfTI, or TIFF
    where the image is a picture. What is there is written anew.

    Args:
        drawer: draws the masks.
        images: an image file, the folder of a DICOM series, or a folder of images or series.
        output: folder of the masks, not one of images; made if it is not there.
        count: samples N of every image.
        text: one prompt for all samples; none where None.
        seed: of the noise; the same seed gives the same samples, and more of them leave the first ones.

    Returns:
        The files that were written.

    Raises:
        SegprefError: no images, or no place for masks; or, after all others are written, images that
            could not be segmented, with the reasons.
    """
    reader, output = images_for(images, drawer.card.channels), Path(output).expanduser()
    check_output(output, reader, Path(images).expanduser())
    if count < 1:
        raise SegprefError(f"at least one sample of every image is due, not {count}")
    if text is not None and drawer.card.network.arguments.get("text_encoder", ...) is None:
        raise SegprefError("this model was trained without text: leave --text out")
    todo = [(source, output / mask_name(source)) for source in reader.sources()]
    space = drawer.card.label_space

    def make(source: Source, path: Path, case: Case) -> Sequence[Path]:
        masks = drawer(case, count, text, seed)
        summary, shape = summarise(masks), like(source, case)
        stem = file_stem(path)
        folder, ending = path.parent / stem, path.name[len(stem) :]
        digits = max(2, len(str(count)))
        written: list[Path] = []
        for number, mask in enumerate(masks, start=1):
            name = f"sample-{number:0{digits}d}{ending}"
            written += write_mask(folder / name, mask, space, shape)
        written += write_mask(folder / f"majority{ending}", summary.majority, space, shape)
        kept = ending if is_nifti(path) else ".tif"
        written += write_map(folder / f"mean{kept}", summary.mean, space, shape)
        written += write_map(folder / f"uncertainty{kept}", summary.uncertainty, space, shape)
        return written

    return each_image(reader, todo, make, output)
