"""Text encoders with random weights, in the very format of real checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

WORDS = [
    "the", "margin", "is", "sharp", "smooth", "poorly", "defined", "and", "round", ".", "a", "small",
    "bright", "nodule",
]  # fmt: skip
SPECIAL = ["<pad>", "<start>", "<end>", "<other>"]
VOCABULARY = len(SPECIAL) + len(WORDS)
WIDTH = 16


def write_tokenizer(folder: Path, framed: bool = True, **changes: Any) -> None:
    """Of the few words above, one token each; framed by a start and an end, or not."""
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    inner = Tokenizer(WordLevel(words, unk_token="<other>"))
    inner.pre_tokenizer = Whitespace()
    if framed:
        inner.post_processor = TemplateProcessing(
            single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
        )
    names: dict[str, Any] = {
        "pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<other>",
        **changes,
    }  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(folder)


def write_model(folder: Path, model: Any) -> Path:
    """Its weights large enough that mistakes would show."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "norm" not in name:
                weight.normal_(std=0.3)
    model.eval().save_pretrained(folder)
    return folder


def write_bert(folder: Path, positions: int = 64, **changes: Any) -> Path:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=positions, pad_token_id=0,
    )  # fmt: skip
    write_tokenizer(folder, **changes)
    return write_model(folder, BertModel(config))
