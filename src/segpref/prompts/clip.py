"""CLIP-like models that compare images with texts, as far as saliency needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked
from segpref.extras import needed
from segpref.networks import weights_digest
from segpref.prompts.checkpoints import pretrained
from segpref.runtime import moved, runtime
from segpref.types import SegprefError

__all__ = ["ContrastiveModel", "TransformersClip", "network_input", "rgb", "token_map"]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@runtime_checkable
class ContrastiveModel(Protocol):
    """An image encoder and a text encoder with one embedding space.

    It says ``Any`` so that a model may be named in YAML (see :mod:`segpref.judges.yaml_types`).
    """

    def text_embeddings(self, texts: Any) -> Any:
        """Unit vectors ``[T, D]`` of T texts, without a graph."""
        ...

    def image_embeddings(self, images: Any) -> Any:
        """Unit vectors ``[B, D]`` of images from 0 to 1, and the activations that they come from.

        Where gradients are on, the vectors' graph leads through these very activations.
        """
        ...

    def feature_map(self, activations: Any) -> Any:
        """Activations, or their gradient, as a map ``[B, channel, h, w]`` of the image."""
        ...

    def key(self) -> dict[str, object]:
        """What identifies the model."""
        ...


@checked()
class TransformersClip:
    """Any CLIP-like model of transformers with a vision transformer: CLIP, SigLIP, PubMedCLIP...

    Images are resized to the model's square by torch, so no image processor is needed.

    Args:
        name: local folder, or name on the Hugging Face hub.
        layer: whose tokens are the feature map, as an index into the hidden states. The default is
            what goes into the last block: behind it, CLIP reads its class token alone.
        mean: of the channels, for normalisation; CLIP's own, which SigLIP's users set to 0.5.
        std: likewise.
        device: where it runs; the runtime's if None.

    Raises:
        SegprefError: there is no such model, or it is of another kind.
    """

    def __init__(
        self,
        name: str,
        layer: int = -2,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
        device: str | None = None,
    ) -> None:
        transformers = needed("transformers", "promptable")
        self.name = name
        self.layer = layer
        self._mean, self._std = mean, std
        self._device = runtime().device if device is None else torch.device(device)
        model = pretrained(transformers.AutoModel, name, "a CLIP model")
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise SegprefError(
                f"{name} is a {type(model).__name__}, which does not compare images with texts: name a "
                "CLIP-like model"
            )
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._tokenizer = pretrained(transformers.AutoTokenizer, name, "a tokenizer")
        vision = self._model.config.vision_config
        self._side = int(vision.image_size)
        self._grid = self._side // int(vision.patch_size)

    def text_embeddings(self, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit vectors, without a graph.

        Raises:
            SegprefError: a text is longer than the model reads.
        """
        longest = int(self._model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(list(texts))["input_ids"]
        for text, ids in zip(texts, tokens, strict=True):
            check_length(text, len(ids), longest, self.name)
        batch = self._tokenizer(list(texts), padding=True, return_tensors="pt").to(self._device)
        batch.pop("token_type_ids", None)
        with torch.no_grad():
            found = _pooled(self._model.get_text_features(**batch))
        return functional.normalize(found, dim=-1)

    def image_embeddings(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        """Unit vectors of images from 0 to 1, and the tokens of the layer."""
        pixels = network_input(moved(images, self._device), self._side, self._mean, self._std)
        output = self._model.get_image_features(pixel_values=pixels, output_hidden_states=True)
        return functional.normalize(_pooled(output), dim=-1), output.hidden_states[self.layer]

    def feature_map(self, activations: Tensor) -> Float[Tensor, "B channel h w"]:
        """Tokens, or their gradient, as a map of the image."""
        return token_map(activations, self._grid)

    def key(self) -> dict[str, object]:
        """What identifies the model."""
        return {
            "clip": weights_digest(self._model.state_dict()),
            "layer": self.layer,
            "mean": self._mean,
            "std": self._std,
        }


def rgb(images: Float[Tensor, "B channel H W"]) -> Float[Tensor, "B 3 H W"]:
    """Prepared images as colour images from 0 to 1: scaled by their range, grey ones repeated.

    Raises:
        SegprefError: neither one channel nor three.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise SegprefError(
            f"an image has {channels} channels where a vision-language model takes grey or colour "
            "images: choose one channel"
        )
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    span = (images.amax(dim=(1, 2, 3), keepdim=True) - low).clamp(min=1e-6)
    return ((images - low) / span).expand(-1, 3, -1, -1)


def check_length(text: str, tokens: int, longest: int, name: str) -> None:
    """Refuse a text that a text encoder would cut.

    Raises:
        SegprefError: more tokens than the encoder reads.
    """
    if tokens > longest:
        raise SegprefError(
            f"the text {text[:40]!r}... has {tokens} tokens and {name} reads {longest}: shorten it"
        )


def network_input(
    images: Float[Tensor, "B 3 H W"], side: int, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "B 3 side side"]:
    """Images from 0 to 1 as a frozen image encoder takes them: a normalised square.

    Where gradients are on it asks for one: the weights are frozen, and without it a feature map would
    have no graph.
    """
    pixels = functional.interpolate(
        images, size=(side, side), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
    shape = (1, 3, 1, 1)
    pixels = (pixels - pixels.new_tensor(mean).reshape(shape)) / pixels.new_tensor(std).reshape(
        shape
    )
    return pixels.requires_grad_() if torch.is_grad_enabled() else pixels


def token_map(tokens: Float[Tensor, "B n channel"], grid: int) -> Float[Tensor, "B channel h w"]:
    """The tokens of a square grid of patches as a map of the image; a class token is left out."""
    # A class token comes first, where there is one.
    spatial = tokens[:, tokens.shape[1] - grid**2 :]
    return spatial.transpose(1, 2).reshape(len(tokens), -1, grid, grid)


def _pooled(output: Any) -> Tensor:
    # transformers 4 gives the tensor itself.
    found = output if isinstance(output, Tensor) else output.pooler_output
    assert isinstance(found, Tensor)
    return found
