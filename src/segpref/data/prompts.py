"""From a radiologist's characteristics of a lung nodule to a text prompt.

The wording is that of the LIDC characteristics as they are published with the scans' annotations; the
template is the one printed in TDG-DiffDPO (Appendix A.1 and Figure 5). Diameter, box and volume, which
the printed prompts also hold, give the mask away and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from segpref.types import Case, SegprefError

__all__ = ["CHARACTERISTICS", "draw_prompt", "nodule_prompt", "prompts_of"]

CHARACTERISTICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "subtlety": (
            "Extremely Subtle",
            "Moderately Subtle",
            "Fairly Subtle",
            "Moderately Obvious",
            "Obvious",
        ),
        "internalStructure": ("Soft Tissue", "Fluid", "Fat", "Air"),
        "calcification": ("Popcorn", "Laminated", "Solid", "Non-central", "Central", "Absent"),
        "sphericity": ("Linear", "Ovoid/Linear", "Ovoid", "Ovoid/Round", "Round"),
        "margin": ("Poorly Defined", "Near Poorly Defined", "Medium Margin", "Near Sharp", "Sharp"),
        "lobulation": (
            "No Lobulation",
            "Nearly No Lobulation",
            "Medium Lobulation",
            "Near Marked Lobulation",
            "Marked Lobulation",
        ),
        "spiculation": (
            "No Spiculation",
            "Nearly No Spiculation",
            "Medium Spiculation",
            "Near Marked Spiculation",
            "Marked Spiculation",
        ),
        "texture": (
            "Non-Solid/GGO",
            "Non-Solid/Mixed",
            "Part Solid/Mixed",
            "Solid/Mixed",
            "Solid",
        ),
        "malignancy": (
            "Highly Unlikely",
            "Moderately Unlikely",
            "Indeterminate",
            "Moderately Suspicious",
            "Highly Suspicious",
        ),
    }
)
"""Wording of every rating, from 1 on, in the order of the prompt."""


def nodule_prompt(ratings: Mapping[str, int]) -> str:
    """One sentence per characteristic: "The Spiculation is Marked Spiculation.".

    Args:
        ratings: of some or all of :data:`CHARACTERISTICS`, from 1 on; others are not asked for. The
            sentences come in the order of :data:`CHARACTERISTICS`, whatever that of the ratings.

    Raises:
        SegprefError: a rating outside of its scale, or none at all.
    """
    sentences = []
    for name, wording in CHARACTERISTICS.items():
        if name not in ratings:
            continue
        rating = ratings[name]
        if not 1 <= rating <= len(wording):
            raise SegprefError(
                f"{name} is rated {rating}, but its scale goes from 1 to {len(wording)}: correct the "
                "rating"
            )
        sentences.append(f"The {name[0].upper()}{name[1:]} is {wording[rating - 1]}.")
    if not sentences:
        raise SegprefError(
            f"a prompt needs at least one rating of {', '.join(CHARACTERISTICS)}: name one of these"
        )
    return " ".join(sentences)


def prompts_of(case: Case) -> tuple[str, ...]:
    """The prompts of a case, one per line of its text; none where it has no text.

    There is one per rater who described the nodule, so a description that two of them gave is there
    twice and is drawn twice as often. A rater whose mask is empty because he did not mark the nodule
    has none.
    """
    lines = (case.text or "").splitlines()
    return tuple(line for line in (line.strip() for line in lines) if line)


def draw_prompt(case: Case, rng: np.random.Generator) -> str | None:
    """One of the prompts of a case, each as likely; None where it has none.

    Drawn independently of the mask, so that the text does not reveal whose mask is asked for.
    """
    prompts = prompts_of(case)
    return prompts[int(rng.integers(len(prompts)))] if prompts else None
