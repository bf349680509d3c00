"""`segpref fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from segpref.data import Preparation
from segpref.policies import NetworkSpec, PolicySpec
from segpref.policies.promptable import PARTS, Part, PromptableNetwork
from segpref.progress import console
from segpref.training import FitConfig
from segpref.workflows import fit as run
from segpref.workflows.fit import USUAL
from segpref.workflows.options import DataOptions, Trust

__all__ = ["EXAMPLES", "fit"]

EXAMPLES = """\
  segpref fit --data DATA --labelled 3 --out runs/base
  segpref fit --data DATA --split runs/base/split.json --part judge --out runs/judge
  segpref fit --data DATA --out runs/base-3d \\
      --preparation '{dims: 3, size: null, patch: [96, 96, 96], normalise: z-score}'
"""


def fit(
    data: Path,
    out: Path,
    settings: dict[str, Any],
    config: FitConfig,
    where: DataOptions,
    opening: Trust,
    part: Literal["train", "judge"] = "train",
    labelled: int | None = None,
    unit: Literal["patients", "cases"] = "patients",
    preparation: Preparation = USUAL,
    network: NetworkSpec | None = None,
    policy: dict[str, Any] | None = None,
    start: Path | None = None,
    promptable: PromptableNetwork | None = None,
    prompter: dict[str, Any] | None = None,
    parts: tuple[Part, ...] = PARTS,
    resume: bool = False,
) -> None:
    """Train a base (or a judge) from a few labelled cases.

    Args:
        data: folder of the dataset; its layout is detected.
        out: run folder to create.
        settings: the resolved options, kept in the run folder.
        config: of the training.
        where: data, split and cache.
        opening: what may be opened.
        part: train for a base, judge for a judge.
        labelled: how many labelled patients or cases to use, drawn with the seed; all if left out.
        unit: what --labelled counts: patients, or cases (slices in 2D).
        preparation: how images become network input; that of --start if left out.
        network: class and arguments of a network; that of --start, or a MONAI residual U-Net, if left
            out.
        policy: class of the policy that the network becomes (class_path, init_args), where it is
            another one than segpref.policies.Segmenter.
        start: model file or run folder whose weights are the beginning; random ones if left out.
        promptable: a promptable network in its place (class_path, init_args), such as
            segpref.policies.promptable.load_sam with the name or folder of a checkpoint, or
            load_lite_medsam beside it with the file of one. It takes 2D images from 0 to 1
            (preparation.normalise percentile) and labels as independent structures
            (data_options.as_multilabel); it is trained with Adam that is halved every ten epochs. The
            paper: 15 epochs, learning_rate 1e-4.
        prompter: what makes its prompts (class_path, init_args), such as
            segpref.prompts.SaliencyPrompts; it stands in the model file. The whole image as a box if
            left out.
        parts: which of encoder, prompts and decoder of a promptable network learn.
        resume: go on with a run that was stopped.
    """
    made = run(
        data, out=out, config=config, part=part, labelled=labelled, unit=unit,
        preparation=preparation, network=network,
        policy=None if policy is None else PolicySpec(**policy), start=start,
        promptable=promptable, prompter=prompter, parts=parts, resume=resume, settings=settings,
        **vars(where), **vars(opening),
    )  # fmt: skip
    summary = made.summary
    console.print(
        f"{out}/best.safetensors: validation IoU {summary['val_iou']:.3f} after epoch "
        f"{summary['best_epoch']}, from {summary['labelled_cases']} labelled cases of "
        f"{len(summary['labelled_patients'])} patients\nreport: {made.report}"
    )
    if made.unused:
        drawn = "" if labelled is None else f" --labelled {labelled} --unit {unit}"
        console.print(
            f"{made.unused} images of other training patients were not learned from. Continue with "
            f"them before you align: fit --start {out}{drawn} --method "
            "segpref.training.semisupervised.CopyPaste needs no further label, and gained more on "
            "ACDC than any alignment did."
        )
