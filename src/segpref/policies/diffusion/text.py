"""A frozen text encoder, run once per distinct text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from segpref.checking import checked
from segpref.extras import needed
from segpref.prompts.checkpoints import pretrained
from segpref.runtime import moved, runtime
from segpref.types import SegprefError

__all__ = ["TextEncoder", "Words", "text_encoder"]

Words = tuple[Float[Tensor, "B token width"], Bool[Tensor, "B token"]]
"""Embedded tokens of some texts, and where there is a token; a row without any means no text."""


@checked(longest={"least": 1}, batch_size={"least": 1})
class TextEncoder:
    """Token embeddings of a Hugging Face encoder (its last hidden state), kept per text.

    Of an encoder-decoder such as T5 it is the encoder that is asked, of a model with a tower for images
    and one for texts such as CLIP the latter.

    Args:
        name: of the encoder on the Hugging Face hub, or a folder that holds one;
            ``package:NAME/FOLDER`` is a folder inside an installed Python package.
        longest: number of tokens after which a text is cut off; fewer where the encoder has fewer
            positions or its tokenizer says so.
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
        self._loaded: _Loaded | None = None

    @cached_property
    def width(self) -> int:
        """Length of an embedding; 768 for Bio_ClinicalBERT."""
        # Not what the configuration says: some encoders project their last hidden state.
        return self._encode(["text"])[0].shape[1]

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
        try:
            tokenizer, model, inputs, room = self._models()
            tokens = tokenizer(
                list(texts),
                padding=True,
                truncation=True,
                max_length=min(self.longest, room),
                return_attention_mask=True,
                return_tensors="pt",
            )
            with torch.no_grad():
                device = next(model.parameters()).device
                taken = {n: moved(value, device) for n, value in tokens.items() if n in inputs}
                hidden = model(**taken).last_hidden_state.cpu()
            kept = tokens["attention_mask"].bool()
            # Copies, for a row would keep the whole batch alive.
            return [row[keep].float().clone() for row, keep in zip(hidden, kept, strict=True)]
        except SegprefError:
            raise
        except Exception as error:  # whatever a model that is no text encoder raises
            reason = " ".join(str(error).split())[:200]
            raise SegprefError(
                f"{self.name} can't be used as a text encoder ({reason}): name a model as text_encoder "
                "that gives an embedding per token of a text, such as BERT, T5 or CLIP"
            ) from error

    def _models(self) -> _Loaded:
        if self._loaded is None:
            transformers = needed("transformers", "diffusion")
            place = _place(self.name)
            tokenizer = pretrained(transformers.AutoTokenizer, place, "a tokenizer")
            whole = pretrained(transformers.AutoModel, place, "a text encoder")
            model = runtime().place(_text_part(whole)).eval().requires_grad_(False)
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            # Padding before a text would shift its positions: it would mean another thing in a batch.
            tokenizer.padding_side = "right"
            inputs = frozenset(signature(model.forward).parameters)
            self._loaded = _Loaded(tokenizer, model, inputs, _room(tokenizer, model))
        return self._loaded


class _Loaded(NamedTuple):
    tokenizer: Any
    model: Any
    inputs: frozenset[str]
    """Names of what the model takes; tokenizers may give more."""
    room: int
    """Tokens that it takes at most."""


def _text_part(model: Any) -> Any:
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    return getattr(model, "text_model", model)


def _room(tokenizer: Any, model: Any) -> int:
    places = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(places, int) or places < 1:  # as of T5, whose positions are relative
        return int(tokenizer.model_max_length)
    # RoBERTa-like models begin to count behind the padding's place.
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return min(int(tokenizer.model_max_length), places - (0 if padding is None else padding + 1))


@cache
def text_encoder(name: str) -> TextEncoder:
    """The encoder of this name: all models of a process share it, and so embed every text once."""
    return TextEncoder(name)


def _place(name: str) -> str:
    if not name.startswith("package:"):
        return name
    package, _, folder = name.removeprefix("package:").partition("/")
    # Found, not imported: the name may come from a model file, and importing a package runs it.
    found = find_spec(package) if package.isidentifier() else None
    places = found.submodule_search_locations if found is not None else None
    if not places or ".." in Path(folder).parts:
        raise SegprefError(
            f"the text encoder {name} is in a package that is not installed: install {package}, or "
            "name another text_encoder"
        )
    return str(Path(next(iter(places))) / folder)
