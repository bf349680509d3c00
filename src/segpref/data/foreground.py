"""Checks that labels contain foreground, since a training without it has nothing to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from segpref.progress import console
from segpref.types import Case, LabelSpace, SegprefError

__all__ = ["check_foreground"]


def check_foreground(
    cases: Sequence[Case], label_space: LabelSpace, role: Literal["training", "validation"]
) -> None:
    """Refuse labels none of which shows any structure, and name structures that none of them shows.

    Without a label there is nothing to check. Labels are read until every structure has been seen.

    Args:
        cases: prepared, with labels.
        label_space: what the labels mean.
        role: what they are for.

    Raises:
        SegprefError: all labels are empty.
    """
    known, labelled = label_space.labelled, 0
    seen = np.zeros(len(label_space.structures), bool)
    asked = np.ones_like(seen) if known is None else known
    for case in cases:
        if case.label is None:
            continue
        labelled += 1
        masks = label_space.structure_masks(np.asarray(case.label))
        seen |= masks.reshape(len(masks), -1).any(axis=1)
        if seen[asked].all():
            return
    if not labelled:
        return
    missing = [
        name
        for name, found, due in zip(label_space.structures, seen, asked, strict=True)
        if due and not found
    ]
    if not seen.any():
        raise SegprefError(
            f"none of the {labelled} {role} labels shows {' or '.join(missing)}: put patients with "
            "foreground into this part of the split, or check the crop and the labels"
        )
    consequence = (
        "it will not be learned"
        if role == "training"
        else "it does not count where a model is chosen"
    )
    console.print(
        f"None of the {labelled} {role} labels shows {', '.join(missing)}: {consequence}.",
        style="yellow",
        soft_wrap=True,
    )
