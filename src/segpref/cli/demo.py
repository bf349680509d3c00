"""`segpref demo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.cli.study import show
from segpref.cli.study_options import check_study
from segpref.data import ACDC, Cache, Decathlon, Folders, Reader, open_dataset
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.locking import alone_in_out
from segpref.progress import console, headed
from segpref.studies.recipe import load_recipe
from segpref.studies.running import run_study
from segpref.studies.workspace import Workspace

__all__ = ["EXAMPLES", "demo"]

EXAMPLES = """\
  segpref demo
  segpref demo --data DATA --out runs/demo-data
  segpref demo --data DATA --recipe acdc-small --seeds "[0]"
"""

PHANTOM_PATIENTS = 80


@alone_in_out
def demo(
    settings: dict[str, Any],
    data: Path | None = None,
    recipe: str | None = None,
    out: Path = Path("runs/demo"),
    seeds: list[int] | None = None,
    data_options: dict[str, Any] | None = None,
    cache: Path | None = None,
) -> None:
    """Run everything once: base, judge, Select-best, pseudo-labelling, DPO and RN-DPO.

    Without data it generates phantoms. Finished tasks in the output folder are skipped, so the same
    command continues after an interruption.

    Args:
        settings: the resolved options.
        data: folder of a dataset; phantoms are generated if left out.
        recipe: name or YAML file; chosen by the data's layout if left out.
        out: folder for data, runs, table and report.
        seeds: replace the recipe's seeds.
        data_options: passed to the reader, such as as_multilabel, patient_pattern or exclude.
        cache: where prepared images and predictions are kept; inside the output folder if left out.
    """
    check_study(out, cache, data)
    known = None if recipe is None else load_recipe(recipe)[0]
    reader = _reader(data, out, data_options)
    chosen = known or load_recipe(_recipe_for(reader, data))[0]
    console.print(headed(chosen.name, f": {chosen.description}"))
    if not reader.patients_known:
        console.print("Nothing links volumes to patients in this dataset: the split is by volume.")
    # The first block of a recipe is its main job; `segpref study` runs them all.
    chosen = replace(chosen, grid=chosen.blocks[:1])
    workspace = Workspace(chosen, reader, out, Cache(cache or out / "cache"))
    show(workspace, run_study(workspace, seeds))


def _reader(data: Path | None, out: Path, options: Mapping[str, Any] | None) -> Reader:
    if data is not None:
        return open_dataset(data, **(options or {}))
    console.print(f"Generating phantoms of {PHANTOM_PATIENTS} patients in {out / 'data'}")
    folder = write_phantoms(
        out / "data", "cardiac", (64, 64), PHANTOM_PATIENTS, seed=0, slices_per_patient=4
    )
    names = ("background", "RV", "MYO", "LV")
    return Folders(folder, names=names, patient_pattern=PATIENT_PATTERN)


def _recipe_for(reader: Reader, data: Path | None) -> str:
    if data is None:
        return "phantoms"
    if isinstance(reader, ACDC):
        return "acdc-small"
    if isinstance(reader, Decathlon) and "Hippocampus" in str(data):
        return "hippocampus-small"
    return "generic-2d"
