"""Text encoders of all kinds that are named in YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segpref.policies.diffusion import TextEncoder
from segpref.types import SegprefError

pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
from tiny_encoders import VOCABULARY, WIDTH, write_bert, write_model, write_tokenizer  # noqa: E402

SHORT, LONG = "a small nodule", "the margin is sharp and the nodule is round ."
LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def write_t5(folder: Path) -> Path:
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0, **ENDS,
    )  # fmt: skip
    write_tokenizer(folder)
    return write_model(folder, transformers.T5Model(config))


def write_bart(folder: Path) -> Path:
    config = transformers.BartConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=8, **ENDS,
    )  # fmt: skip
    write_tokenizer(folder)
    return write_model(folder, transformers.BartModel(config))


def write_two_towers(folder: Path, kind: str = "CLIP", **tokens: Any) -> Path:
    text = {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "max_position_embeddings": 8, **LAYERS,
        **ENDS,
    }  # fmt: skip
    vision = {"hidden_size": 24, "image_size": 16, "patch_size": 8, **LAYERS}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision)
    write_tokenizer(folder, **tokens)
    return write_model(folder, getattr(transformers, f"{kind}Model")(config))


def write_siglip(folder: Path) -> Path:
    # Its tokenizer gives no mask of what is padding.
    return write_two_towers(folder, "Siglip", model_input_names=["input_ids"])


def write_gpt2(folder: Path) -> Path:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=8,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    # Such tokenizers know no padding, and pad before a text if they are told of any.
    write_tokenizer(folder, framed=False, pad_token=None, padding_side="left")
    return write_model(folder, transformers.GPT2Model(config))


def write_roberta(folder: Path) -> Path:
    config = transformers.RobertaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, max_position_embeddings=9, **LAYERS, **ENDS
    )
    write_tokenizer(folder)
    return write_model(folder, transformers.RobertaModel(config))


def write_short_bert(folder: Path) -> Path:
    return write_bert(folder, positions=8)


def told(encoder: TextEncoder, texts: list[str | None]) -> list[Tensor]:
    words, there = encoder(texts)
    return [row[keep] for row, keep in zip(words, there, strict=True)]


@pytest.mark.parametrize(
    ("write", "tokens"),
    [
        (write_t5, 12),
        (write_bart, 8),
        (write_two_towers, 8),
        (write_siglip, 8),
        (write_gpt2, 8),
        (write_roberta, 8),
        (write_short_bert, 8),
    ],
)
def test_encoders_of_every_kind(tmp_path: Path, write: Callable[[Path], Path], tokens: int) -> None:
    encoder = TextEncoder(str(write(tmp_path)))
    assert encoder.width == WIDTH
    short, long, none = told(encoder, [SHORT, LONG, None])
    assert short.isfinite().all()
    assert (short[0] - short[1]).abs().max() > 1e-3
    assert 3 <= len(short) <= 5
    # A text of 10 words and its ends is cut to what the encoder takes.
    assert len(long) == tokens
    assert len(none) == 0
    # Neither padding nor what else is asked changes what a text means.
    torch.testing.assert_close(told(TextEncoder(str(tmp_path)), [SHORT])[0], short)


def test_the_text_part_is_the_one_of_transformers(tmp_path: Path) -> None:
    folder = write_two_towers(tmp_path)
    (found,) = told(TextEncoder(str(folder)), [SHORT])
    tower = transformers.CLIPTextModel.from_pretrained(folder).eval()
    ids = torch.tensor([[1, 14, 15, 17, 2]])
    with torch.no_grad():
        expected = tower(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(found, expected)


def test_the_tokenizer_limits_the_length_too(tmp_path: Path) -> None:
    write_bert(tmp_path, positions=64, model_max_length=6)
    assert len(told(TextEncoder(str(tmp_path)), [LONG])[0]) == 6
    assert len(told(TextEncoder(str(tmp_path), longest=5), [LONG])[0]) == 5


def test_bert_is_asked_as_it_always_was(tmp_path: Path) -> None:
    write_bert(tmp_path)
    found = told(TextEncoder(str(tmp_path)), [SHORT, LONG])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    tokens = tokenizer(
        [SHORT, LONG], padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state
    for row, states, mask in zip(found, hidden, tokens["attention_mask"], strict=True):
        assert torch.equal(row, states[mask.bool()])


def test_what_is_no_text_encoder_is_told_in_a_sentence(tmp_path: Path) -> None:
    config = transformers.ViTConfig(hidden_size=WIDTH, image_size=16, patch_size=8, **LAYERS)
    write_tokenizer(tmp_path / "vit")
    write_model(tmp_path / "vit", transformers.ViTModel(config))
    write_bert(tmp_path / "mute", pad_token=None, eos_token=None)
    for name in ("vit", "mute"):
        with pytest.raises(SegprefError, match=f"{name} can't be used as a text encoder"):
            TextEncoder(str(tmp_path / name))([SHORT, LONG])
        with pytest.raises(SegprefError, match="such as BERT, T5 or CLIP"):
            _ = TextEncoder(str(tmp_path / name)).width
