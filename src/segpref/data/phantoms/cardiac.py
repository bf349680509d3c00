"""Short-axis views of a heart: LV blood pool, ring of myocardium, crescent of the RV."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpref.data.phantoms.appearance import Blob, Field, Grid, Scanner, Volume, paint, soft

__all__ = ["Heart"]


@dataclass(frozen=True, slots=True)
class Heart:
    """One patient: anatomy, tissue contrast, surroundings and scanner.

    Lengths are in halves of the field of view; the long axis runs from 0 (base) to 1 (apex).
    """

    centre: tuple[float, float]
    tilt: tuple[float, float]
    angle: float
    stretch: float
    radius: float
    wall: float
    wall_uneven: float
    wall_side: float
    contraction: float
    rv_reach: float
    rv_width: float
    rv_height: float
    rv_lift: float
    rv_end: float
    margins: tuple[float, float]
    warp: tuple[Field, Field]
    warp_strength: float
    tissue: Field
    texture: Field
    clumps: Field
    texture_strength: float
    papillary: float
    blood: float
    rv_blood: float
    muscle: float
    fat: float
    lung: float
    liver: float
    rest: float
    lung_edge: float
    liver_edge: float
    chest_edge: float
    fat_share: float
    blobs: tuple[Blob, ...]
    scanner: Scanner
    gain: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Heart:
        """Draw a patient."""

        def between(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        angle = between(-0.6, 0.6)
        radius, wall = between(0.24, 0.35), between(0.11, 0.17)
        blood = between(0.65, 0.95)
        muscle = blood - between(0.35, 0.5)
        centre = (between(-0.05, 0.25), between(-0.15, 0.15))
        blobs = []
        for _ in range(rng.integers(3, 7)):
            far, turn = between(1.3, 2.6) * (radius + wall), between(-np.pi, np.pi)
            at = (
                centre[0] + far * math.cos(turn),
                centre[1] + far * math.sin(turn),
                between(-1, 1),
            )
            bright = rng.random() < 0.65
            value = (blood if bright else muscle) + float(rng.normal(0, 0.06))
            ring = muscle + float(rng.normal(0, 0.06)) if bright and rng.random() < 0.4 else None
            blobs.append(Blob.draw(rng, at, (0.05, 0.2), value, ring))
        return cls(
            centre=centre,
            tilt=(between(-0.15, 0.15), between(-0.15, 0.15)),
            angle=angle,
            stretch=between(0.88, 1.14),
            radius=radius,
            wall=wall,
            wall_uneven=between(0, 0.3),
            wall_side=between(-np.pi, np.pi),
            contraction=between(0.15, 0.35),
            rv_reach=between(0.85, 1.1),
            rv_width=between(0.65, 1.0),
            rv_height=between(0.85, 1.25),
            rv_lift=between(-0.3, 0.3),
            rv_end=between(0.7, 0.95),
            margins=(between(-0.15, 0.02), between(-0.22, 0.03)),
            warp=(Field.draw(rng, 3), Field.draw(rng, 3)),
            warp_strength=between(0.015, 0.04),
            tissue=Field.draw(rng, 4),
            texture=Field.draw(rng, 24),
            clumps=Field.draw(rng, 10),
            texture_strength=between(0.02, 0.06),
            papillary=between(0.0, 0.7),
            blood=blood,
            rv_blood=blood + between(-0.1, 0.06),
            muscle=muscle,
            fat=between(0.65, 0.95),
            lung=between(0.04, 0.18),
            liver=muscle + float(rng.normal(0, 0.08)),
            rest=between(0.25, 0.5),
            lung_edge=between(0.3, 0.75),
            liver_edge=between(0.45, 0.8),
            chest_edge=between(0.85, 1.2),
            fat_share=between(-2.0, -0.2),
            blobs=tuple(blobs),
            scanner=Scanner.draw(rng, noise=(0.01, 0.03), bias=0.2),
            gain=between(200.0, 1200.0),
        )

    def levels(self, count: int) -> NDArray[np.float64]:
        """Places of ``count`` slices on the long axis; some may lie beyond base or apex."""
        before, after = self.margins
        return np.linspace(-before, 1 + after, count)

    def image(
        self, size: tuple[int, int, int], level: float, systole: bool, rng: np.random.Generator
    ) -> tuple[Volume, NDArray[np.uint8]]:
        """Grey values and labels (0 background, 1 RV, 2 MYO, 3 LV) at one time of the heart beat.

        ``level`` is the place on the long axis of a single slice; a volume covers all of it.
        """
        before, after = self.margins
        long = 1 + before + after
        grid = Grid.of(size, only=(0, 0, (level + before) / long * 2 - 1))
        along = (grid.z + 1) / 2 * long - before
        wide = 1.6 * grid.pixel
        x = grid.x - self.centre[0] + self.warp_strength * self.warp[0].on(grid)
        y = grid.y - self.centre[1] + self.warp_strength * self.warp[1].on(grid)

        image = self._surroundings(grid, x, y, wide)
        x = x - self.tilt[0] * (along - 0.5)
        y = y - self.tilt[1] * (along - 0.5)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        u, v = (cos * x + sin * y) * self.stretch, (cos * y - sin * x) / self.stretch

        radius = self.radius * (1 - self.contraction * systole)
        wall = self.wall * (1 + self.contraction * systole)
        away = np.hypot(u, v)
        side = 1 + self.wall_uneven * (
            (u * math.cos(self.wall_side) + v * math.sin(self.wall_side)) / (away + 0.05)
        )
        endo = away - radius * _taper(along, 0.93)
        outer = (radius + wall * side) * _taper(along, 1.0)
        epi = away - outer
        rv = self._right_ventricle(u, v, along, radius + wall, systole)
        rv = np.maximum(rv, 0.02 - epi)

        around = soft(self.tissue.on(grid) - self.fat_share, 0.5)
        fat = soft(np.minimum(epi, rv) - 0.1, wide) * around * (outer > 0.05)
        paint(image, fat, self.fat)
        texture = self.texture_strength * self.texture.on(grid)
        paint(image, soft(rv - 0.035, wide), self.muscle + texture)
        paint(image, soft(rv, wide), self.rv_blood + 2 * texture)
        # Beyond the base the same tissue goes on as atria and great vessels, but has no label.
        paint(image, soft(epi, wide), self.muscle + texture)
        clumps = self.clumps.on(grid)
        trabeculae = (clumps > 2.2 - self.papillary) & (endo > -0.7 * radius)
        pool = self.blood + texture - trabeculae * 0.8 * (self.blood - self.muscle)
        paint(image, soft(endo, wide), pool)

        base = 0.06 * systole
        label = np.zeros(image.shape, np.uint8)
        label[(rv < 0) & (along > base)] = 1
        label[(epi < 0) & (along > base)] = 2
        label[(endo < 0) & (along > base)] = 3
        return self.scanner.expose(image, grid, rng), label

    def _right_ventricle(
        self, u: Volume, v: Volume, along: Volume, outer: float, systole: bool
    ) -> Volume:
        shrink = (1 - 0.5 * self.contraction * systole) * _taper(along, self.rv_end)
        # Where the ventricle has ended, shrink it to a point outside instead of dividing by zero.
        width, height = (
            np.maximum(outer * share * shrink, 1e-3) for share in (self.rv_width, self.rv_height)
        )
        du, dv = u + outer * self.rv_reach, v - outer * self.rv_lift
        level = (np.hypot(du / width, dv / height) - 1) * np.minimum(width, height)
        return np.where(shrink > 0, level, np.float32(1))

    def _surroundings(self, grid: Grid, x: Volume, y: Volume, wide: float) -> Volume:
        tissue = self.tissue.on(grid)
        image = self.rest + 0.12 * tissue + self.texture_strength * self.texture.on(grid)
        outer = self.radius + self.wall
        lung = self.lung_edge * 2 * outer - (x + 0.25 * tissue * outer)
        paint(image, soft(np.minimum(lung, 0.8 + x - 0.2 * tissue + y), wide), self.lung)
        vessels = (self.clumps.on(grid) > 1.9) & (lung < 0)
        paint(image, 0.8 * vessels.astype(np.float32), self.blood)
        liver = self.liver_edge * 2 * outer - (y + 0.15 * tissue * outer)
        paint(image, soft(liver, wide), self.liver)
        chest = np.abs(self.chest_edge + (0.8 * x - 0.6 * y) / (1 + outer)) - 0.09
        paint(image, soft(chest, wide), self.fat)
        for blob in self.blobs:
            blob.onto(image, x + self.centre[0], y + self.centre[1], grid.z, wide)
        return image


def _taper(along: Volume, end: float) -> Volume:
    """Share of the largest radius that is left at a place on the long axis; 0 beyond the end."""
    share: Volume = np.sqrt(np.clip(1 - np.clip(along / end, 0, None) ** 3, 0, None))
    return share
