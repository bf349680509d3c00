"""The interface of promptable policies for prompters, proposals, judges and propagation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from segpref.prompts.prompt import Prompts
from segpref.types import LabelSpace, Predictor, SegprefError, State

__all__ = [
    "Answer",
    "ParticularPrompter",
    "PreparedPrompter",
    "Promptable",
    "PromptedModel",
    "Prompter",
    "prompted",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a promptable model says to prompts.

    Args:
        logits: at input resolution, M masks per prompt.
        quality: the model's own guess of the IoU of each mask with the truth.
    """

    logits: Float[Tensor, "B M C *space"]
    quality: Float[Tensor, "B M C"]


@runtime_checkable
class Prompter(Protocol):
    """Makes prompts for images; equal images get equal prompts.

    It says ``Any`` so that a prompter may be named in YAML (see :mod:`segpref.judges.yaml_types`).
    """

    def __call__(self, images: Any) -> Any:
        """:data:`Prompts` of images ``[B, channel, H, W]``: one per image and structure."""
        ...

    def key(self) -> dict[str, object]:
        """What the prompts depend on besides the image, for JSON: they are cached under it."""
        ...


@runtime_checkable
class PreparedPrompter(Prompter, Protocol):
    """A prompter that makes prompts of a whole dataset at once, and keeps them."""

    def prepare(self, dataset: Any, cache: Any = None) -> None:
        """Make what is missing."""
        ...


@runtime_checkable
class ParticularPrompter(Prompter, Protocol):
    """A prompter that suits certain images and structures only."""

    def check(self, label_space: LabelSpace, preparation: Any) -> None:
        """Refuse others; raises SegprefError."""
        ...


@runtime_checkable
class Promptable(Predictor, Protocol):
    """A model that is asked by prompts."""

    def prompts_for(self, images: Float[Tensor, "B channel H W"]) -> Prompts:
        """The model's own prompts."""
        ...

    def ask(
        self,
        images: Float[Tensor, "B channel H W"],
        prompts: Prompts,
        *,
        multimask: bool = False,
        state: State | None = None,
    ) -> Answer:
        """Masks for these prompts, without a graph; M is 1 unless ``multimask``.

        ``state`` of the same images spares the image encoder. A single image may be asked several
        times: one list of prompts each.
        """
        ...


@runtime_checkable
class PromptedModel(Promptable, Protocol):
    """A promptable model that prompts itself, and can be prompted by somebody else for a while."""

    prompter: Prompter

    def read(self, texts: Sequence[str]) -> None:
        """Read texts that it will be asked with; raises SegprefError where it can't."""
        ...


def prompted(model: object) -> PromptedModel:
    """The model, if it can be asked by prompts.

    Raises:
        SegprefError: it can't.
    """
    if not isinstance(model, PromptedModel):
        raise SegprefError(
            "this model takes no prompts, it finds its structures by itself: leave the prompts "
            "out, and do not carry any, or give a promptable model"
        )
    return model
