"""Tiny models with random weights, in the very format of real checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    Sam2Config,
    Sam2Model,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
    ViltConfig,
    ViltForQuestionAnswering,
    ViltImageProcessorPil,
    ViltProcessor,
)

from segpref.data import Dataset, Source, Volume
from segpref.types import LabelSpace

TEXT = "what is the shape of and where it located ? : a breast lesion dark bright round"
WORDS = TEXT.split()
LESION = LabelSpace("multi-label", ("lesion",))
SIDE = 32


def lively(model: Any) -> Any:
    """As they come, weights are next to nothing and positions zero: no mistake in them would show."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "layer_norm" in name or "positional_embedding" in name:
                continue
            if weight.ndim > 1:
                weight.normal_(std=1.5 * weight[0].numel() ** -0.5)
            else:
                weight.normal_(std=0.1)
    return model.eval()


def write_sam(folder: Path, side: int = SIDE, seed: int = 0, hq: bool = False) -> Any:
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": side,
        "patch_size": 4, "window_size": 4, "global_attn_indexes": [1], "output_channels": 32,
        "mlp_dim": 64, "num_pos_feats": 16,
    }  # fmt: skip
    config = (SamHQConfig if hq else SamConfig)(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": side, "patch_size": 4},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32
        } | ({"vit_dim": 32} if hq else {}),
    )  # fmt: skip
    torch.manual_seed(seed)
    model = lively((SamHQModel if hq else SamModel)(config))
    model.save_pretrained(folder)
    return model


def write_sam2(folder: Path) -> Sam2Model:
    hiera = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 16, "num_attention_heads": 1,
        "image_size": [64, 64], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [7, 7],
    }  # fmt: skip
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": hiera,
        "backbone_channel_list": [128, 64, 32, 16], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = lively(Sam2Model(config))
    model.save_pretrained(folder)
    return model


def tokenizer() -> PreTrainedTokenizerFast:
    special = ["<pad>", "<start>", "<end>", "<other>"]
    words = {word: number for number, word in enumerate([*special, *WORDS])}
    inner = Tokenizer(WordLevel(words, unk_token="<other>"))
    inner.pre_tokenizer = Whitespace()
    inner.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<start>", eos_token="<end>",
        unk_token="<other>", model_max_length=24,
    )  # fmt: skip


def write_clip(folder: Path) -> None:
    text = {
        "vocab_size": 4 + len(WORDS), "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 24,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": 32, "patch_size": 4,
    }  # fmt: skip
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    CLIPModel(config).eval().save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def write_vqa(folder: Path) -> None:
    text = {
        "vocab_size": 4 + len(WORDS), "hidden_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
        "encoder_hidden_size": 24, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "sep_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    BlipForQuestionAnswering(config).eval().save_pretrained(folder)
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(images, tokenizer()).save_pretrained(folder)


def write_vilt(folder: Path) -> None:
    """A model that chooses one of its answers instead of writing one."""
    torch.manual_seed(0)
    config = ViltConfig(
        vocab_size=4 + len(WORDS), hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, image_size=32, patch_size=8, max_position_embeddings=64,
        id2label={0: "round", 1: "oval", 2: "irregular"},
    )  # fmt: skip
    lively(ViltForQuestionAnswering(config)).save_pretrained(folder)
    images = ViltImageProcessorPil(size={"shortest_edge": 32})
    ViltProcessor(images, tokenizer()).save_pretrained(folder)


def lesions(count: int = 4, side: int = SIDE, first: int = 0) -> Dataset:
    """Dark discs on a bright ground, one per patient."""
    volumes = []
    rows, columns = np.mgrid[:side, :side]
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        y, x = rng.uniform(0.3 * side, 0.7 * side, 2)
        radius = rng.uniform(0.15, 0.25) * side
        mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        image = np.where(mask, 0.2, 0.8) + 0.05 * rng.standard_normal((side, side))
        volumes.append(
            Volume(
                Source(id=f"case{number}", patient=f"patient{number}", images=()),
                {"made": number, "side": side},
                np.clip(image, 0, 1).astype(np.float32)[None, None],
                mask.astype(np.uint8)[None, None],
                None,
            )
        )
    return Dataset(volumes, LESION)


def images_of(dataset: Dataset) -> torch.Tensor:
    cases: list[Any] = list(dataset)
    return torch.from_numpy(np.stack([case.image for case in cases]))
