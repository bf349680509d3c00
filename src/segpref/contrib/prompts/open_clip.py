"""CLIP models of the package open_clip, such as BiomedCLIP."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from segpref.checking import checked
from segpref.extras import needed
from segpref.networks import weights_digest
from segpref.prompts.clip import CLIP_MEAN, CLIP_STD, network_input, token_map
from segpref.runtime import moved, runtime
from segpref.types import SegprefError

__all__ = ["OpenClip"]


@checked()
class OpenClip:
    """A model of the package open_clip, such as BiomedCLIP.

    Caution: it was written against open_clip's documentation and is tested with a stand-in for that
    package, never with a real checkpoint. Compare a few saliency maps with images before you rely on
    it. open_clip needs torchvision and timm; it is no part of the extra ``[promptable]``.

    Args:
        name: as open_clip takes it; BiomedCLIP's is
            ``hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224``.
        block: import path, from the model, of the module whose output tokens are the feature map;
            the last but one block of timm's vision transformers if None.
        device: where it runs; the runtime's if None.

    Raises:
        SegprefError: open_clip is not installed.
    """

    def __init__(self, name: str, block: str | None = None, device: str | None = None) -> None:
        try:
            open_clip = needed("open_clip", "promptable")
        except SegprefError as error:
            raise SegprefError(
                f"{name} needs the package open_clip: pip install open_clip_torch (with a torchvision "
                "that fits torch), or name a CLIP of transformers (segpref.prompts.TransformersClip)"
            ) from error
        self.name = name
        self._device = runtime().device if device is None else torch.device(device)
        self._model = open_clip.create_model_from_pretrained(name, return_transform=False)
        self._model = self._model.eval().requires_grad_(False).to(self._device)
        self._tokenizer = open_clip.get_tokenizer(name)
        visual = self._model.visual
        size = visual.image_size
        self._side = int(size[0] if isinstance(size, list | tuple) else size)
        self._mean = tuple(getattr(visual, "image_mean", None) or CLIP_MEAN)
        self._std = tuple(getattr(visual, "image_std", None) or CLIP_STD)
        self._block = visual.trunk.blocks[-2] if block is None else self._model.get_submodule(block)

    def text_embeddings(self, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Unit vectors, without a graph; open_clip cuts what is too long."""
        with torch.no_grad():
            found = self._model.encode_text(self._tokenizer(list(texts)).to(self._device))
        return functional.normalize(found, dim=-1)

    def image_embeddings(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D"], Tensor]:
        """Unit vectors of images from 0 to 1, and the tokens of the block."""
        seen: list[Tensor] = []
        hook = self._block.register_forward_hook(lambda *call: seen.append(call[2]))
        try:
            pixels = network_input(moved(images, self._device), self._side, self._mean, self._std)
            found = self._model.encode_image(pixels)
        finally:
            hook.remove()
        return functional.normalize(found, dim=-1), seen[0]

    def feature_map(self, activations: Tensor) -> Float[Tensor, "B channel h w"]:
        """Tokens, or their gradient, as a map of the image."""
        return token_map(activations, math.isqrt(activations.shape[1]))

    def key(self) -> dict[str, object]:
        """What identifies the model."""
        return {"open_clip": weights_digest(self._model.state_dict())}
