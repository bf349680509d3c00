"""What the best candidate of a slate could gain, family by family, and what finding it costs.

``python -m benchmarks.headroom --recipe RECIPE --study RUNS --data DATA`` takes the bases of a study's
folder and the validation images: for each set of families the score of the anchor, that of the best
candidate of each image by its label (Select-best with the oracle, in IoU of volumes), and CPU
milliseconds per image of network passes and of edits, on one thread. The forward pass that anchor and
update share is not in it. ``--other MODEL``, in which {seed} stands for the seed, adds what another
model predicts to the lean families.
"""

from __future__ import annotations

import argparse
import ast
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segpref.data import Cache, Dataset, open_dataset
from segpref.inference import score_masks
from segpref.judges import OracleJudge
from segpref.policies import load_model
from segpref.preferences import ScoredSlate
from segpref.proposals import (
    IntensityTTA,
    IntensityViews,
    NetworkProposal,
    Proposal,
    ProposalContext,
    SlateProposals,
    lean_families,
    paper_families,
)
from segpref.studies import Workspace, load_recipe, select_best
from segpref.types import LabelSpace, Policy, State

__all__ = ["main"]

BATCH = 8


class OtherModel:
    """What another model predicts; one pass of it."""

    family = "other-model"
    weight = 6.0

    def __init__(self, folder: str) -> None:
        self._model = load_model(folder)[0]

    def predict(
        self, policy: Policy, state: State, images: torch.Tensor, seeds: Sequence[int]
    ) -> Mapping[str, torch.Tensor]:
        """``other-model [B, field, *space]``."""
        return {self.family: self._model.label_space.decode(self._model.logits(images))}

    def __call__(self, context: ProposalContext) -> Iterator[Any]:
        """The one mask."""
        yield {}, context.predictions[self.family]


def sets_of(space: LabelSpace, other: str | None) -> dict[str, Sequence[Proposal]]:
    """Families by what a table calls them."""
    edits = [one for one in lean_families(space) if not isinstance(one, NetworkProposal)]
    views = {
        "gamma 0.5": IntensityViews((0.5,)),
        "gamma 0.8": IntensityViews((0.8,)),
        "gamma 2": IntensityViews((2.0,)),
        "brightness 0.3": IntensityViews((), (0.3,)),
        "contrast 0.6": IntensityViews((), (), (0.6,)),
        "gamma 0.25, 0.5, 2, 4": IntensityViews((0.5, 2.0, 0.25, 4.0)),
    }
    if other is not None:
        return {
            "lean": lean_families(space),
            "lean, another model": [OtherModel(other), *lean_families(space)],
        }
    return {
        "paper": paper_families(space),
        "edits": edits,
        "edits, gamma 0.5 and 2 (lean in 2D)": lean_families(space),
        "fewer passes (lean in 3D)": lean_families(space, 3),
        "edits, averaged views": [IntensityTTA(), *edits],
        **{f"edits, {name}": [one, *edits] for name, one in views.items()},
    }


def main() -> None:
    """Print a table per seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--data_options", type=ast.literal_eval, default={})
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--other")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe, _ = load_recipe(given.recipe)
    reader = open_dataset(given.data, **given.data_options)
    workspace = Workspace(recipe, reader, given.study, Cache(given.cache or given.study / "cache"))
    print(f"K = {given.candidates}, CPU time per image")
    print(f"{'':52}{'anchor':>8}{'best':>8}{'gain':>8}{'passes':>10}{'edits':>10}")
    for base in recipe.bases:
        for seed in recipe.seeds:
            folder = workspace.base_folder(seed, base)
            if not (folder / "summary.json").exists():
                continue
            policy, cases = load_model(folder)[0], workspace.validation(seed)
            other = given.other and given.other.format(seed=seed)
            for name, families in sets_of(policy.label_space, other).items():
                row = _measured(policy, cases, SlateProposals(given.candidates, families))
                anchor, best, passes, edits = row
                print(
                    f"{f'{base}, seed {seed}: {name}':52}{anchor:8.3f}{best:8.3f}{best - anchor:+8.3f}"
                    f"{passes:7.1f} ms{edits:7.1f} ms",
                    flush=True,
                )


def _measured(
    policy: Any, cases: Dataset, proposals: SlateProposals
) -> tuple[float, float, float, float]:
    space: LabelSpace = policy.label_space
    oracle, passes, edits = OracleJudge(space), 0.0, 0.0
    slates = []
    for first in range(0, len(cases), BATCH):
        batch = cases[first : first + BATCH]
        images = torch.from_numpy(np.stack([np.asarray(case.image) for case in batch]))
        with torch.no_grad():
            state = policy.forward(images)
        begin = time.process_time()
        drafts = proposals.drafts(policy, state, images, batch, 0)
        between = time.process_time()
        made = [proposals.edit(draft)[0] for draft in drafts]
        passes, edits = passes + between - begin, edits + time.process_time() - between
        slates += [
            ScoredSlate(case, slate, oracle.score(case, slate))
            for case, slate in zip(batch, made, strict=True)
        ]
    anchors = [ScoredSlate(one.case, one.slate, one.scores * 0) for one in slates]
    count = len(cases)
    return (
        _iou(anchors, cases, space), _iou(slates, cases, space),
        1e3 * passes / count, 1e3 * edits / count,
    )  # fmt: skip


def _iou(slates: Sequence[ScoredSlate], cases: Dataset, space: LabelSpace) -> float:
    """Mean over patients of what Select-best has."""
    patients: dict[Any, list[Any]] = {}
    for row in score_masks(select_best(iter(slates), cases), space):
        patients.setdefault(row["patient"], []).append(row["iou"])
    return float(np.nanmean([np.nanmean(one) for one in patients.values()]))


if __name__ == "__main__":
    main()
