"""`segpref align`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpref.cluster import RayPool
from segpref.judges import NamedJudge
from segpref.policies import read_card
from segpref.process import is_first_process
from segpref.progress import console
from segpref.report.formats import counted
from segpref.report.verdicts import verdict
from segpref.studies.verdict import control_beside
from segpref.training import AlignConfig
from segpref.workflows import Alignment
from segpref.workflows import align as run
from segpref.workflows.candidates import report_mined_pairs
from segpref.workflows.options import PoolOptions, TrainedModel

__all__ = ["EXAMPLES", "align"]

EXAMPLES = """\
  segpref align --data DATA --model runs/base --judge runs/judge --out runs/rn-dpo
  segpref align --data DATA --model NNUNET/fold_0 --judge MASKS --pool IMAGES --out runs/tuned --trust
  segpref align --data DATA --model runs/base --judge runs/judge --method calibrated --out runs/cal
  segpref align --data DATA --model runs/base --judge MASKS --pool pool.csv --out runs/far --ray auto
  segpref align --data DATA --votes study --out runs/voted
"""


def align(
    out: Path,
    settings: dict[str, Any],
    config: AlignConfig,
    where: PoolOptions,
    opening: TrainedModel,
    workers: RayPool,
    model: Path | None = None,
    judge: NamedJudge | list[str] | str | None = None,
    votes: list[Path] | Path | None = None,
    data: Path | None = None,
    database: str | None = None,
    pool: Path | None = None,
    others: list[Path] | None = None,
    resume: bool = False,
    keep_tuned: bool = False,
    groups: Path | None = None,
    by: list[str] | None = None,
) -> None:
    """Make a segmenter better from the preferences of a judge or of people on unlabelled images.

    A model of another format is written back in that format, into the folder tuned of the run, where it
    is better than the base on validation; of an nnU-Net folder with several folds, each is tuned in a
    run folder of its own, and those that are not better keep the base's weights.

    Args:
        out: run folder to create.
        settings: the resolved options, kept in the run folder.
        config: of candidates, method and training.
        where: data, split and cache.
        opening: what may be opened.
        workers: prepare the images, and predict what the training will ask of the base and the judge.
        model: the base: model file or run folder of segpref, trained nnU-Net folder (or one fold),
            MONAI bundle, .yaml that describes plain weights, or lite_medsam.pth; a frozen copy is the
            reference. With votes the copy in the study, in segpref's own format, if left out.
        judge: a model as above; a folder of masks made by another program, named as by segpref predict;
            several of these, "[A, B]", averaged; oracle or oracle-dice (as in MAPO), which need labels,
            for studies only; or a class with its arguments (class_path, init_args).
        votes: in the place of a judge: the folder of a study in which people voted (segpref collect),
            or several of one model, "[A, B]".
        data: folder of the dataset; labels are read for validation only, never for the update.
        database: URL of the votes, if they are not in the study's folder.
        pool: folder or table of unlabelled images; the training patients new to the base if left out.
        others: folders of masks made by other models, named as by segpref predict, as further
            candidates, whole and structure by structure.
        resume: continue a run that was stopped.
        keep_tuned: write the folder tuned whether or not it is better than the base.
        groups: table (CSV or Parquet) with a column patient and others, such as sex, age or scanner:
            report and model card then have the scores of each group of validation patients.
        by: which of its columns, "[sex, scanner]"; all if left out.
    """
    made = run(
        model, data, judge=judge, votes=votes, database=database, out=out, config=config, pool=pool,
        others=others, resume=resume, keep_tuned=keep_tuned, groups=groups, by=by, settings=settings,
        workers=workers,
        **vars(where), **vars(opening),
    )  # fmt: skip
    if is_first_process():  # which writes what is shown
        _show(made, model or made.out, keep_tuned)


def _show(made: Alignment, model: Path, keep_tuned: bool) -> None:
    lost = False
    for (name, run_folder), summary in zip(made.runs.items(), made.summaries, strict=True):
        comparison = made.verdicts.get(name)
        if votes := summary.get("votes"):
            why = counted(votes["left out"])
            said, raters, images = (
                f"{votes[name]} {what}{'' if votes[name] == 1 else 's'}"
                for name, what in (
                    ("preferences", "preference"),
                    ("raters", "rater"),
                    ("images", "image"),
                )
            )
            _print(
                f"Learned from {said} of {raters} on {images}; {votes['held out']} held out; "
                f"left out: {why or 'none'}."
            )
        lost = lost or summary.get("val_iou_peak", 1.0) < summary.get("val_iou_base", 0.0)
        control = control_beside(run_folder)
        outcome = verdict(summary, comparison, control, made.config.control)
        _print(f"{run_folder.best}: {outcome.text} Last epochs: {summary['tail_avg']:.3f}.")
        if read_card(run_folder.best).mirroring:
            _print(
                "Validation was without the mirrored views that the model averages when it predicts, "
                "which leave less to gain: segpref evaluate measures before and after with them."
            )
    if lost and not made.config.control:
        _print(
            "Keep the base. Updates that are too large lose what the judge could teach: try "
            "--learning_rate "
            f"{made.config.learning_rate / 3:.0e}; segpref audit shows whether there is anything to "
            "gain: what the judge tells apart, and how much better than the base's masks the best "
            "candidates are."
        )
    if made.tuned is not None:
        _print(f"{made.tuned}: as {model} is")
        kept = [name for name, one in made.verdicts.items() if one.word != "better"]
        if kept and not keep_tuned:
            _print(f"There the base's weights are kept in {', '.join(kept)}.")
    elif made.kept_back:
        _print(
            f"{made.out / 'tuned'} was not written, because the model is not shown to be better "
            f"than the base:"
            " the same command with --resume --keep_tuned writes it."
        )
    for run_folder, report in zip(made.runs.values(), made.reports, strict=True):
        if made.config.refresh is not None:
            report_mined_pairs(run_folder, made.config.refresh)
        _print(f"report: {report}")


def _print(text: str) -> None:
    console.print(text, soft_wrap=True)
