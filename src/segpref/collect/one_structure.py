"""Candidates of an exclusive label map that differ from the anchor in one structure alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
from jaxtyping import UInt8

from segpref.preferences import content_id
from segpref.types import Candidate, LabelSpace, Slate

__all__ = ["one_structure_slate"]


def one_structure_slate(slate: Slate, space: LabelSpace) -> Slate:
    """A slate of the same size in which a vote about one structure is about nothing else.

    A person is asked about one structure at a time, and what they say must not be learned about
    another one. Each candidate is cut into one for every structure: its label is taken where taking it
    changes this structure and no other, and the anchor's elsewhere. So voxels that pass from one
    structure to another, which change two, stay as they are. The structures take turns, and candidates
    equal to earlier ones are left out; earlier ones are repeated where there are too few.

    Masks whose structures may overlap, or of one structure alone, are left as they are: there a
    preference is about one field.

    Args:
        slate: of any candidates; the first is the anchor.
        space: what the masks mean.
    """
    if space.kind == "multi-label" or len(space.structures) < 2:
        return slate
    anchor, table = slate.masks[0], _changed(space)
    masks, candidates, seen = [anchor], [slate.candidates[0]], {content_id(anchor)}
    for structure, place in _turns(slate, space):
        if len(masks) == len(slate):
            break
        other = slate.masks[place]
        mask = np.where(table[anchor, other] == structure, other, anchor)
        if (name := content_id(mask)) not in seen:
            seen.add(name)
            masks.append(mask)
            own = slate.candidates[place]
            settings = {**own.settings, "structure": space.structures[structure]}
            candidates.append(Candidate(own.family, settings))
    count = len(masks)
    rows = [number % count for number in range(len(slate))]
    return Slate(np.stack([masks[row] for row in rows]), tuple(candidates[row] for row in rows))


def _turns(slate: Slate, space: LabelSpace) -> Iterator[tuple[int, int]]:
    """(structure, candidate), every structure in turn."""
    count = len(space.structures)
    rows = [[(structure, place) for place in range(1, len(slate))] for structure in range(count)]
    for turn in zip_longest(*rows):
        yield from (one for one in turn if one is not None)


def _changed(space: LabelSpace) -> UInt8[np.ndarray, "256 256"]:
    """For two values of a voxel, the only structure that holds just one of them; 255 for others."""
    values = np.arange(256, dtype=np.uint8)
    inside = space.structure_masks(values[None])
    differs = inside[:, :, None] != inside[:, None, :]
    table = differs.argmax(axis=0).astype(np.uint8)
    table[differs.sum(axis=0) != 1] = 255
    return np.asarray(table)
