"""What the values of a mask mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16

from segpref.types.errors import SegprefError

if TYPE_CHECKING:  # commands that train nothing should not wait for torch
    from torch import Tensor

__all__ = ["IGNORE", "LARGEST_ON_DISK", "LabelSpace", "Region"]

IGNORE = 255
"""Mask value of an ignored pixel; such pixels are not part of Omega."""


LARGEST_ON_DISK = 65535
"""Of the values of classes in files."""


@dataclass(frozen=True, slots=True)
class Region:
    """A named union of values of a multi-class label map, such as *whole tumour* = 1, 2, 3."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """What the values of a mask mean.

    ``multi-class``: one field, value ``v`` is class ``names[v]``, ``names[0]`` is the background.
    ``multi-label``: one binary field per name; structures may overlap.

    Args:
        kind: exclusive label map or independent binary structures.
        names: class names in the order of their values, or structure names in the order of fields.
        regions: multi-class only; what is measured instead of the single classes (nested regions).
        on_disk: multi-class only; the value of every class in the files of the dataset, and in those
            that are written, such as 0, 2, 4. Empty where they are 0, 1, 2, ... Masks in memory hold
            0, 1, 2, ... always; two spaces that differ in this alone are equal.
        unlabelled: multi-class only; structures that the labels of a dataset say nothing of: where they
            are, the label is background, or another structure. Masks of a model may hold them. What
            compares with labels leaves them out. Two spaces that differ in this alone are equal, and
            models know nothing of it.
    """

    kind: Literal["multi-class", "multi-label"]
    names: tuple[str, ...]
    regions: tuple[Region, ...] = ()
    on_disk: tuple[int, ...] = field(default=(), compare=False)
    unlabelled: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.kind not in ("multi-class", "multi-label"):
            raise SegprefError(
                f"the kind of a label space is multi-class or multi-label, not {self.kind!r}"
            )
        hints = {"names": str, "regions": Region, "on_disk": int, "unlabelled": str}
        for name, hint in hints.items():
            given = getattr(self, name)
            if not isinstance(given, tuple) or not all(type(one) is hint for one in given):
                raise SegprefError(
                    f"the {name} of a label space are a tuple of {hint.__name__}, not {given!r:.200}"
                )
        least = 2 if self.kind == "multi-class" else 1
        if len(self.names) < least or len(set(self.names)) < len(self.names):
            raise SegprefError(
                f"a {self.kind} label space needs at least {least} distinct names, got {self.names}"
            )
        if self.regions and self.kind == "multi-label":
            raise SegprefError("regions are unions of classes: they need a multi-class label space")
        if self.on_disk and (
            self.kind == "multi-label"
            or len(self.on_disk) != len(self.names)
            or len(set(self.on_disk)) < len(self.on_disk)
            or not all(0 <= value <= LARGEST_ON_DISK for value in self.on_disk)
        ):
            raise SegprefError(
                "the values on disk are one of each class, whole numbers from 0 to "
                f"{LARGEST_ON_DISK}, not {self.on_disk}"
            )
        if self.unlabelled and not (
            self.kind == "multi-class" and set(self.unlabelled) < set(self.structures)
        ):
            raise SegprefError(
                "the unlabelled structures are some, not all, of those of a multi-class label space, "
                f"not {self.unlabelled}"
            )

    def __str__(self) -> str:
        """For sentences, such as "multi-class background, liver, tumour"."""
        regions = ", ".join(one.name for one in self.regions)
        told = f"{self.kind} {', '.join(self.names)}"
        return f"{told} with the regions {regions}" if regions else told

    @property
    def disk_values(self) -> tuple[int, ...]:
        """The value of every class in files."""
        return self.on_disk or tuple(range(self.values))

    def to_disk(
        self, masks: UInt8[np.ndarray, "*any"]
    ) -> UInt8[np.ndarray, "*any"] | UInt16[np.ndarray, "*any"]:
        """Masks with the values that files hold.

        Raises:
            SegprefError: a class has the value by which masks say that nobody knows, and there are such
                pixels.
        """
        if not self.on_disk:
            return masks
        if IGNORE in self.on_disk and (masks == IGNORE).any():
            raise SegprefError(
                f"the class {self.names[self.on_disk.index(IGNORE)]} is {IGNORE} on disk, as ignored "
                "pixels would be: write masks without these"
            )
        kind = np.uint8 if max(self.on_disk) <= IGNORE else np.uint16
        table = np.full(256, IGNORE, kind)
        table[: len(self.on_disk)] = self.on_disk
        written: np.ndarray = table[masks]
        return written

    @property
    def channels(self) -> int:
        """Number C of network outputs."""
        return len(self.names)

    @property
    def fields(self) -> int:
        """Number of independent label maps in a mask: 1, or one per structure."""
        return 1 if self.kind == "multi-class" else len(self.names)

    @property
    def values(self) -> int:
        """Number of values in a field: C, or 2."""
        return len(self.names) if self.kind == "multi-class" else 2

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of what is measured: foreground classes, regions, or structures."""
        if self.regions:
            return tuple(region.name for region in self.regions)
        return self.names[1:] if self.kind == "multi-class" else self.names

    @property
    def labelled(self) -> Bool[np.ndarray, " structure"] | None:
        """Which structures labels say something of; None for all."""
        if not self.unlabelled:
            return None
        return np.array([name not in self.unlabelled for name in self.structures])

    @property
    def structure_values(self) -> tuple[tuple[int, ...], ...]:
        """Multi-class only: the classes that each structure is made of."""
        if self.regions:
            return tuple(region.values for region in self.regions)
        return tuple((value,) for value in range(1, len(self.names)))

    def decode(
        self, logits: Float[Tensor, "*batch C *space"], channel_dim: int = 1, lead: float = 0.0
    ) -> Tensor:
        """Most likely mask under the logits: argmax, or logit > 0 per structure.

        Args:
            logits: of the network.
            channel_dim: which axis C is.
            lead: by how much a class has to lead over every lower one, or a structure over 0.

        Returns:
            uint8 ``[*batch, field, *space]``.
        """
        if self.kind == "multi-class":
            return _argmax(logits, channel_dim, lead)
        import torch

        return (logits > lead).to(torch.uint8)

    def structure_masks(
        self, masks: UInt8[np.ndarray, "*batch field *space"], field_axis: int = 0
    ) -> Bool[np.ndarray, "*batch structure *space"]:
        """One binary mask per structure; ignored pixels belong to none."""
        if self.kind == "multi-label":
            return np.asarray(masks == 1)
        labels = np.take(masks, 0, axis=field_axis)
        if self.regions:
            parts = [np.isin(labels, values) for values in self.structure_values]
        else:
            parts = [labels == value for value in range(1, len(self.names))]
        return np.stack(parts, axis=field_axis)


def _argmax(logits: Tensor, dim: int, lead: float) -> Tensor:
    """Index of the highest logit, the first of equal ones, as uint8 with the axis kept.

    On the CPU, torch's argmax over a leading axis is many times slower than one comparison a class.
    The values ascend, so the largest label is that of the last class to take the lead.
    """
    import torch

    planes = logits.unbind(dim)
    labels = torch.zeros_like(planes[0], dtype=torch.uint8)
    for value, highest in enumerate(accumulate(planes[:-1], torch.maximum), start=1):
        ahead = planes[value] > (highest + lead if lead else highest)
        labels = torch.maximum(labels, ahead.view(torch.uint8).mul_(value))
    return labels.unsqueeze(dim)
