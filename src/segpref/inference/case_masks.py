"""The mask of one image on its own voxels: prepared, turned as in training, predicted, brought back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from segpref.data.orientation import orientation_of, turned, turned_back
from segpref.data.preparation import Preparation
from segpref.data.prepared import check_prepared
from segpref.inference.propagation import propagate
from segpref.inference.sliding import WindowedNetwork
from segpref.inference.windows import WholeNetwork, whole_network
from segpref.policies import ModelCard
from segpref.policies.capabilities import CasePredictor
from segpref.progress import console
from segpref.prompts import Prompt, PromptedModel
from segpref.types import Case, LabelSpace, Predictor, SegprefError

__all__ = ["CaseMasks", "check_case", "decoded", "predict_case", "restored"]

log = logging.getLogger(__name__)

Network = WindowedNetwork | WholeNetwork | CasePredictor

_BEYOND = 0.05
"""Share by which a voxel size may lie outside those of the training before it is said."""


class CaseMasks:
    """Masks of whole images as they are on disk.

    A volume whose axes point elsewhere than those of the training is turned, and its mask turned back;
    that is printed once for each direction, as is a voxel size that the training has not seen.

    Args:
        network: of the model, see :func:`~segpref.inference.windows.whole_network`.
        card: of the model.
        reorient: whether volumes are turned as in training; otherwise they are used unchanged.
    """

    def __init__(self, network: Network, card: ModelCard, reorient: bool = True) -> None:
        self.card = card
        self._network, self._reorient = network, reorient
        self._said: set[object] = set()

    def __call__(
        self, case: Case, name: object = None, turn: bool = True
    ) -> UInt8[np.ndarray, "field *space"]:
        """The mask of an image; a label is not looked at.

        Args:
            case: the whole image.
            name: what messages call it; its id where None.
            turn: whether the volume may be turned; not if somebody drew prompts on it.
        """
        name = case.id if name is None else name
        if turn:
            seen, codes = self._as_trained(case, name)
        else:
            seen, codes = case, None
            self._warn_of_prompted(case, name)
        return _back(_mask(self._network, self.card, seen, name), case, codes)

    def seen(self, case: Case) -> Bool[np.ndarray, "*space"]:
        """Which voxels of an image lie within the preparation's crop; all of them without one."""
        preparation = self.card.preparation
        if preparation.crop is None or not isinstance(preparation, Preparation):
            return np.ones(case.image.shape[1:], bool)
        own, wanted = case, self.card.orientation
        codes = wanted if self._reorient and orientation_of(case) not in (None, wanted) else None
        case = turned(replace(case, label=None, raters=None), codes)
        size = preparation.size or preparation.crop
        # By the way of the masks themselves, so that both end at the same voxel.
        inside = torch.ones(preparation.count(case), 1, *size)
        within = preparation.restore(inside, case, torch.tensor([-1.0])) > 0
        return turned_back(within, own, codes)[0].numpy()

    def carried(
        self,
        model: PromptedModel,
        case: Case,
        name: object,
        prompts: Sequence[Prompt] | None = None,
        at: int | None = None,
    ) -> UInt8[np.ndarray, "field *space"]:
        """The mask of a volume whose prompts are carried from slice to slice.

        Args:
            model: that is asked.
            case: the whole volume.
            name: what messages call it.
            prompts: drawn on the volume as it is on disk, which then is not turned; the model's own
                where None.
            at: the slice that they are drawn on.
        """
        check_case(self.card, case)
        if at is None:
            seen, codes = self._as_trained(case, name)
        else:
            seen, codes = case, None
            self._warn_of_prompted(case, name)
        images = self.card.preparation.apply(replace(seen, label=None, raters=None)).images
        check_prepared(images, name)
        logits = propagate(model, torch.from_numpy(images), prompts or None, at)
        mask = decoded(restored(_finite(logits, name), self.card, seen), self.card.label_space)
        return _back(mask, case, codes)

    def _as_trained(self, case: Case, name: object) -> tuple[Case, str | None]:
        """The case with its axes as in training, and where they point to if they were turned."""
        own, wanted = orientation_of(case), self.card.orientation
        seen, codes = case, None
        turns = wanted is not None and self._reorient and case.image.ndim == 4
        if turns and own is None:
            self._say("axes", f"{name} does not say where its axes point to: {wanted} is assumed")
        elif turns and own != wanted:
            seen, codes = turned(replace(case, label=None, raters=None), wanted), wanted
            self._say(
                own,
                f"{name} has axes that point to {own}: it is turned to {wanted}, as in training, and "
                "its mask turned back",
            )
        elif wanted is None and own is not None and _axes_matter(self.card):
            self._say(
                own,
                f"{name} has axes that point to {own}, but the model does not say where they pointed "
                "to in training: it is used unchanged",
            )
        self._warn_of_spacing(seen, name)
        return seen, codes

    def _warn_of_prompted(self, case: Case, name: object) -> None:
        own, wanted = orientation_of(case), self.card.orientation
        if None not in (own, wanted) and own != wanted:
            self._say(
                own,
                f"{name} has axes that point to {own}, and in training they pointed to {wanted}: it is "
                "not turned, for prompts were drawn on it",
            )

    def _warn_of_spacing(self, case: Case, name: object) -> None:
        known = self.card.spacing_range_mm
        if known is None or case.spacing_mm is None or self.card.preparation.spacing_mm is not None:
            return
        outside = any(
            not low * (1 - _BEYOND) <= step <= high * (1 + _BEYOND)
            for step, (low, high) in zip(case.spacing_mm, known, strict=False)
        )
        if outside and case.spacing_mm not in self._said:
            self._said.add(case.spacing_mm)
            log.warning(
                "%s has voxels of %s mm, outside what the model was trained with (%s mm): its mask may "
                "be worse than on such images.",
                name,
                " x ".join(f"{step:.3g}" for step in case.spacing_mm),
                " x ".join(
                    f"{low:.3g}" if high - low < 0.01 * high else f"{low:.3g} to {high:.3g}"
                    for low, high in known
                ),
            )

    def _say(self, what: object, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            console.print(f"{text}.", highlight=False, soft_wrap=True)


def _axes_matter(card: ModelCard) -> bool:
    """Whether nothing but the images themselves says how the network wants its axes."""
    return isinstance(card.preparation, Preparation) and card.preparation.orientation is None


def predict_case(
    model: Predictor,
    card: ModelCard,
    case: Case,
    *,
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    batch_size: int = 8,
) -> UInt8[np.ndarray, "field *space"]:
    """Mask of one image on the image's own voxels.

    The image is prepared as the model's card says, the logits (not the mask) are brought back to the
    image's grid, and decoded there. Beyond the card's crop everything is background.

    Args:
        model: what predicts.
        card: its card.
        case: the whole image as it is on disk; a label is not looked at.
        patch: voxels of the windows that slide over images larger than that, blended with Gaussian
            weights; smaller images are padded. Without it the network sees the whole image.
        overlap: of neighbouring windows, as a share of the patch.
        batch_size: slices (2D) or windows that go through the network at once.

    Returns:
        uint8 of the shape of ``case.image`` with fields in place of channels.

    Raises:
        SegprefError: another number of channels or axes than the model's, no voxel size where it
            resamples, or a size that its network can't take.
    """
    form, mirroring = card.preparation, card.mirroring
    network = whole_network([model], form, mirroring, patch, overlap, batch_size)
    return CaseMasks(network, card)(case)


def _mask(
    network: Network, card: ModelCard, case: Case, name: object
) -> UInt8[np.ndarray, "f *space"]:
    check_case(card, case)
    case = replace(case, label=None, raters=None)
    if isinstance(network, CasePredictor):
        return network.mask(case)
    preparation, space = card.preparation, card.label_space
    if isinstance(preparation, Preparation) and (codes := preparation.orientation):
        # Slices lie along the last axis of the volume as it is turned for the network.
        card = replace(card, preparation=replace(preparation, orientation=None))
        return _back(_mask(network, card, turned(case, codes), name), case, codes)
    items = preparation.apply(case).images
    check_prepared(items, name)
    mask = np.empty((space.fields, *case.image.shape[1:]), np.uint8)
    sliced = preparation.dims == 2 and case.image.ndim == 4
    # Slices come back to the image's grid a batch at a time: only their masks pile up.
    for start in range(0, len(items), network.batch_size):
        batch = torch.from_numpy(items[start : start + network.batch_size])
        logits = _finite(network(batch).float().cpu(), name)
        part = decoded(restored(logits, card, case), space)
        if sliced:
            mask[..., start : start + len(batch)] = part
        else:
            mask[:] = part
    return mask


def _back(
    mask: UInt8[np.ndarray, "field *turned"], case: Case, codes: str | None
) -> UInt8[np.ndarray, "field *space"]:
    return mask if codes is None else turned_back(torch.from_numpy(mask), case, codes).numpy()


def _finite(logits: Float[Tensor, "item C *grid"], name: object) -> Float[Tensor, "item C *grid"]:
    if not bool(torch.isfinite(logits).all()):
        raise SegprefError(
            f"the network's output for {name} is NaN or infinite: look for extreme values in the "
            "image, or train the model again with a lower learning rate"
        )
    return logits


def check_case(card: ModelCard, case: Case) -> None:
    """Refuse an image with other channels than the model's, or without the voxel size that it needs."""
    wanted, spacing = card.channels, card.preparation.spacing_mm
    if len(case.image) != len(wanted):
        raise SegprefError(
            f"{case.id} has {len(case.image)} channels but the model takes {len(wanted)} "
            f"({', '.join(wanted)}): use images as the model was trained on"
        )
    if spacing is not None and case.spacing_mm is None:
        raise SegprefError(
            f"{case.id} does not state its voxel size, but the model resamples to "
            f"{' x '.join(f'{step:g}' for step in spacing)} mm: use a file with a voxel size (NIfTI or "
            "DICOM)"
        )


def restored(
    logits: Float[Tensor, "item C *grid"], card: ModelCard, case: Case
) -> Iterator[Float[Tensor, " *space"]]:
    """Logits on the case's own voxels, one channel at a time: all of a large scan's may not fit."""
    # As far from the decision as the logits are on average, so that resampling leaves the edge of the
    # crop where it is.
    strength = float(logits.abs().mean()) or 1.0
    for channel in range(logits.shape[1]):
        background = card.label_space.kind == "multi-class" and channel == 0
        outside = torch.tensor([strength if background else -strength])
        yield card.preparation.restore(logits[:, channel : channel + 1], case, outside)[0]


def decoded(
    channels: Iterator[Float[Tensor, " *space"]], space: LabelSpace
) -> UInt8[np.ndarray, "field *space"]:
    """:meth:`LabelSpace.decode` of channels that come one by one."""
    if space.kind == "multi-label":
        return np.stack([(logits > 0).numpy().astype(np.uint8) for logits in channels])
    best = next(channels).clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    for value, logits in enumerate(channels, start=1):
        # Of equal logits the first wins, as in argmax.
        labels[logits > best] = value
        torch.maximum(best, logits, out=best)
    return labels.numpy()[None]
