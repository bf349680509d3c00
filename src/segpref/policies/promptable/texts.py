"""Texts as vectors, by a frozen encoder; each distinct text once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from segpref.extras import needed
from segpref.prompts.checkpoints import pretrained
from segpref.prompts.clip import check_length
from segpref.runtime import moved, runtime

__all__ = ["SentenceEncoder"]


class SentenceEncoder:
    """A text encoder of transformers: the text tower of a CLIP, or a BERT with the mean of its tokens.

    Vectors have the length ``sqrt(width)``, so that their components are of the size of 1, as those
    of SAM's other prompts are.

    Args:
        name: local folder, or name on the Hugging Face hub.
    """

    def __init__(self, name: str) -> None:
        transformers = needed("transformers", "promptable")
        self.name = name
        model = pretrained(transformers.AutoModel, name, "a text encoder")
        self._model = runtime().place(model).eval().requires_grad_(False)
        self._tokenizer = pretrained(transformers.AutoTokenizer, name, "a tokenizer")
        config = self._model.config
        longest = int(getattr(config, "text_config", config).max_position_embeddings)
        self._longest = min(longest, int(self._tokenizer.model_max_length))
        self._known: dict[str, Tensor] = {}

    @property
    def width(self) -> int:
        """Size of the vectors."""
        config = self._model.config
        return int(getattr(config, "projection_dim", None) or config.hidden_size)

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n width"]:
        """Vectors of texts, on the CPU and without a graph.

        Raises:
            SegprefError: a text is longer than the encoder reads.
        """
        for text in dict.fromkeys(texts):
            if text not in self._known:
                self._known[text] = self._encoded(text)
        return torch.stack([self._known[text] for text in texts])

    def _encoded(self, text: str) -> Float[Tensor, " width"]:
        inputs: Any = self._tokenizer([text], return_tensors="pt", verbose=False)
        check_length(text, inputs["input_ids"].shape[1], self._longest, self.name)
        inputs = {name: moved(value, self._model.device) for name, value in inputs.items()}
        with torch.no_grad():
            if hasattr(self._model, "get_text_features"):
                inputs.pop("token_type_ids", None)
                output = self._model.get_text_features(**inputs)
                found = output if isinstance(output, Tensor) else output.pooler_output
            else:
                # One text at a time, so there is no padding that the mean would have to leave out.
                found = self._model(**inputs).last_hidden_state.mean(dim=1)
        vector = functional.normalize(found[0].float().cpu(), dim=0) * len(found[0]) ** 0.5
        assert isinstance(vector, Tensor)
        return vector
