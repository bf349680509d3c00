"""Promptable networks from checkpoints of transformers and from model files, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from segpref.data.checksummed_tensors import read_checksummed, write_checksummed
from segpref.data.preparation import Preparation
from segpref.disk import Damaged
from segpref.extras import needed
from segpref.policies.checkpoints import ModelCard, NetworkSpec, load_model
from segpref.policies.promptable.adapters import Lora, merged
from segpref.policies.promptable.frame import IMAGENET_MEAN, IMAGENET_STD, Fit
from segpref.policies.promptable.network import Family, PromptableNetwork, model_of
from segpref.policies.promptable.policy import PromptablePolicy
from segpref.policies.promptable.texts import SentenceEncoder
from segpref.policies.tunable import PolicySpec
from segpref.prompts.checkpoints import pretrained
from segpref.types import LabelSpace, SegprefError

__all__ = ["load_promptable", "load_sam", "promptable_card", "save_sam"]

_FAMILIES: dict[str, Family] = {
    "sam": "sam",
    "sam_hq": "sam_hq",
    "sam2": "sam2",
    "sam2_video": "sam2",
}
_NETWORK = "segpref.policies.promptable.PromptableNetwork"
_POLICY = "segpref.policies.promptable.PromptablePolicy"
_PROJECTION = "segpref_text_projection.safetensors"


def load_sam(
    name: str,
    size: int | None = None,
    fit: Fit | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    iterations: int = 2,
    text_encoder: str | None = None,
    lora: Lora | None = None,
    seed: int = 0,
) -> PromptableNetwork:
    """A network from a checkpoint of transformers: SAM, MedSAM, SAM-HQ, SAM 2.

    Args:
        name: local folder, or name on the Hugging Face hub.
        size: pixels along a side of the input, such as 256; the checkpoint's own if None. Position
            embeddings are interpolated, as SAM-Med2D does.
        fit: how images that are not square fill the square input; the family's own way if None.
        mean: of the channels of images that run from 0 to 1; MedSAM's is 0.
        std: likewise; MedSAM's is 1.
        iterations: 2 feeds the first mask back, 1 asks once.
        text_encoder: name or folder of a frozen text encoder; None for no texts.
        lora: low-rank adapters, or None.
        seed: of the text projection and the adapters, which no checkpoint has.

    Raises:
        SegprefError: there is no such checkpoint, it is of another kind, or the size does not suit it.
    """
    transformers = needed("transformers", "promptable")
    config = pretrained(transformers.AutoConfig, name, "a SAM checkpoint")
    if config.model_type not in _FAMILIES:
        raise SegprefError(
            f"{name} is a checkpoint of the kind {config.model_type}: name one of SAM, SAM-HQ "
            "or SAM 2, which give a mask for each box or set of points"
        )
    family = _FAMILIES[config.model_type]
    source = pretrained(model_of(family), name, "a SAM checkpoint")
    state, settings = source.state_dict(), source.config.to_dict()
    if size is not None:
        settings = _sized(settings, size, family)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PromptableNetwork(
            family,
            settings,
            fit,
            mean,
            std,
            iterations,
            text_encoder,
            None if text_encoder is None else SentenceEncoder(text_encoder).width,
        )
        network.sam.load_state_dict(_fitted(state, network.sam.state_dict()))
        projection = Path(name) / _PROJECTION
        if network.text_projection is not None and projection.exists():
            network.text_projection.load_state_dict(_read(projection))
        if lora is not None:
            network.add_lora(lora)
    return network


def save_sam(network: PromptableNetwork, folder: Path | str) -> None:
    """Write a folder of transformers that ``from_pretrained`` takes, adapters added to the weights.

    The text projection, which transformers does not know, is a file of its own beside them.

    Raises:
        SegprefError: the folder can't be written, or a LiteMedSAM, which transformers has no class for.
    """
    path = Path(folder)
    if network.family == "lite_medsam":
        raise SegprefError(
            f"transformers has no class for a LiteMedSAM, so {path} could not be opened: write it with "
            "save_lite_medsam"
        )
    try:
        merged(network.sam).save_pretrained(path)  # type: ignore[operator]
    except (OSError, SafetensorError) as error:
        raise SegprefError(f"{path} can't be written ({error}): choose another folder") from error
    if network.text_projection is not None:
        write_checksummed(path / _PROJECTION, network.text_projection.state_dict(), "note", {})


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return read_checksummed(path, "note", old=True)[0]
    except Damaged as error:
        raise SegprefError(
            f"{path} is not what was written ({error}): copy it again, or write the folder again"
        ) from error


def load_promptable(path: Path | str) -> tuple[PromptablePolicy, ModelCard]:
    """A promptable policy from its file or run folder.

    Raises:
        SegprefError: a model of another kind.
    """
    policy, card = load_model(path)
    return as_promptable(policy, path), card


def as_promptable(policy: object, path: Path | str) -> PromptablePolicy:
    """The policy of a model that was opened, if it is a promptable one.

    Raises:
        SegprefError: it takes no prompts.
    """
    if not isinstance(policy, PromptablePolicy):
        raise SegprefError(f"{path} takes no prompts: name a promptable model")
    return policy


def promptable_card(
    network: PromptableNetwork,
    label_space: LabelSpace,
    preparation: Preparation,
    channels: Sequence[str] = ("image",),
    labelled: Sequence[str] = (),
    prompter: Mapping[str, Any] | None = None,
) -> ModelCard:
    """The card of a promptable model file, for :func:`segpref.policies.save_model`.

    Args:
        network: what the file will hold.
        label_space: one structure per prompt.
        preparation: of its images.
        channels: names of the image channels.
        labelled: patients whose labels it was trained with.
        prompter: class_path and init_args of what makes its prompts; the whole image as a box if None.

    Raises:
        SegprefError: a preparation whose images do not run from 0 to 1, or that is 3D.
    """
    to_unit = preparation.normalise in ("min-max", "percentile", "window")
    if preparation.dims != 2 or not to_unit or preparation.orientation is not None:
        raise SegprefError(
            "a promptable model takes 2D images from 0 to 1, as they lie on disk: prepare them with "
            "dims 2, normalise min-max, percentile or window, and no orientation, not with "
            f"{preparation.dims}, {preparation.normalise} and {preparation.orientation}"
        )
    arguments = json.loads(json.dumps(network.arguments(), default=str))
    return ModelCard(
        NetworkSpec(_NETWORK, arguments),
        label_space,
        preparation,
        tuple(channels),
        tuple(labelled),
        PolicySpec(_POLICY, {} if prompter is None else {"prompter": prompter}),
    )


def _sized(settings: Mapping[str, Any], size: int, family: Family) -> dict[str, Any]:
    """The configuration of the same network for another input size."""
    changed = deepcopy(dict(settings))
    prompts, vision = changed["prompt_encoder_config"], changed["vision_config"]
    old, patch = int(prompts["image_size"]), int(prompts["patch_size"])
    # SAM 2 halves its finest map twice more on the way down.
    step = 2 * patch if family == "sam2" else patch
    if size < step or size % step:
        raise SegprefError(f"size must be a multiple of {step} for this checkpoint, not {size}")
    prompts["image_size"] = size
    if family != "sam2":
        prompts["image_embedding_size"] = size // patch
        vision["image_size"] = size
    else:
        vision["backbone_config"]["image_size"] = [size, size]
        vision["backbone_feature_sizes"] = [
            [side * size // old for side in level] for level in vision["backbone_feature_sizes"]
        ]
    return changed


def _fitted(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with position embeddings interpolated to the sizes that are wanted.

    Absolute ones ``[1, h, w, D]`` bilinearly, relative ones ``[2 n - 1, d]`` linearly, which is what
    SAM itself does where a relative one does not fit its window.
    """
    fitted = {}
    for name, value in state.items():
        shape = wanted[name].shape
        if value.shape == shape:
            fitted[name] = value
        elif name.endswith(("rel_pos_h", "rel_pos_w")):
            line = functional.interpolate(value.T[None], size=shape[0], mode="linear")
            fitted[name] = line[0].T
        elif name.endswith("pos_embed"):
            fitted[name] = functional.interpolate(
                value.movedim(-1, 1), size=tuple(shape[1:3]), mode="bilinear", antialias=True
            ).movedim(1, -1)
        else:
            raise SegprefError(
                f"the weight {name} of the checkpoint has the shape {tuple(value.shape)} where this "
                f"size needs {tuple(shape)}: use the checkpoint's own size"
            )
    return fitted
