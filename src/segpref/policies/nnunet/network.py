"""nnU-Net's networks, built by its own code from plans.json and dataset.json."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.policies.nnunet.library import Managers, managers, missing, nnunet, quietly
from segpref.types import SegprefError

__all__ = ["NnUNetNetwork"]


class NnUNetNetwork(nn.Module):
    """The network of a configuration with deep supervision off, as a segmenter of classes.

    nnU-Net's own module is :attr:`network`, with nnU-Net's own names of weights. Its heads of lower
    resolution keep their weights, which nothing here trains.

    A model trained on regions (overlapping unions of classes) has one sigmoid ``z_r`` per region.
    Here it speaks of the exclusive classes that the regions are made of, with the logits

        s_v = sum over the regions r that hold class v of z_r,        s_background = 0

    which are the log-odds of the classes when all combinations of regions that no class has are ruled
    out. The margin of two label maps is then the sum of the margins of their regions. Where the region
    outputs contradict each other (an inner region without its outer one) the most likely class may
    differ from nnU-Net's, which paints region over region; :class:`~segpref.policies.nnunet.
    prediction.NnUNetPrediction` writes nnU-Net's.

    Args:
        plans: content of ``plans.json``.
        dataset: content of ``dataset.json``.
        configuration: such as ``3d_fullres``.
        trainer: the trainer class, which builds the network; found where nnU-Net finds it.
    """

    regions: Float[Tensor, "R C"] | None

    def __init__(
        self,
        plans: Mapping[str, Any],
        dataset: Mapping[str, Any],
        configuration: str,
        trainer: str = "nnUNetTrainer",
    ) -> None:
        super().__init__()
        known = managers(plans, dataset, configuration)
        self.network = _built(known, dataset, trainer)
        # Several processes refuse parameters that never get a gradient.
        for head in getattr(getattr(self.network, "decoder", None), "seg_layers", [])[:-1]:
            head.requires_grad_(False)
        self.register_buffer("regions", _regions(known.labels), persistent=False)

    def forward(self, images: Float[Tensor, "B channel *patch"]) -> Float[Tensor, "B C *patch"]:
        """Logits of the classes."""
        heads = self.network(images)
        heads = heads[0] if isinstance(heads, list | tuple) else heads
        if self.regions is None:
            assert isinstance(heads, Tensor)
            return heads
        return torch.einsum("br...,rc->bc...", heads, self.regions.to(heads.dtype))


def _built(known: Managers, dataset: Mapping[str, Any], trainer: str) -> nn.Module:
    labels = nnunet("utilities.label_handling.label_handling")
    channels = labels.determine_num_input_channels(known.plans, known.configuration, dataset)
    find = nnunet("utilities.find_objects").recursive_find_trainer_class_by_name
    try:
        with quietly():
            trainer_class = find(trainer)
    except ModuleNotFoundError as error:  # looking for a trainer imports all of them
        raise missing(error) from error
    except RuntimeError as error:
        raise SegprefError(
            f"nnU-Net finds no trainer class {trainer}: set nnUNet_extTrainer to the folder of the "
            "file that defines it"
        ) from error
    build = trainer_class.build_network_architecture
    if "plans_manager" in inspect.signature(build).parameters:
        recipe: tuple[Any, ...] = (known.plans, known.configuration)
    else:  # trainers written before nnunetv2 2.7
        recipe = (
            known.configuration.network_arch_class_name,
            known.configuration.network_arch_init_kwargs,
            known.configuration.network_arch_init_kwargs_req_import,
        )
    network = build(
        *recipe, channels, known.labels.num_segmentation_heads, enable_deep_supervision=False
    )
    assert isinstance(network, nn.Module)
    return network


def _regions(labels: Any) -> Float[Tensor, "R C"] | None:
    """1 where a region holds a class; None for a model of exclusive classes."""
    if not labels.has_regions:
        return None
    groups = [
        set(group) if isinstance(group, list | tuple) else {group}
        for group in labels.foreground_regions
    ]
    rows = [[float(value in group) for value in labels.all_labels] for group in groups]
    return torch.tensor(rows)
