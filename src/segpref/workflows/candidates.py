"""What `segpref align` reports about its candidates: diversity, and images that gave a pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from segpref.data import Cache, Dataset
from segpref.policies import load_segmenter, read_card
from segpref.progress import console
from segpref.proposals import DropoutRates, Families, dropout_diversity, given_families
from segpref.proposals.rates import stochastic
from segpref.studies.slates import patch_draw
from segpref.training import RunFolder

__all__ = ["report_dropout_diversity", "report_mined_pairs"]

_IMAGES = 4
_FEW = 0.1
"""Of the images: with fewer pairs a round hardly teaches the model anything."""


def report_dropout_diversity(
    base: Path,
    pool: Dataset,
    families: Families,
    seed: int,
    cache: Cache,
) -> None:
    """Print the diversity of predictions under dropout on a few images; nothing if no family uses it.

    A warning is logged where they hardly differ (:func:`~segpref.proposals.dropout_diversity`).

    Args:
        base: what is tuned; where it sees patches, patches of the images are looked at.
        pool: the images that are learned from.
        families: of candidates; those that go by a name have no dropout by rate.
        seed: of patches and dropout masks.
        cache: where predictions that patches are drawn around are kept.
    """
    given = given_families(families)
    asking = [family for family in given if isinstance(family, DropoutRates)]
    if not asking or not len(pool):
        return
    policy = load_segmenter(base)
    model = stochastic(policy)
    if model is None:
        return
    few = pool.take(np.unique(np.linspace(0, len(pool) - 1, _IMAGES).round().astype(int)))
    cases, patches = few[:], patch_draw(policy, read_card(base), few, cache)
    if patches is not None:
        cases = patches(cases, range(len(cases)), seed)
    images = torch.from_numpy(np.stack([case.image for case in cases]))
    for family in asking:
        above = [rate for rate in family.rates if rate > 0]
        found = dropout_diversity(model, images, above, seed=seed, kind=family.kind)
        told = ", ".join(f"{value:.4f} at {rate:g}" for rate, value in found.items())
        console.print(
            f"Predictions of {len(few)} images under dropout have a pairwise Dice of {told} "
            "(1: all are equal, and nothing can be learned).",
            soft_wrap=True,
        )


def report_mined_pairs(folder: RunFolder, refresh: int) -> None:
    """Print the share of images that gave a pair in each round; nothing if no pairs are mined.

    Args:
        folder: of a run that has come to its end.
        refresh: epochs of a round.
    """
    shares = [row["images_with_pair"] for row in folder.read_metrics() if "images_with_pair" in row]
    rounds = [float(np.mean(shares[at : at + refresh])) for at in range(0, len(shares), refresh)]
    if not rounds:
        return
    told = ", ".join(f"{share:.0%}" for share in rounds)
    console.print(f"Images that gave a pair, by round: {told}.", soft_wrap=True)
    if min(rounds) < _FEW:
        console.print(
            f"With less than {_FEW:.0%} of the images the model learns little: give the miner a "
            "smaller tau (--miner.tau), or candidates that differ more.",
            style="yellow",
            soft_wrap=True,
        )
