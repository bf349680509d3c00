"""A frozen text encoder, asked once per distinct text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from segpref.extras import needed
from segpref.prompts.checkpoints import pretrained
from segpref.types import SegprefError

__all__ = ["TextEncoder", "Words", "text_encoder"]

Words = tuple[Float[Tensor, "B token width"], Bool[Tensor, "B token"]]
"""Embedded tokens of some texts, and where there is a token; a row without any stands for no text."""


class TextEncoder:
    """Token embeddings of a Hugging Face encoder (its last hidden state), kept per text.

    Args:
        name: of the encoder on the Hugging Face hub, or a folder that holds one;
            ``package:NAME/FOLDER`` is a folder inside an installed Python package.
        longest: number of tokens after which a text is cut off.
        batch_size: texts that are encoded at a time.
    """

    def __init__(
        self,
        name: str = "emilyalsentzer/Bio_ClinicalBERT",
        longest: int = 256,
        batch_size: int = 32,
    ) -> None:
        self.name, self.longest, self.batch_size = name, longest, batch_size
        self._known: dict[str, Float[Tensor, "token width"]] = {}
        self._loaded: tuple[Any, Any] | None = None

    @property
    def width(self) -> int:
        """Length of an embedding; 768 for Bio_ClinicalBERT."""
        return int(self._models()[1].config.hidden_size)

    def prepare(self, texts: Iterable[str]) -> None:
        """Encode those that are not known yet."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        # Texts of like length together, so that little is spent on padding.
        missing.sort(key=len)
        for first in range(0, len(missing), self.batch_size):
            few = missing[first : first + self.batch_size]
            for text, embedded in zip(few, self._encode(few), strict=True):
                self._known[text] = embedded

    def __call__(self, texts: Sequence[str | None]) -> Words:
        """Embeddings of texts in this order, padded to the longest; on the CPU, without a graph."""
        self.prepare(text for text in texts if text is not None)
        rows = [None if text is None else self._known[text] for text in texts]
        length = max((len(row) for row in rows if row is not None), default=1)
        width = next((row.shape[1] for row in rows if row is not None), None) or self.width
        words = torch.zeros(len(rows), length, width)
        there = torch.zeros(len(rows), length, dtype=torch.bool)
        for place, row in enumerate(rows):
            if row is not None:
                words[place, : len(row)] = row
                there[place, : len(row)] = True
        return words, there

    def _encode(self, texts: Sequence[str]) -> list[Float[Tensor, "token width"]]:
        tokenizer, model = self._models()
        tokens = tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        )
        with torch.no_grad():
            hidden = model(**tokens).last_hidden_state
        kept = tokens["attention_mask"].bool()
        # Copies, for a row would keep the whole batch alive.
        return [row[keep].float().clone() for row, keep in zip(hidden, kept, strict=True)]

    def _models(self) -> tuple[Any, Any]:
        if self._loaded is None:
            transformers = needed("transformers", "diffusion")
            place = _place(self.name)
            tokenizer = pretrained(transformers.AutoTokenizer, place, "a tokenizer")
            model = pretrained(transformers.AutoModel, place, "a text encoder")
            self._loaded = tokenizer, model.eval().requires_grad_(False)
        return self._loaded


@cache
def text_encoder(name: str) -> TextEncoder:
    """The encoder of this name: all models of a process share it, and so embed every text once."""
    return TextEncoder(name)


def _place(name: str) -> str:
    if not name.startswith("package:"):
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    try:
        return str(resources.files(package) / folder)
    except ImportError as error:
        raise SegprefError(
            f"the text encoder {name} is in a package that is not installed: install {package}, or "
            "name another text_encoder"
        ) from error
