"""Appearance of phantoms: smooth random fields, soft shapes, distractors, scanner effects.

A phantom is always computed as a volume on a ``Grid``; a 2D phantom is a volume of one slice, so
the slices of one patient belong together. Coordinates run from -1 to 1 over the field of view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from segpref.late import late

__all__ = ["Blob", "Field", "Grid", "Scanner", "Volume", "paint", "soft"]

ndimage = late("scipy.ndimage")

Volume = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Grid:
    """The voxel centres of a volume as one coordinate array per axis, ready to broadcast."""

    x: Volume
    y: Volume
    z: Volume

    @classmethod
    def of(cls, size: tuple[int, int, int], only: tuple[float, float, float] = (0, 0, 0)) -> Grid:
        """Cover the field of view with ``size`` voxels; an axis of one voxel sits at ``only``."""
        axes = [
            np.full(1, place) if count == 1 else (np.arange(count) + 0.5) * 2 / count - 1
            for count, place in zip(size, only, strict=True)
        ]
        x, y, z = np.meshgrid(
            *(axis.astype(np.float32) for axis in axes), indexing="ij", sparse=True
        )
        return cls(x, y, z)

    @property
    def pixel(self) -> float:
        """Size of a voxel along the finest axis, in coordinates."""
        return 2 / max(self.x.size, self.y.size, self.z.size)


@dataclass(frozen=True, slots=True)
class Field:
    """A smooth Gaussian random field of unit variance, the same one on every grid.

    Normal knots on a regular lattice, spread by Gaussian kernels. It is separable, so evaluating it
    costs three small matrix products, whatever its smoothness.
    """

    knots: Float[np.ndarray, "i j k"]

    @classmethod
    def draw(cls, rng: np.random.Generator, cells: int) -> Field:
        """Draw a field with about ``cells`` bumps along each axis."""
        return cls(rng.standard_normal((cells + 3,) * 3))

    def on(self, grid: Grid) -> Volume:
        """Values on a grid."""
        axes = (grid.x, grid.y, grid.z)
        values: Volume = self.knots
        # The shortest axis first: a single slice is then two-dimensional work from there on.
        for axis in sorted(range(3), key=lambda axis: axes[axis].size):
            cells = self.knots.shape[axis] - 3
            at = (axes[axis].astype(np.float64).reshape(-1, 1) + 1) / 2 * cells
            weight = np.exp(-0.5 * ((at - np.arange(-1, cells + 2)) / 0.7) ** 2)
            weight /= np.sqrt((weight**2).sum(axis=1, keepdims=True))
            values = np.moveaxis(np.tensordot(weight, values, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(values, np.float32)


def soft(level: Volume, width: float) -> Volume:
    """Share of a voxel that lies where ``level`` < 0, for an edge of that width."""
    share: Volume = np.clip(0.5 - level / width, 0, 1)
    return share


def paint(image: Volume, share: Volume, value: float | Volume) -> None:
    """Mix ``value`` into the image in place, by the share of each voxel that it covers."""
    image += share * (value - image)


@dataclass(frozen=True, slots=True)
class Blob:
    """An ellipsoid that looks like a structure and is none; with a wall it looks like a vessel."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    angle: float
    value: float
    wall: float = 0.0
    wall_value: float = 0.0

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        centre: tuple[float, float, float],
        radius: tuple[float, float],
        value: float,
        wall_value: float | None = None,
    ) -> Blob:
        """Draw the shape of a blob around a centre."""
        size = float(rng.uniform(*radius))
        stretch = float(rng.uniform(0.7, 1.0))
        return cls(
            centre=centre,
            radii=(size * stretch, size / stretch, float(rng.uniform(0.2, 0.7))),
            angle=float(rng.uniform(0, np.pi)),
            value=value,
            wall=0.0 if wall_value is None else float(rng.uniform(0.05, 0.1)),
            wall_value=wall_value or 0.0,
        )

    def onto(self, image: Volume, x: Volume, y: Volume, z: Volume, width: float) -> None:
        """Paint the blob; coordinates may be warped."""
        dx, dy, dz = (axis - at for axis, at in zip((x, y, z), self.centre, strict=True))
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, across, deep = self.radii
        level = np.sqrt(
            ((cos * dx + sin * dy) / along) ** 2
            + ((cos * dy - sin * dx) / across) ** 2
            + (dz / deep) ** 2
        )
        level = (level - 1) * min(along, across)
        if self.wall:
            paint(image, soft(level - self.wall, width), self.wall_value)
        paint(image, soft(level, width), self.value)


@dataclass(frozen=True, slots=True)
class Scanner:
    """How a patient's tissue becomes grey values: bias field, contrast, blur, noise, artefacts."""

    bias: Field
    bias_strength: float
    gamma: float
    blur_px: float
    noise: float
    grain: float
    stripe: float
    stripe_wave: tuple[float, float, float]
    ghost: float
    ghost_shift: float

    @classmethod
    def draw(cls, rng: np.random.Generator, noise: tuple[float, float], bias: float) -> Scanner:
        """Draw the scanner of one patient; stripes and ghosts are for a few only."""
        return cls(
            bias=Field.draw(rng, 2),
            bias_strength=float(rng.uniform(0.3, 1.0)) * bias,
            gamma=float(rng.uniform(0.85, 1.25)),
            blur_px=float(rng.uniform(0.3, 0.8)),
            noise=float(rng.uniform(*noise)),
            grain=float(rng.uniform(0.3, 1.0)),
            stripe=float(rng.uniform(0.05, 0.25)) * (rng.random() < 0.15),
            stripe_wave=(
                float(rng.normal(0, 6)),
                float(rng.normal(0, 6)),
                float(rng.uniform(0, 6)),
            ),
            ghost=float(rng.uniform(0.1, 0.3)) * (rng.random() < 0.15),
            ghost_shift=float(rng.uniform(0.2, 0.45)),
        )

    def expose(self, tissue: Volume, grid: Grid, rng: np.random.Generator) -> Volume:
        """Grey values of one image, about 0 to 1, never negative."""
        image = np.clip(tissue, 0, None) ** np.float32(self.gamma)
        image *= np.exp(np.float32(self.bias_strength) * self.bias.on(grid))
        if self.stripe:
            kx, ky, shift = self.stripe_wave
            image *= (
                1 - self.stripe * (1 + np.sin(kx * grid.x + ky * (grid.y + grid.z) + shift)) / 2
            )
        if self.ghost:
            axis = 1 if image.shape[1] > 1 else 2
            image += self.ghost * np.roll(image, int(self.ghost_shift * image.shape[axis]), axis)
        sigma = [self.blur_px if count > 1 else 0.0 for count in image.shape]
        image = ndimage.gaussian_filter(image, sigma, truncate=3)
        coarse, fine = rng.standard_normal((2, *image.shape), dtype=np.float32)
        coarse = ndimage.gaussian_filter(
            coarse, [1.0 if count > 1 else 0.0 for count in image.shape]
        )
        # The magnitude of a complex signal: Rician noise, as in MRI, which lifts dark regions.
        real = image + self.noise * (fine + 2 * self.grain * coarse)
        magnitude: Volume = np.hypot(real, self.noise * fine[::-1])
        return magnitude.astype(np.float32)
