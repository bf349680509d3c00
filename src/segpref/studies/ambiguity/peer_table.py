"""The table of peers: other models of several raters beside AmbiSeg (TDG-DiffDPO, Table 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segpref.policies import MaskSampler
from segpref.report.table_files import TitledTable
from segpref.report.tables import TableRow, mean_and_spread
from segpref.studies.ambiguity.findings import Findings
from segpref.studies.ambiguity.rows import compared, row_of
from segpref.studies.ambiguity.sample_files import REFERENCE, SampleSet

__all__ = ["peer_table"]


def peer_table(found: Findings) -> TitledTable:
    """AmbiSeg and its peers; without a row where no peer is drawn yet."""
    workspace = found.workspace
    recipe, seed = workspace.recipe, workspace.recipe.seeds[0]
    title = (
        f"Peers, N = {recipe.samples}, passes and milliseconds per sample (TDG-DiffDPO, Table 2)"
    )
    drawn = [name for name in recipe.peers if found.seeds(name)]
    if not drawn:
        return TitledTable(title, [])
    rows = []
    if found.seeds(REFERENCE):
        # The first of two samplers that are timed may be another than the one that is measured.
        rows.append(_row(found, REFERENCE, recipe.sampler, workspace.timed(recipe.sampler)))
    pairs = [(name, REFERENCE) for name in drawn]
    for name in drawn:
        aligned = list(recipe.methods_of(name))
        for one in (name, *aligned):
            if found.seeds(one):
                rows.append(_row(found, one, recipe.peers[name].sampler, workspace.timed_peer(one)))
        pairs += [(one, name) for one in aligned]
        # The other methods against the first, among them the random-preference control.
        pairs += [(one, aligned[0]) for one in aligned[1:]]
    claims = [claim for pair in pairs if (claim := compared(found, *pair))]
    claims.append(
        f"Milliseconds are of seed {seed} on {recipe.speed_images} images at most. Peers see no text."
    )
    return TitledTable(title, rows, remarks=claims)


def _row(found: Findings, name: str, sampler: MaskSampler, timed: Path) -> TableRow:
    drawings = found.seeds(name)
    row = row_of(found, name, drawings)
    figures = dict(row.figures)
    figures["Different"] = mean_and_spread([_different(found, one) for one in drawings])
    figures["Passes"] = sampler.passes(found.workspace.recipe.samples), np.nan
    each = [np.nan, np.nan]
    if timed.exists():
        masks, spent = found.workspace.what_was_timed(timed)
        each = [1000 * float(one) / (masks.shape[0] * masks.shape[1]) for one in spent]
    figures["Milliseconds"], figures["CPU milliseconds"] = ((one, np.nan) for one in each)
    return TableRow(name, row.seeds, figures)


def _different(found: Findings, drawing: SampleSet) -> float:
    """How many different masks there are among the N samples of an image, on average."""
    few = found.workspace.samples(drawing)[:, : found.workspace.recipe.samples]
    return float(np.mean([len({mask.tobytes() for mask in masks}) for masks in few]))
