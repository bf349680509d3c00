"""The mask of one image on its own voxels: prepared, turned as in training, predicted, brought back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from segpref.data.orientation import orientation_of, turned, turned_back
from segpref.data.preparation import Preparation
from segpref.data.prepared import check_prepared
from segpref.inference.as_trained import AsTrained
from segpref.inference.decoding import check_case, decoded, finite, restored
from segpref.inference.propagation import propagate
from segpref.inference.sliding import WindowedNetwork
from segpref.inference.windows import WholeNetwork, whole_network
from segpref.policies import ModelCard
from segpref.policies.capabilities import CasePredictor
from segpref.prompts import Prompt, PromptedModel
from segpref.types import Case, Predictor

__all__ = ["CaseMasks", "Ready", "predict_case"]

Network = WindowedNetwork | WholeNetwork | CasePredictor


@dataclass(frozen=True)
class Ready:
    """A case as the network takes it, and what brings its mask back.

    Args:
        name: what messages call it.
        case: turned as the network wants it, without its label.
        card: of the model, whose preparation turns nothing any more.
        items: network inputs, one per slice of a volume in 2D; None of what takes cases as they are.
        turns: cases before they were turned and where their axes point to since, the first one first.
    """

    name: object
    case: Case
    card: ModelCard
    items: Float[np.ndarray, "item channel *grid"] | None
    turns: tuple[tuple[Case, str], ...]


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
        self._axes = AsTrained(card, reorient)

    def __call__(
        self, case: Case, name: object = None, turn: bool = True
    ) -> UInt8[np.ndarray, "field *space"]:
        """The mask of an image; a label is not looked at.

        Args:
            case: the whole image.
            name: what messages call it; its id where None.
            turn: whether the volume may be turned; not if somebody drew prompts on it.
        """
        return self.mask(self.ready(case, name, turn))

    def ready(self, case: Case, name: object = None, turn: bool = True) -> Ready:
        """The case turned and prepared; arguments as of a call."""
        name = case.id if name is None else name
        if turn:
            seen, codes = self._axes.turned(case, name)
        else:
            seen, codes = case, None
            self._axes.warn_of_prompted(case, name)
        turns = [] if codes is None else [(case, codes)]
        card, preparation = self.card, self.card.preparation
        check_case(card, seen)
        seen = replace(seen, label=None, raters=None)
        if isinstance(self._network, CasePredictor):
            return Ready(name, seen, card, None, tuple(turns))
        if isinstance(preparation, Preparation) and (codes := preparation.orientation):
            # Slices lie along the last axis of the volume as it is turned for the network.
            turns.append((seen, codes))
            preparation = replace(preparation, orientation=None)
            seen, card = turned(seen, codes), replace(card, preparation=preparation)
        items = preparation.apply(seen).images
        check_prepared(items, name)
        return Ready(name, seen, card, items, tuple(turns))

    def together(self, ready: Ready) -> int:
        """How many cases of this size go through the network at once, each of one input."""
        if ready.items is None or isinstance(self._network, CasePredictor):
            return 1
        return self._network.together(ready.items.shape[2:]) if self.one_pass(ready) else 1

    def one_pass(self, ready: Ready) -> bool:
        """Whether the case is one input of the network, so that :meth:`mask_of` may follow it."""
        return ready.items is not None and len(ready.items) == 1

    def logits(
        self, items: Float[np.ndarray, "item channel *grid"]
    ) -> Float[Tensor, "item C *grid"]:
        """The network's output for inputs of one size, in the computer's memory."""
        assert not isinstance(self._network, CasePredictor)
        return self._network(torch.from_numpy(items)).float().cpu()

    def mask(self, ready: Ready) -> UInt8[np.ndarray, "field *space"]:
        """The mask of one case."""
        case, card, items = ready.case, ready.card, ready.items
        if isinstance(self._network, CasePredictor):
            return _back(self._network.mask(case), ready.turns)
        assert items is not None
        mask = np.empty((card.label_space.fields, *case.image.shape[1:]), np.uint8)
        sliced = card.preparation.dims == 2 and case.image.ndim == 4
        # Slices come back to the image's grid a batch at a time: only their masks pile up.
        size = self._network.batch_size
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            part = _decoded(ready, self.logits(batch))
            if sliced:
                mask[..., start : start + len(batch)] = part
            else:
                mask[:] = part
        return _back(mask, ready.turns)

    def mask_of(
        self, ready: Ready, logits: Float[Tensor, "1 C *grid"]
    ) -> UInt8[np.ndarray, "field *space"]:
        """The mask of a case whose logits are there already."""
        return _back(_decoded(ready, logits), ready.turns)

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
            seen, codes = self._axes.turned(case, name)
        else:
            seen, codes = case, None
            self._axes.warn_of_prompted(case, name)
        images = self.card.preparation.apply(replace(seen, label=None, raters=None)).images
        check_prepared(images, name)
        logits = propagate(model, torch.from_numpy(images), prompts or None, at)
        mask = decoded(restored(finite(logits, name), self.card, seen), self.card.label_space)
        return _back(mask, () if codes is None else ((case, codes),))


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


def _decoded(
    ready: Ready, logits: Float[Tensor, "item C *grid"]
) -> UInt8[np.ndarray, "field *turned"]:
    channels = restored(finite(logits, ready.name), ready.card, ready.case)
    return decoded(channels, ready.card.label_space)


def _back(
    mask: UInt8[np.ndarray, "field *turned"], turns: Sequence[tuple[Case, str]]
) -> UInt8[np.ndarray, "field *space"]:
    for case, codes in reversed(turns):
        mask = turned_back(torch.from_numpy(mask), case, codes).numpy()
    return mask
