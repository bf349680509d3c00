"""Image embeddings of a frozen encoder: computed once per image and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segpref.data.array_files import StoredArray
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset, Volume
from segpref.process import own_first
from segpref.progress import track
from segpref.prompts import image_digest

__all__ = ["ImageEmbeddings"]

Encode = Callable[[Float[Tensor, "B channel H W"]], tuple[Tensor, ...]]


class ImageEmbeddings:
    """Embeddings by the content of the image, so that callers need not know its case.

    Args:
        batch_size: images per pass of the encoder.
    """

    def __init__(self, batch_size: int = 8) -> None:
        self._batch_size = batch_size
        self._weights: str | None = None
        self._places: dict[str, tuple[list[StoredArray], int]] = {}

    def prepare(self, dataset: Dataset, encode: Encode, weights: str, cache: Cache) -> None:
        """Compute what is missing for all images of the dataset.

        Args:
            dataset: whose images.
            encode: image embeddings of a batch.
            weights: name of the encoder's weights; embeddings of other weights are forgotten.
            cache: where they are kept.
        """
        if weights != self._weights:
            self._places, self._weights = {}, weights
        wanted = [
            (volume, {"what": "image-embeddings", "weights": weights, "input": volume.key})
            for volume, _ in dataset.by_volume()
        ]
        todo = sum(not cache.has(key) for _, key in wanted)
        # Of several processes each embeds its part, and finds that of the others in the cache.
        turns = own_first(wanted)
        steps = track(turns, "embedding images", len(wanted)) if todo else turns
        for volume, key in steps:
            found = cache.entry(key, partial(self._compute, volume, encode))
            levels = [found[name] for name in sorted(found)]
            for item, image in enumerate(volume.images):
                digest = image_digest(torch.from_numpy(image))
                self._places[digest] = levels, item

    def find(self, images: Float[Tensor, "B channel H W"]) -> tuple[Tensor, ...] | None:
        """Embeddings of a batch on the CPU; None where one of its images was not prepared."""
        if not self._places:
            return None
        places = [self._places.get(image_digest(image)) for image in images]
        known = [place for place in places if place is not None]
        if len(known) < len(places):
            return None
        count = len(known[0][0])
        return tuple(
            torch.from_numpy(np.stack([levels[level][item] for levels, item in known]))
            for level in range(count)
        )

    def _compute(self, volume: Volume, encode: Encode) -> dict[str, np.ndarray]:
        parts: list[tuple[Tensor, ...]] = []
        for start in range(0, len(volume.images), self._batch_size):
            images = torch.from_numpy(np.array(volume.images[start : start + self._batch_size]))
            parts.append(encode(images))
        return {
            f"level{number}": torch.cat(level).float().cpu().numpy()
            for number, level in enumerate(zip(*parts, strict=True))
        }
