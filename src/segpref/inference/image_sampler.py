"""Samples masks of whole images with a diffusion model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from segpref.data.orientation import orientation_of, turned, turned_back
from segpref.data.preparation import Preparation
from segpref.data.prompts import nodule_prompt
from segpref.inference.decoding import check_case, decoded, restored
from segpref.inference.samples import soft_samples
from segpref.policies import ModelCard, read_card
from segpref.policies.diffusion import (
    Denoiser,
    Sampler,
    between,
    is_diffusion,
    load_diffusion,
)
from segpref.types import Case, SegprefError

__all__ = ["ImageSampler", "open_image_sampler"]

_TYPICAL = {
    "subtlety": 5, "internalStructure": 1, "calcification": 6, "sphericity": 4, "margin": 4,
    "lobulation": 1, "spiculation": 1, "texture": 5, "malignancy": 3,
}  # fmt: skip


@dataclass(frozen=True)
class ImageSampler:
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
        self,
        case: Case,
        count: int,
        text: str | None = None,
        seed: int = 0,
        centre: tuple[float, float] | None = None,
    ) -> UInt8[np.ndarray, "N field *space"]:
        """``count`` masks of one image on the image's own voxels.

        Samples, not masks, are brought back to the image's grid, and cut there. Beyond the card's crop
        everything is background. All slices of a volume share the noise of sample n, and with it
        the latent that represents the rater.

        Args:
            case: the whole image as it is on disk; a label is not looked at.
            count: samples N.
            text: one prompt for all samples; none where None.
            seed: of the noise, together with the case's id.
            centre: (x, y) of the pixel that the card's crop lies about; the image's middle where None.

        Raises:
            SegprefError: an image, text or centre that does not suit the model.
        """
        self.check(text, centre)
        check_case(self.card, case)
        own, codes = case, self.turns(case, centre)
        case = turned(replace(case, label=None, raters=None, text=None), codes)
        card = self._placed(case, centre)
        items = card.preparation.apply(case).images
        slices = [replace(case, image=image) for image in items]
        soft = torch.stack(
            list(soft_samples(self.model, slices, count, self.sampler, seed, text)), dim=1
        )
        signed = soft - self.sampler.threshold
        masks = np.stack([decoded(restored(one, card, case), card.label_space) for one in signed])
        if codes is not None:
            flat = torch.from_numpy(masks.reshape(-1, *case.image.shape[1:]))
            back = turned_back(flat, own, codes).numpy()
            masks = back.reshape(*masks.shape[:2], *own.image.shape[1:])
        masks *= self.seen(own, centre)
        return masks

    def turns(self, case: Case, centre: tuple[float, float] | None = None) -> str | None:
        """Where the axes of an image are turned to, as in training; None where they stay.

        Raises:
            SegprefError: it is turned, and a centre was given on its own axes.
        """
        own, wanted = orientation_of(case), self.card.orientation
        if wanted is None or own in (None, wanted):
            return None
        if centre is not None:
            raise SegprefError(
                f"{case.id} has axes that point to {own}, and in training they pointed to {wanted}, so "
                f"it is turned and --centre would be another place: turn the image to {wanted}, or "
                "leave --centre out"
            )
        return wanted

    def seen(
        self, case: Case, centre: tuple[float, float] | None = None
    ) -> Bool[np.ndarray, "*space"]:
        """Which voxels of an image lie within the card's crop; all of them without one.

        Args:
            case: the whole image as it is on disk.
            centre: as where masks are drawn.

        Raises:
            SegprefError: a centre outside the image.
        """
        preparation = self._placed(case, centre).preparation
        if preparation.crop is None:
            return np.ones(case.image.shape[1:], bool)
        # By the way of the masks themselves, so that both end at the same voxel.
        assert isinstance(preparation, Preparation)
        size, own, codes = preparation.size or preparation.crop, case, self.turns(case, centre)
        case = turned(replace(case, label=None, raters=None), codes)
        inside = torch.ones(preparation.count(case), 1, *size)
        within = preparation.restore(inside, case, torch.tensor([-1.0])) > 0
        return turned_back(within, own, codes)[0].numpy()

    def check(self, text: str | None, centre: tuple[float, float] | None = None) -> None:
        """Refuse a text, or none, or a centre, that the model was not made for.

        Raises:
            SegprefError: text for a model without, none for one that always had one, or a centre for
                one that sees whole images.
        """
        if text is not None and not self.model.takes_text:
            raise SegprefError("this model was trained without text: leave --text out")
        if text is None and self.model.needs_text:
            example = f'--text "{nodule_prompt(_TYPICAL)}"'
            raise SegprefError(
                "this model was always given a text in training: describe the image in the words "
                "of its training"
                f" (of nodules of LIDC {example}, say), or train it with text_dropout"
            )
        if centre is not None and self.card.preparation.crop is None:
            raise SegprefError("this model sees whole images: leave --centre out")

    def _placed(self, case: Case, centre: tuple[float, float] | None) -> ModelCard:
        """The card, its crop about the centre."""
        if centre is None:
            return self.card
        # Without an affine it is a picture, whose axes are row and column.
        place = centre[::-1] if case.affine is None else centre
        shape = case.image.shape[1:3]
        if not all(-0.5 <= p <= n - 0.5 for p, n in zip(place, shape, strict=True)):
            wide, high = shape[::-1] if case.affine is None else shape
            raise SegprefError(
                f"{case.id} has {wide} x {high} pixels, which do not include ({centre[0]:g}, "
                f"{centre[1]:g}):"
                " give --centre as x and y of one of them, counted from 0"
            )
        preparation = self.card.preparation
        # Diffusion models are prepared for by segpref's own preparation.
        assert isinstance(preparation, Preparation)
        return replace(self.card, preparation=preparation.around(place))


def open_image_sampler(
    model: Path | str,
    sampler: Sampler | None = None,
    reference: Path | str | None = None,
    knob: float = 1.0,
    mixed: Literal["weights", "predictions"] = "weights",
    trust: bool = False,
) -> ImageSampler:
    """What draws masks, from model files.

    Args:
        model: file or run folder of a diffusion model.
        sampler: draws samples; 15 steps of DPM-Solver++ where None.
        reference: the model that an alignment began with; needed for a knob other than 1.
        knob: w, from the reference (0) to the model (1) and beyond.
        mixed: what the knob mixes, see :func:`~segpref.policies.diffusion.between`.
        trust: whether the files may name any class, and a text encoder that is downloaded.

    Raises:
        SegprefError: no diffusion model, a knob without a reference, or steps that its solver does not
            take.
    """
    for path in (model, reference):
        if path is not None and not is_diffusion(read_card(Path(path), trust)):
            raise SegprefError(
                f"{path} predicts one mask and draws no samples: use `segpref predict`, or name a "
                f"diffusion "
                "model"
            )
    if knob != 1 and reference is None:
        raise SegprefError(
            f"a knob of {knob:g} lies between two models: give --reference, the model that the "
            "alignment began with"
        )
    aligned, card = load_diffusion(model, trust=trust)
    sampler = sampler or Sampler()
    # Wrong steps or solvers are told before an image is read.
    aligned.process.scheduler(sampler.solver, sampler.steps)
    if reference is None:
        return ImageSampler(aligned, card, sampler)
    start, _ = load_diffusion(reference, aligned.encoder, trust=trust)
    return ImageSampler(between(start, aligned, knob, mixed), card, sampler)
