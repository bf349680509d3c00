"""SAM, SAM-HQ, SAM 2 and LiteMedSAM as one network: images and prompts in, masks out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from segpref.extras import needed
from segpref.policies.promptable.adapters import Lora, inject_lora
from segpref.policies.promptable.frame import IMAGENET_MEAN, IMAGENET_STD, Fit
from segpref.policies.promptable.tiny_vit import TinyViT
from segpref.types import SegprefError

__all__ = ["Family", "Masks", "PromptBatch", "PromptableNetwork", "model_of"]

Family = Literal["sam", "sam_hq", "sam2", "lite_medsam"]
_CLASSES = {
    "sam": ("SamConfig", "SamModel"),
    "sam_hq": ("SamHQConfig", "SamHQModel"),
    "sam2": ("Sam2Config", "Sam2Model"),
    # Prompt encoder and decoder are SAM's.
    "lite_medsam": ("SamConfig", "SamModel"),
}


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """A batch of prompts of the same kinds, as tensors in the frame of the network.

    A row is one structure of one image. Rows that differ in their parts, or in their number of
    points, are never filled up to one shape: SAM attends to whatever it is filled with.

    Args:
        rows: ``image x structures + structure`` of each prompt.
        images: which image of the batch each row is of.
        points: ``x, y`` in the network's pixels.
        labels: of the points.
        boxes: ``x_min, y_min, x_max, y_max``.
        masks: logits at the resolution of the network's own masks.
        text: embeddings of the texts.
    """

    rows: Int64[Tensor, " n"]
    images: Int64[Tensor, " n"]
    points: Float[Tensor, "n p 2"] | None = None
    labels: Int64[Tensor, "n p"] | None = None
    boxes: Float[Tensor, "n 4"] | None = None
    masks: Float[Tensor, "n 1 h w"] | None = None
    text: Float[Tensor, "n width"] | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Masks:
    """What the mask decoder gives, one row per prompt.

    Args:
        logits: at the decoder's own resolution.
        quality: predicted IoU of each mask.
    """

    logits: Float[Tensor, "n M h w"]
    quality: Float[Tensor, "n M"]


class PromptableNetwork(nn.Module):
    """A SAM with a projection of texts to its prompt encoder, built from plain values.

    All arguments are what JSON can hold, so that a model file can name them.

    Args:
        family: ``sam`` (``SamModel``: SAM, MedSAM, SAM-Med2D...), ``sam_hq`` (``SamHQModel``),
            ``sam2`` (``Sam2Model``) or ``lite_medsam`` (``SamModel`` with TinyViT as its encoder).
        config: of the transformers class, as its ``to_dict`` gives it.
        fit: how images that are not square fill its square input; the family's own way if None.
        mean: of the channels of its images, which run from 0 to 1.
        std: likewise. MedSAM takes images as they are: mean 0 and std 1.
        iterations: 2 feeds the first iteration's mask back as a mask prompt (Konwer et al., Sec.
            3.1); 1 asks once, as SAM does.
        text_encoder: name or folder of the frozen text encoder; None for no texts.
        text_width: size of its embeddings.
        lora: settings of low-rank adapters, see :class:`~segpref.policies.promptable.Lora`.
    """

    def __init__(
        self,
        family: Family,
        config: Mapping[str, Any],
        fit: Fit | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        iterations: int = 2,
        text_encoder: str | None = None,
        text_width: int | None = None,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if iterations < 1:
            raise SegprefError(f"a promptable network needs at least 1 iteration, not {iterations}")
        self.family: Family = family
        self.fit: Fit = fit or ("stretch" if family == "sam2" else "pad")
        self.mean, self.std = tuple(mean), tuple(std)
        self.iterations = iterations
        self.text_encoder = text_encoder
        self.sam = _built(family, config)
        settings: Any = self.sam.config
        hidden = int(settings.prompt_encoder_config.hidden_size)
        self.text_projection = None if text_width is None else nn.Linear(text_width, hidden)
        self.lora: Lora | None = None
        if lora is not None:
            self.add_lora(Lora(**lora))

    @property
    def side(self) -> int:
        """Pixels along a side of the square input."""
        return int(self.sam.config.prompt_encoder_config.image_size)

    @property
    def mask_side(self) -> int:
        """Pixels along a side of the decoder's masks, and of mask prompts."""
        return 4 * self.side // int(self.sam.config.prompt_encoder_config.patch_size)

    @property
    def stretched(self) -> bool:
        """Whether every image is to run from 0 to 1 after it was resized, as LiteMedSAM's did."""
        return self.family == "lite_medsam"

    def arguments(self) -> dict[str, Any]:
        """What builds this network again, for the model card."""
        width = None if self.text_projection is None else self.text_projection.in_features
        return {
            "family": self.family,
            "config": _plain(self.sam.config.to_dict()),
            "fit": self.fit,
            "mean": list(self.mean),
            "std": list(self.std),
            "iterations": self.iterations,
            "text_encoder": self.text_encoder,
            "text_width": width,
            "lora": None if self.lora is None else self.lora.as_dict(),
        }

    def add_lora(self, lora: Lora) -> None:
        """Put low-rank adapters into the attention of some parts; the output stays as it was."""
        inject_lora(self.sam, lora)
        self.lora = lora

    def encode(self, pixels: Float[Tensor, "B 3 side side"]) -> tuple[Tensor, ...]:
        """Image embeddings; the last is what the decoder works on, finer or earlier ones come first."""
        if self.family == "sam":
            return (self.sam.vision_encoder(pixels).last_hidden_state,)
        if self.family == "lite_medsam":
            return (self.sam.vision_encoder(pixels),)
        if self.family == "sam_hq":
            # Of the layers with global attention the decoder uses the first.
            found = self.sam.vision_encoder(pixels, return_dict=True)
            return (found.intermediate_embeddings[0], found.last_hidden_state)
        maps = list(self.sam.get_image_features(pixels, return_dict=True).fpn_hidden_states)
        maps[-1] = maps[-1] + self.sam.no_memory_embedding
        sizes = self.sam.backbone_feature_sizes
        return tuple(
            level.permute(1, 2, 0).reshape(len(pixels), -1, *size)
            for level, size in zip(maps, sizes, strict=True)
        )

    def forward(
        self,
        asked: Sequence[PromptBatch],
        pixels: Float[Tensor, "B 3 side side"] | None = None,
        features: Sequence[Tensor] | None = None,
        multimask: bool = False,
        every: bool = False,
    ) -> tuple[list[Masks], tuple[Tensor, ...]]:
        """Masks of every iteration, rows in the order of their numbers; and the image embeddings.

        Args:
            asked: prompts; together they hold every row once.
            pixels: images in the network's frame; None where ``features`` are given.
            features: what :meth:`encode` gave for the images.
            multimask: three masks per prompt in the last iteration, in place of one.
            every: whether the graph holds every iteration and the predicted IoU, in place of the last
                iteration's logits alone. A result with a graph must be part of the loss, or several
                processes wait for its gradient.
        """
        if features is None:
            assert pixels is not None
            features = self.encode(pixels)
        results: list[Masks] = []
        for number in range(self.iterations):
            last = number == self.iterations - 1
            with torch.set_grad_enabled(torch.is_grad_enabled() and (last or every)):
                found = [self._decode(features, group, multimask and last) for group in asked]
            order = torch.cat([group.rows for group in asked]).argsort()
            results.append(
                Masks(
                    torch.cat([masks.logits for masks in found])[order],
                    _quality(found, every)[order],
                )
            )
            # SAM's own training cuts the graph between its iterations, too.
            asked = [
                replace(group, masks=masks.logits.detach().float())
                for group, masks in zip(asked, found, strict=True)
            ]
        return results, tuple(features)

    def _decode(self, features: Sequence[Tensor], asked: PromptBatch, multimask: bool) -> Masks:
        sam, count = self.sam, len(asked)
        points, labels, boxes = asked.points, asked.labels, asked.boxes
        if self.family == "sam2" and points is None and boxes is None:
            # SAM 2 was never asked nothing: its own class gives it one point that is none.
            points = features[-1].new_zeros(count, 1, 2)
            labels = -torch.ones(count, 1, dtype=torch.int64, device=points.device)
        sparse, dense = sam.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if boxes is None else boxes[:, None],
            input_masks=asked.masks,
        )
        if asked.text is not None:
            if self.text_projection is None:
                raise SegprefError(
                    "this model was made without a text encoder, so it can't read text prompts: leave "
                    "the texts out, or name a text encoder when it is made"
                )
            token = self.text_projection(asked.text)[:, None, None]
            sparse = token if sparse is None else torch.cat([sparse, token], dim=2)
        finer: dict[str, Any] = {}
        if self.family == "sam2":
            finer["high_resolution_features"] = [level[asked.images] for level in features[:-1]]
        elif self.family == "sam_hq":
            finer["intermediate_embeddings"] = [level[asked.images] for level in features[:-1]]
            finer["hq_token_only"] = False
        position = sam.get_image_wide_positional_embeddings()
        output = sam.mask_decoder(
            image_embeddings=features[-1][asked.images],
            image_positional_embeddings=position.repeat(count, 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            **finer,
        )
        return Masks(output[0][:, 0], output[1][:, 0])


def _quality(found: Sequence[Masks], graph: bool) -> Float[Tensor, "n M"]:
    quality = torch.cat([masks.quality for masks in found])
    return quality if graph else quality.detach()


def model_of(family: Family) -> Any:
    """The class of transformers that a family's checkpoints are opened with."""
    return getattr(needed("transformers", "promptable"), _CLASSES[family][1])


def _built(family: Family, config: Mapping[str, Any]) -> Any:
    transformers = needed("transformers", "promptable")
    if family not in _CLASSES:
        raise SegprefError(
            f"a promptable network is of the family {', '.join(_CLASSES)}, not {family!r}: name one"
        )
    config_class, model_class = (getattr(transformers, name) for name in _CLASSES[family])
    model = model_class(config_class(**config))
    if family == "lite_medsam":
        model.vision_encoder = TinyViT()
    if family == "sam2":
        # It would swap the single mask for one of three where that looks unstable: no one function.
        model.mask_decoder.dynamic_multimask_via_stability = False
    # Fixed random frequencies, a buffer in the original code.
    model.shared_image_embedding.requires_grad_(False)
    model.prompt_encoder.shared_embedding.requires_grad_(False)
    return model


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without where it came from and which version wrote it."""
    return {
        name: _plain(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in ("_name_or_path", "transformers_version", "architectures", "dtype")
    }
