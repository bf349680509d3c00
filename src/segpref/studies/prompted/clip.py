"""A small substitute for a downloaded CLIP, which distinguishes one structure from none.

Its classes are those of a real one, so that saliency and prompts run as they would with one. It learns
from crops of the fold's labelled images and from images without the structure, where a real one
brings what it has read of millions of other images.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segpref.data import Dataset
from segpref.extras import needed
from segpref.progress import track
from segpref.prompts.clip import CLIP_MEAN, CLIP_STD
from segpref.runtime import runtime
from segpref.studies.prompted.recipe import Clip

__all__ = ["fit_clip"]

ABSENT = "normal tissue"
"""What an image without the structure is called."""

_WIDTH = 64


def fit_clip(
    folder: Path, labelled: Dataset, empty: Dataset | None, structure: str, how: Clip, seed: int
) -> None:
    """Train one and write it as a folder of transformers; what is there already stays.

    Args:
        folder: the folder to make, atomically.
        labelled: images with labels of one structure.
        empty: images without the structure.
        structure: what the text says.
        how: its settings.
        seed: of weights and crops.
    """
    if folder.exists():
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = dict.fromkeys(f"{structure} {ABSENT}".split())
        tokenizer = _tokenizer(list(words))
        here = runtime()
        model = here.place(_model(how.side, len(words) + _SPECIAL))
        inputs = dict(tokenizer([structure, ABSENT], padding=True, return_tensors="pt"))
        inputs.pop("token_type_ids", None)
        inputs = {name: here.move(value) for name, value in inputs.items()}
        optimizer = torch.optim.AdamW(model.parameters(), how.learning_rate)
        rng = np.random.default_rng([seed, 0xC11B])
        for step in track(range(how.steps), "training the CLIP stand-in", how.steps):
            for group in optimizer.param_groups:
                group["lr"] = how.learning_rate * (1 - step / how.steps)
            drawn = [_view(labelled, empty, how.side, rng) for _ in range(how.batch_size)]
            pictures = here.move(torch.stack([picture for picture, _ in drawn]))
            wanted = here.move(torch.tensor([int(not has) for _, has in drawn]))
            found = model(pixel_values=pictures, **inputs).logits_per_image
            loss = functional.cross_entropy(found, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.cpu().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)


_SPECIAL = 4


def _tokenizer(words: list[str]) -> Any:
    transformers, tokenizers = (
        needed("transformers", "promptable"),
        needed("tokenizers", "promptable"),
    )
    numbers = {word: n for n, word in enumerate(["<pad>", "<start>", "<end>", "<other>", *words])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="<other>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<start>", eos_token="<end>",
        unk_token="<other>", model_max_length=24,
    )  # fmt: skip


def _model(side: int, vocabulary: int) -> Any:
    transformers = needed("transformers", "promptable")
    shared = {"hidden_size": _WIDTH, "num_attention_heads": 4, "intermediate_size": 4 * _WIDTH}
    config = transformers.CLIPConfig(
        text_config={
            **shared, "vocab_size": vocabulary, "num_hidden_layers": 1,
            "max_position_embeddings": 24, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        },
        vision_config={**shared, "num_hidden_layers": 3, "image_size": side, "patch_size": 8},
        projection_dim=_WIDTH,
    )  # fmt: skip
    return transformers.CLIPModel(config)


def _view(
    labelled: Dataset, empty: Dataset | None, side: int, rng: np.random.Generator
) -> tuple[Tensor, bool]:
    """A window of an image, enlarged or with all else black, and whether the structure is in it."""
    if empty is not None and rng.random() < 0.25:
        image = np.asarray(empty[int(rng.integers(len(empty)))].image[0])
        mask = np.zeros(image.shape, dtype=bool)
    else:
        case = labelled[int(rng.integers(len(labelled)))]
        image, mask = np.asarray(case.image[0]), np.asarray(case.label[0]) == 1
    wanted = rng.random() < 0.6
    for _ in range(20):
        window = _window(image.shape, rng)
        inside = int(mask[window].sum())
        if mask.any() and wanted and inside >= mask.sum() / 2:
            break
        if not (mask.any() and wanted) and inside <= 0.02 * mask.sum():
            break
    has = bool(mask.any() and inside >= mask.sum() / 2)
    if rng.random() < 0.5:
        picture = np.zeros_like(image)
        picture[window] = image[window]
    else:
        picture = image[window]
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.7, 1.4)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    tensor = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32))[None, None]
    tensor = functional.interpolate(tensor, size=(side, side), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (tensor[0].expand(3, -1, -1) - mean) / std, has


def _window(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    share = rng.uniform(0.25, 1.0)
    height, width = (max(8, round(share * n)) for n in shape)
    top, left = rng.integers(shape[0] - height + 1), rng.integers(shape[1] - width + 1)
    return slice(top, top + height), slice(left, left + width)
