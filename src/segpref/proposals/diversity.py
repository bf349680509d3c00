"""Diversity of a network's predictions under dropout, with a warning where it is too small."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from segpref.metrics.diversity import pairwise_dice
from segpref.networks.dropout import DropoutKind
from segpref.proposals.rates import RATES_2D, StochasticPolicy
from segpref.seeds import image_seeds
from segpref.types import SegprefError

__all__ = ["dropout_diversity"]

log = logging.getLogger(__name__)

NO_DIVERSITY = 0.999
"""Candidates with at least this pairwise Dice are the same but for a pixel here and there."""


def dropout_diversity(
    policy: StochasticPolicy,
    images: Float[Tensor, "B channel *space"],
    rates: Sequence[float] = RATES_2D,
    samples: int = 4,
    seed: int = 0,
    kind: DropoutKind = "element",
) -> dict[float, float]:
    """Mean pairwise Dice of the predictions at each dropout rate: 1 is no diversity.

    Pairs are of the same rate and image; the mean is over pairs, then over structures and images
    without those that no prediction holds (NaN where that leaves none). Logs a warning where no rate
    gives predictions that differ.

    Args:
        policy: its whole network runs with dropout.
        images: a batch.
        rates: dropout rates; at 0 all predictions are equal.
        samples: predictions per rate.
        seed: of the dropout masks.
        kind: what is dropped together.

    Raises:
        SegprefError: fewer than 2 samples.
    """
    if samples < 2:
        raise SegprefError(f"the diversity of candidates needs at least 2 samples, not {samples}")
    found = {}
    for place, rate in enumerate(rates):
        masks = []
        for sample in range(samples):
            seeds = image_seeds(range(len(images)), seed, place * samples + sample)
            logits = policy.stochastic_logits(images, rate, seeds, kind)
            if logits is None:
                log.warning(
                    "No dropout can be put into the network: no block of it gives a feature map. Name "
                    "its blocks, or make candidates in another way."
                )
                return dict.fromkeys(rates, 1.0)
            masks.append(policy.label_space.decode(logits).cpu().numpy())
        each = [pairwise_dice(image, policy.label_space) for image in np.stack(masks, axis=1)]
        valid = np.concatenate(each)
        valid = valid[~np.isnan(valid)]
        found[rate] = float(valid.mean()) if len(valid) else float("nan")
    # An empty prediction at every rate is no diversity either, so NaN counts as none.
    if not any(value < NO_DIVERSITY for value in found.values()):
        log.warning(
            "Dropout at rates up to %g gives predictions that hardly differ (pairwise Dice %.4f): few "
            "images will yield a pair. Try higher rates, or kind='channel'.",
            max(rates),
            min(found.values()),
        )
    return found
