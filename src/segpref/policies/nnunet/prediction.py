"""Whole volumes by nnU-Net's own sliding windows, and masks in the geometry of their images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from segpref.policies.nnunet.library import nnunet, quietly
from segpref.policies.nnunet.network import NnUNetNetwork
from segpref.policies.nnunet.preparation import NnUNetPreparation
from segpref.policies.segmenter import SegmenterState
from segpref.policies.tunable import TunablePolicy
from segpref.types import Case, SegprefError, State

__all__ = ["NnUNetPrediction"]


class NnUNetPrediction:
    """A policy of whole volumes without gradients, equal to stock ``nnUNetv2_predict`` in every step.

    Windows overlap and are weighted by a Gaussian, sums are kept in half precision, mirrored views are
    averaged within a window, and folds after it: as logits, which are then resampled, as nnU-Net does
    within a folder (it averages probabilities only of several configurations). The networks are used
    as they are at the moment of the call, so a policy can be validated while it is tuned; nnU-Net's
    predictor by itself would put back the weights that it was started with on every call.

    Args:
        preparation: nnU-Net's, of the models.
        models: one, or the folds of an ensemble.
        mirroring: axes to mirror over; none where empty.
        step: distance of the windows as a share of the patch.
    """

    def __init__(
        self,
        preparation: NnUNetPreparation,
        models: Sequence[TunablePolicy],
        mirroring: Sequence[int] = (),
        step: float = 0.5,
    ) -> None:
        if not 0 < step <= 1:
            raise SegprefError(f"the step of the windows must be above 0 and at most 1, not {step}")
        self.label_space = models[0].label_space
        self._preparation, self._models = preparation, tuple(models)
        self._mirroring, self._step = tuple(mirroring), step

    def logits(self, images: Float[Tensor, "B channel *grid"]) -> Float[Tensor, "B C *grid"]:
        """Logits of the classes on nnU-Net's grid; in 2D the batch is taken for one volume's slices."""
        regions = self._networks[0].regions
        if self._preparation.dims == 2:
            heads = self.heads(images.movedim(1, 0)).movedim(1, 0).float()
        else:
            heads = torch.stack([self.heads(image) for image in images]).float()
        return heads if regions is None else torch.einsum("br...,rc->bc...", heads, regions.cpu())

    def forward(self, images: Float[Tensor, "B channel *grid"]) -> SegmenterState:
        """The same as a state, without a graph: slates of whole volumes are made from it."""
        return SegmenterState(self.logits(images))

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> None:
        """None: whole volumes have no last stage that could be run again by itself."""

    def heads(self, volume: Float[Tensor, "channel z y x"]) -> Float16[Tensor, "head z y x"]:
        """The network's own outputs of one prepared volume: classes, or regions."""
        predictor, networks = self._predictor(), self._networks
        with torch.inference_mode():
            total = torch.zeros(())
            for number, network in enumerate(networks):
                predictor.network = network.network
                # One by one and in half precision, as nnU-Net does: the last bits depend on it.
                found = predictor.predict_sliding_window_return_logits(volume).to("cpu")
                total = total.add_(found) if number else found
            total = total.div_(len(networks)) if len(networks) > 1 else total
        # What was made in inference mode can take no part in anything that is differentiated.
        return total.clone()

    def digest(self) -> str:
        """Name of the weights and of how they are used."""
        parts = [*(model.digest() for model in self._models), str(self._mirroring), str(self._step)]
        return hashlib.blake2b(" ".join(parts).encode(), digest_size=16).hexdigest()

    def mask(self, case: Case) -> UInt8[np.ndarray, "1 *space"]:
        """The mask of a whole case on its own voxels, as nnU-Net decodes it (regions, too)."""
        known = self._preparation.managers
        array, spacing = self._preparation.as_read(case.image, case)
        preprocessor = known.configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            array,
            None,
            {"spacing": spacing},
            known.plans,
            known.configuration,
            dict(self._preparation.dataset),
        )
        heads = self.heads(torch.from_numpy(np.asarray(data)).float())
        decoded = nnunet(
            "inference.export_prediction"
        ).convert_predicted_logits_to_segmentation_with_correct_shape(
            heads, known.plans, known.configuration, known.labels, properties
        )
        return self._preparation.as_stored(np.asarray(decoded, np.uint8)[None], case)

    def write(self, images: Sequence[Path], target: Path) -> Path:
        """Segment one case from its files, one per channel, and write what nnU-Net would write.

        Args:
            images: files of the channels in their order.
            target: the mask to write, with nnU-Net's ``file_ending``.
        """
        ending = str(self._preparation.dataset["file_ending"])
        if not target.name.endswith(ending):
            raise SegprefError(f"{target} must end in {ending}, as dataset.json says")
        known, dataset = self._preparation.managers, dict(self._preparation.dataset)
        preprocessor = known.configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case(
            [str(path) for path in images], None, known.plans, known.configuration, dataset
        )
        heads = self.heads(torch.from_numpy(data).float()).numpy()
        target.parent.mkdir(parents=True, exist_ok=True)
        nnunet("inference.export_prediction").export_prediction_from_logits(
            heads,
            properties,
            known.configuration,
            known.plans,
            dataset,
            str(target)[: -len(ending)],
        )
        return target

    def write_folder(self, images: Path, output: Path) -> list[Path]:
        """Segment a folder in nnU-Net's layout (``NAME_0000``, ``NAME_0001``, ...)."""
        ending = str(self._preparation.dataset["file_ending"])
        listed = nnunet("utilities.utils").create_lists_from_splitted_dataset_folder(
            str(images), ending
        )
        if not listed:
            raise SegprefError(
                f"{images} has no NAME_0000{ending}: name a folder in nnU-Net's layout"
            )
        written = []
        for files in listed:
            name = Path(files[0]).name.removesuffix(f"_0000{ending}")
            written.append(self.write([Path(file) for file in files], output / f"{name}{ending}"))
        return written

    @property
    def _networks(self) -> tuple[NnUNetNetwork, ...]:
        # Through the wrapper of several processes, where there is one.
        found = [getattr(model.network, "module", model.network) for model in self._models]
        return tuple(network for network in found if isinstance(network, NnUNetNetwork))

    def _predictor(self) -> Any:
        device = self._models[0].device
        known = self._preparation.managers
        with quietly():
            predictor = nnunet("inference.predict_from_raw_data").nnUNetPredictor(
                tile_step_size=self._step,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=False,
            )
        predictor.plans_manager = known.plans
        predictor.configuration_manager = known.configuration
        predictor.label_manager = known.labels
        predictor.allowed_mirroring_axes = self._mirroring or None
        return predictor
