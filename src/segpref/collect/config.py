"""The settings of a study of votes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from segpref.collect.contents import Mode
from segpref.settings import Settings, setting
from segpref.types import SegprefError

__all__ = ["CollectConfig"]


@dataclass(frozen=True, kw_only=True)
class CollectConfig(Settings):
    """Votes."""

    mode: Mode = "pair"
    """pair (which of two masks is better), best-of-four, accept-reject (is the model's mask good
    enough) or base-or-tuned (which of two models is better, on test patients)."""

    images: int = setting(50, least=1)
    """Images that people are asked about, at most; in 2D slices."""

    pairs_per_image: int = setting(4, least=1, most=8)
    """Questions about one image, at most."""

    random: float = setting(0.2, least=0, most=1)
    """Share of the pairs that are drawn at random, the others by expected information."""

    repeats: float = setting(0.1, least=0, most=0.5)
    """Share of a rater's pairs that are asked again later with the sides exchanged."""

    gold: float = setting(0.05, least=0, most=0.5)
    """Share of the pairs whose answer is known from a label, of patients that are never trained on."""

    practice: int = setting(3, least=0, most=20)
    """Pairs with a known answer that every rater sees first."""

    votes: int = setting(1, least=1, most=100)
    """How many raters answer each pair."""

    choose: float = setting(0.2, least=0, most=0.5)
    """Share of the patients whose votes choose the checkpoint, and are not learned from."""

    question: str | None = None
    """What raters are asked, in words; one that suits the mode if left out."""

    title: str = "Which segmentation is better?"
    """Heading of the page."""

    candidates: int = setting(32, least=4, most=1000)
    """Number K of masks of each image that pairs are chosen from; the first is the model's own."""

    families: list[Callable[[Any], Any]] | Literal["auto", "lean", "paper"] = "auto"
    """What makes the candidates: lean (edits, and two changed views), paper (all of RN-DPO's), auto
    (lean in 2D from 16 candidates on, else paper), or a list of class_path and init_args."""

    most_dice: float = setting(0.97, above=0, below=1)
    """Pairs of masks with a higher Dice score in the structure that is asked about are near-duplicates,
    and never shown."""

    least_voxels: int = setting(10, least=1)
    """Pairs that differ in fewer voxels of the model's input are never shown."""

    channel: int = setting(0, least=0)
    """Which channel is shown of images that have several and are not in colour."""

    batch_size: int = setting(8, least=1)
    """Images per pass of the network."""

    seed: int = setting(0, least=0)
    """Random seed of images, candidates and pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("question", "title"):
            text = getattr(self, name)
            if text is not None and (not text.strip() or len(text) > 500):
                raise SegprefError(f"{name} has from 1 to 500 characters: write it in a sentence")
        if not self.families:
            raise SegprefError("families must name at least one proposal family, or be left out")
