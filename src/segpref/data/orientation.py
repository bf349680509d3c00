"""Reorients volumes to the axes that a network expects, and masks back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.late import late
from segpref.types import Case, SegprefError

__all__ = ["axes_of", "is_orientation", "orientation_of", "reordered", "turned", "turned_back"]

ornt = late("nibabel.orientations")

_PAIRS = ("LR", "PA", "IS")


def is_orientation(codes: str) -> bool:
    """Whether these are three letters, one of each pair of directions, in any order."""
    return len(codes) == 3 and all(sum(letter in pair for letter in codes) == 1 for pair in _PAIRS)


def axes_of(affine: Float[np.ndarray, "4 4"]) -> str:
    """Where the axes point to, as nearly as letters can say, such as ``LPS``."""
    return "".join(ornt.aff2axcodes(affine))


def orientation_of(case: Case) -> str | None:
    """Orientation of a volume's axes; None if its file does not say, and for 2D images."""
    known = case.affine is not None and case.spacing_mm is not None and case.oriented
    if not known or case.image.ndim != 4:
        return None
    return axes_of(np.asarray(case.affine))


def reordered(sizes: Sequence[float], own: str, codes: str) -> tuple[float, ...]:
    """Numbers per axis, in the order of the axes turned from ``own`` to ``codes``."""
    axes, _ = _axes(
        np.asarray(ornt.ornt_transform(ornt.axcodes2ornt(own), ornt.axcodes2ornt(codes)))
    )
    return tuple(sizes[axis] for axis in axes)


def turned(case: Case, codes: str | None) -> Case:
    """The case with its axes in another order and direction; views, where numpy can.

    Args:
        case: with an affine, and volumes of three axes.
        codes: where the axes are to point, such as ``RAS``; None leaves them.

    Raises:
        SegprefError: no volume, or it does not state where its axes point.
    """
    if codes is None:
        return case
    turn_of = _turn(case, codes)
    axes, flips = _axes(turn_of)

    def turn(array: np.ndarray) -> np.ndarray:
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in axes))
        return np.flip(moved, tuple(lead + n for n, flip in enumerate(flips) if flip))

    spacing = case.spacing_mm
    return replace(
        case,
        image=turn(case.image),
        label=None if case.label is None else turn(case.label),
        raters=None if case.raters is None else turn(case.raters),
        spacing_mm=None if spacing is None else tuple(spacing[axis] for axis in axes),
        affine=np.asarray(case.affine) @ ornt.inv_ornt_aff(turn_of, case.image.shape[1:]),
    )


def turned_back(
    values: Float[Tensor, "C *turned"], case: Case, codes: str | None
) -> Float[Tensor, "C *space"]:
    """What was computed on the turned case, on the axes of the case as it is on disk."""
    if codes is None:
        return values
    axes, flips = _axes(_turn(case, codes))
    unflipped = torch.flip(values, [1 + n for n, flip in enumerate(flips) if flip])
    return unflipped.permute(0, *(1 + axes.index(axis) for axis in range(3))).contiguous()


def _turn(case: Case, codes: str) -> Float[np.ndarray, "3 2"]:
    """For every axis on disk, where it goes and whether it is turned round (-1), as nibabel has it."""
    if case.image.ndim != 4 or case.affine is None:
        raise SegprefError(
            f"{case.id} does not state where its axes point, so it can't be turned to {codes}: leave "
            "orientation out, or use volumes with an affine"
        )
    return np.asarray(
        ornt.ornt_transform(ornt.io_orientation(case.affine), ornt.axcodes2ornt(codes))
    )


def _axes(turn: Float[np.ndarray, "3 2"]) -> tuple[Sequence[int], Sequence[bool]]:
    """Which axis on disk each turned axis is, and whether it is turned round."""
    axes = np.argsort(turn[:, 0])
    return axes.tolist(), (turn[axes, 1] < 0).tolist()
