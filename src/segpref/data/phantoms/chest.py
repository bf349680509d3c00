"""Frontal chest views: lungs, heart, and clavicles that overlap the lungs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segpref.data.phantoms.appearance import Blob, Field, Grid, Scanner, Volume, paint, soft

__all__ = ["Chest", "Side"]


@dataclass(frozen=True, slots=True)
class Side:
    """What a patient has twice, mirrored: a clavicle, and the lung's lower and inner border."""

    diaphragm: float
    dome: float
    medial: float
    clavicle: tuple[float, float, float, float]
    clavicle_half_width: float
    clavicle_ends: tuple[float, float]
    opacity: float
    effusion: float


@dataclass(frozen=True, slots=True)
class Chest:
    """One patient. Lengths are in halves of the field of view; u points to the patient's left."""

    shift: tuple[float, float]
    turn: float
    scale: float
    cage: tuple[float, float, float]
    left: Side
    right: Side
    heart: tuple[float, float, float, float]
    heart_angle: float
    rib_period: float
    rib_phase: float
    rib_arch: float
    rib_density: float
    bone: float
    soft_tissue: float
    heart_density: float
    air: float
    outside: float
    warp: tuple[Field, Field]
    warp_strength: float
    tissue: Field
    vessels: Field
    texture: Field
    texture_strength: float
    blobs: tuple[Blob, ...]
    tubes: tuple[tuple[float, float, float, float], ...]
    scanner: Scanner

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Chest:
        """Draw a patient."""

        def between(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        height, slope, bend = between(0.46, 0.66), between(-0.1, 0.3), between(-0.1, 0.1)
        half_width, diaphragm, medial = (
            between(0.045, 0.07),
            between(-0.62, -0.3),
            between(0.08, 0.18),
        )

        def side(heart: bool) -> Side:
            return Side(
                diaphragm=diaphragm + between(-0.08, 0.08) - 0.06 * heart,
                dome=between(0.08, 0.22),
                medial=medial + between(-0.02, 0.04),
                clavicle=(height + between(-0.05, 0.05), slope, bend, between(0.0, 3.0)),
                clavicle_half_width=half_width,
                clavicle_ends=(between(0.06, 0.14), between(0.58, 0.78)),
                opacity=between(-0.04, 0.08) + between(0.1, 0.2) * (rng.random() < 0.12),
                effusion=between(0.1, 0.35) * (rng.random() < 0.15),
            )

        left, right = side(True), side(False)
        soft_tissue, air = between(0.5, 0.75), between(0.1, 0.3)
        bone = between(0.15, 0.26)
        blobs = []
        for _ in range(rng.integers(3, 8)):
            at = (between(-0.7, 0.7), between(-0.6, 0.6), between(-0.5, 0.7))
            dense = soft_tissue + between(-0.1, 0.25)
            blobs.append(Blob.draw(rng, at, (0.04, 0.17), dense if rng.random() < 0.7 else air))
        # Gas under the diaphragm looks like lung.
        gas = (between(0.2, 0.5), between(-0.4, 0.4), left.diaphragm - between(0.1, 0.25))
        blobs.append(Blob.draw(rng, gas, (0.08, 0.2), air + between(0, 0.1)))
        tubes = tuple(
            (between(-0.5, 0.5), between(-1.2, 1.2), between(-0.3, 0.3), between(0.1, 0.3))
            for _ in range(rng.integers(0, 4))
        )
        return cls(
            shift=(between(-0.08, 0.08), between(-0.08, 0.08)),
            turn=between(-0.13, 0.13),
            scale=between(0.85, 1.1),
            cage=(between(0.7, 0.84), between(0.72, 0.86), between(0.6, 0.85)),
            left=left,
            right=right,
            heart=(
                between(0.02, 0.16),
                between(0.08, 0.22),
                between(0.24, 0.4),
                between(0.2, 0.32),
            ),
            heart_angle=between(-0.6, 0.1),
            rib_period=between(0.17, 0.25),
            rib_phase=between(0, 2 * np.pi),
            rib_arch=between(0.25, 0.7),
            rib_density=bone * between(0.25, 0.8),
            bone=bone,
            soft_tissue=soft_tissue,
            heart_density=soft_tissue + between(-0.05, 0.15),
            air=air,
            outside=between(0.02, 0.3),
            warp=(Field.draw(rng, 4), Field.draw(rng, 4)),
            warp_strength=between(0.01, 0.03),
            tissue=Field.draw(rng, 4),
            vessels=Field.draw(rng, 14),
            texture=Field.draw(rng, 28),
            texture_strength=between(0.01, 0.035),
            blobs=tuple(blobs),
            tubes=tubes,
            scanner=Scanner.draw(rng, noise=(0.005, 0.03), bias=0.2),
        )

    def image(
        self, size: tuple[int, int, int], rng: np.random.Generator
    ) -> tuple[Volume, NDArray[np.bool_]]:
        """Grey values, and masks of left and right clavicle, left and right lung, heart.

        Axes are x (to the patient's right), y (to the front) and z (up).
        """
        grid = Grid.of(size)
        wide = 1.6 * grid.pixel
        x, w = -grid.x - self.shift[0], grid.y
        z = grid.z - self.shift[1]
        cos, sin = math.cos(self.turn) / self.scale, math.sin(self.turn) / self.scale
        u = cos * x + sin * z + self.warp_strength * self.warp[0].on(grid)
        v = cos * z - sin * x + self.warp_strength * self.warp[1].on(grid)

        wide_cage, high_cage, deep_cage = self.cage
        narrow = 1 - 0.25 * np.clip(v, 0, None)
        shell = np.sqrt(
            np.abs(u / (wide_cage * narrow)) ** 2.4
            + np.abs((v - 0.02) / high_cage) ** 2.4
            + (w / deep_cage) ** 2
        )
        cage = (shell - 1) * min(wide_cage, high_cage)
        lungs = [self._lung(side, sign, cage, u, v) for side, sign in self._sides]
        heart = self._heart(u, v, w)
        clavicles = [_clavicle(side, sign, u, v, w) for side, sign in self._sides]

        image = self._body(grid, u, v, w, wide)
        texture = self.texture_strength * self.texture.on(grid)
        vessels = np.clip(self.vessels.on(grid) - 0.6, 0, None) * 0.12
        for lung, (side, _) in zip(lungs, self._sides, strict=True):
            filling = self.air + side.opacity + vessels + 0.04 * self.tissue.on(grid)
            low = side.diaphragm + side.effusion - v
            filling = filling + 0.8 * soft(-low, 0.2) * (self.soft_tissue - self.air) * bool(
                side.effusion
            )
            paint(image, soft(lung, 2 * wide), filling)
        paint(image, soft(heart, 3 * wide), self.heart_density)
        for blob in self.blobs:
            blob.onto(image, u, w, v, 3 * wide)
        image += self._bones(u, v, shell, wide)
        for clavicle in clavicles:
            image += soft(clavicle, 2 * wide) * self.bone
        for start, slope, curve, density in self.tubes:
            line = np.abs(u - start - curve * np.sin(2 * v) - 0.3 * slope * v) - 0.008
            image += soft(line, wide) * soft(-v - 0.2, 0.1) * soft(np.abs(w) - 0.1, wide) * density
        image += texture
        label = np.stack(
            [clavicle < 0 for clavicle in clavicles]
            + [(lung < 0) & (heart > 0) for lung in lungs]
            + [heart < 0]
        )
        return self.scanner.expose(image, grid, rng), label

    @property
    def _sides(self) -> tuple[tuple[Side, int], tuple[Side, int]]:
        return (self.left, 1), (self.right, -1)

    def _lung(self, side: Side, sign: int, cage: Volume, u: Volume, v: Volume) -> Volume:
        across = sign * u
        inner = side.medial + 0.05 * np.cos(3 * v)
        floor = side.diaphragm + side.dome * np.cos(3.2 * (across - 0.4))
        level: Volume = np.maximum(np.maximum(cage + 0.04, inner - across), floor - v)
        return level

    def _heart(self, u: Volume, v: Volume, w: Volume) -> Volume:
        left, up, wide, high = self.heart
        du, dv = u - left, v - (self.left.diaphragm + up)
        cos, sin = math.cos(self.heart_angle), math.sin(self.heart_angle)
        away = np.sqrt(
            ((cos * du + sin * dv) / wide) ** 2
            + ((cos * dv - sin * du) / high) ** 2
            + ((w - 0.15) / 0.4) ** 2
        )
        return (away - 1) * min(wide, high)

    def _body(self, grid: Grid, u: Volume, v: Volume, w: Volume, wide: float) -> Volume:
        tissue = self.tissue.on(grid)
        image = np.full(tissue.shape, self.outside, np.float32)
        trunk = np.hypot(u / (self.cage[0] + 0.2), w / (self.cage[2] + 0.15)) - 1
        neck = np.hypot(u / 0.35, w / 0.4) - 1
        shoulders = np.maximum(trunk, v - 0.9 + 0.4 * u**2)
        body = np.minimum(shoulders, np.maximum(neck, -v))
        paint(image, soft(body, 2 * wide), self.soft_tissue + 0.06 * tissue - 0.08 * v)
        spine = np.hypot(u / 0.1, (w + 0.45 * (w.size > 1)) / 0.25) - 1
        image += soft(0.1 * spine, 3 * wide) * self.bone * (0.7 + 0.3 * np.cos(28 * v))
        windpipe = np.hypot((u + 0.02) / 0.045, w / 0.06) - 1
        paint(image, 0.6 * soft(np.maximum(0.05 * windpipe, 0.15 - v), 2 * wide), self.air)
        return image

    def _bones(self, u: Volume, v: Volume, shell: Volume, wide: float) -> Volume:
        arch = v + self.rib_arch * np.abs(u) * (np.abs(u) + 0.3)
        behind = np.cos(2 * np.pi * arch / self.rib_period + self.rib_phase)
        front = np.cos(2 * np.pi * (v - 0.7 * np.abs(u)) / (1.3 * self.rib_period))
        ribs = soft(0.35 - behind, 0.5) + 0.5 * soft(0.5 - front, 0.5) * (np.abs(u) > 0.25)
        depth = shell - 1.05 if shell.shape[1] == 1 else np.abs(shell - 1.02) - 0.06
        return ribs * soft(depth, 2 * wide) * self.rib_density


def _clavicle(side: Side, sign: int, u: Volume, v: Volume, w: Volume) -> Volume:
    height, slope, bend, phase = side.clavicle
    start, end = side.clavicle_ends
    across = sign * u
    middle = height + slope * (across - 0.35) + bend * np.sin(5 * across + phase)
    deep = w - 0.3 * (w.size > 1)
    thick = side.clavicle_half_width * (1 + 0.4 * np.clip(1 - (across - start) / 0.15, 0, 1))
    beyond = np.maximum(np.maximum(start - across, across - end), 0)
    level: Volume = np.sqrt((v - middle) ** 2 + deep**2 + beyond**2) - thick
    return level
