"""`segpref align`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from segpref.cli.candidates import tell_of_dropout, tell_of_pairs
from segpref.cli.methods import Method, MethodName, method_of
from segpref.cli.opening import (
    beside,
    families_with,
    open_judge,
    open_split,
    part_of,
    prepared_for,
    see_to_masks,
)
from segpref.data import Cache, Dataset, Preparation, images_for, prepare
from segpref.data.cache import sweep_partial
from segpref.data.splits import refuse_leakage
from segpref.inference.windows import whole_images
from segpref.judges import NamedJudge
from segpref.locking import alone_in_out
from segpref.objectives import Reduction
from segpref.policies import load_model, load_segmenter, read_card, save_model
from segpref.policies.opening import open_model
from segpref.progress import console
from segpref.studies.calibration import measured_flips
from segpref.studies.examples import alignment_report
from segpref.studies.slates import patch_draw
from segpref.targets import check_outputs
from segpref.training import RunFolder, is_first_process
from segpref.training import align as train
from segpref.training.augmentation import StrongAugmentation
from segpref.training.config import Schedule
from segpref.training.feedback import Feedback
from segpref.types import Margins

__all__ = ["align"]


@alone_in_out
def align(
    model: Path,
    judge: NamedJudge | list[str] | str,
    data: Path,
    out: Path,
    settings: dict[str, Any],
    data_options: dict[str, Any] | None = None,
    pool: Path | None = None,
    split: Path | None = None,
    method: MethodName = "preference",
    reduction: Reduction = "region",
    beta: float | None = None,
    objective: Callable[[Margins], Any] | None = None,
    miner: Callable[[Any, Any], Any] | None = None,
    candidates: int = 32,
    families: list[Callable[[Any], Any]] | None = None,
    others: list[Path] | None = None,
    supervised: float = 0.0,
    feedback: Feedback | None = None,
    epochs: int = 15,
    images_per_epoch: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    schedule: Schedule = "constant",
    view: StrongAugmentation | None = None,
    average: float | None = None,
    images: Literal["unlabelled", "labelled"] = "unlabelled",
    refresh: int | None = None,
    reference: Literal["base", "round"] = "base",
    optimizer: Literal["adam", "adamw"] = "adam",
    seed: int = 0,
    precision: Literal["no", "bf16", "fp16"] = "no",
    trust: bool = False,
    labelled: list[str] | None = None,
    preparation: Preparation | None = None,
    cache: Path | None = None,
    control: bool = False,
    resume: bool = False,
) -> None:
    """Make a segmenter better from a judge's preferences on unlabelled images.

    A model of another format is written back in that format, into the folder tuned of the run; of an
    nnU-Net folder with several folds, each is tuned in a run folder of its own.

    Args:
        model: the base; segpref's file or run folder, a trained nnU-Net folder (or one fold of it), a
            MONAI bundle, or a .yaml that describes plain weights; a frozen copy is the reference.
        judge: a model as above; a folder of masks that another program made of the images, named as
            predict names them; several of these, "[A, B]", of which the mean counts; oracle, or
            oracle-dice by which MAPO ranks (need labels, for studies only); or a class with its
            arguments (class_path, init_args).
        data: folder of the dataset; labels are read for validation only, never for the update.
        out: run folder that is made.
        settings: the resolved options, kept in the run folder.
        data_options: passed to the reader, such as as_multilabel, patient_pattern or exclude.
        pool: folder of unlabelled images; the training patients without the base's if left out.
        split: JSON file of the split; the base's own if left out.
        method: preference (pairs of candidates), calibrated (preference that learns a pair as far as
            the judge was right at its score gap on the labelled validation images, or on patches of
            them, which is measured first; on a strong view, with averaged weights) or pseudo-label (the
            best candidate as target).
        reduction: region is RN-DPO, image is DPO as usual, [power, a] lies between.
        beta: strength of the preference, for DPO (1 if left out) and method calibrated (0.25); other
            objectives bring their own.
        objective: loss on margins (class_path, init_args); DPO if left out. CalibratedDPO without gaps
            and flip_rates has them measured first.
        miner: picks pairs from scores (class_path, init_args); Top-vs-Random if left out.
        candidates: number K of masks in a slate.
        families: what makes the candidates (a list of class_path, init_args), such as
            segpref.proposals.DropoutRates (then it is told how far predictions under dropout differ);
            all that suit the labels if left out.
        others: folders of masks that other models made of the images, named as predict names them:
            candidates, too, whole and structure by structure.
        supervised: weight of the labels beside preferences (lambda of MAPO, 0.5 there); 0 for none.
        feedback: learn from what a person would say of four thresholds of the model's probabilities, in
            place of method, reduction, beta, objective, miner and candidates: --feedback.kind rating,
            ranking or best-only, as the judge sees them (--judge oracle is a virtual annotator).
        epochs: number of epochs.
        images_per_epoch: images in an epoch; the whole pool if left out.
        batch_size: images per update.
        learning_rate: of Adam.
        schedule: constant, cosine with warm-up, or halved every ten epochs.
        view: the update is made on such a view of the image (class_path, init_args), while slates and
            judge see the image itself; on the image if left out, but for method calibrated.
        average: decay of the moving average of weights that is validated and saved; 0 for none, which
            is meant if left out, but for method calibrated (0.99).
        images: learn from the training patients without the base's labels, or from the base's labelled
            ones (MAPO).
        refresh: epochs for which slates and scores stand (MAPO's rounds); made at every step if left
            out. At the end it is told how many images gave a pair in each round.
        reference: base, or with refresh the model at the beginning of each round.
        optimizer: adam or adamw.
        seed: of order, slates and pairs.
        precision: mixed precision: no, bf16 or fp16.
        trust: whether a model may run code that comes with it and build whatever class it names; a
            pickled nnU-Net checkpoint, an expression in a MONAI bundle and a class from elsewhere can
            do anything, so ask where it comes from.
        labelled: patients that the model was trained with, where it does not tell itself.
        preparation: how images become the input of a MONAI bundle, where its configuration does not say
            so as text.
        cache: where prepared images and predictions are kept.
        control: turn each pair round or not by the toss of a coin, so that nothing can be learned from
            the judge: a gain is the judge's as far as it is above what this run gains. Pseudo-labels
            and feedback see a judge whose order of each slate is turned round so.
        resume: go on with a run that was stopped.
    """
    check_outputs(
        files=[out / "split.json", out / "report.html"], folders=[out, out / "tuned", cache]
    )
    RunFolder(out).check()
    store = Cache(cache)
    opened = open_model(model, trust=trust, labelled=labelled, preparation=preparation)
    card, reader, dataset = prepared_for(opened, data, data_options, store)
    unlabelled = None if pool is None else images_for(pool, card.channels)
    opinion, judged = open_judge(judge, card, reader, store, trust, unlabelled)
    parts = open_split(reader, split or beside(model), seen={*card.labelled, *judged})
    validation = part_of(dataset, parts, "validation")
    if unlabelled is not None:
        shown = prepare(unlabelled, card.preparation, store, card.label_space)
    elif images == "labelled":
        shown = dataset.of_patients(set(parts.train) & set(card.labelled))
    else:
        # Nobody whose labels the base has seen, or the judge.
        shown = dataset.of_patients(set(parts.train) - {*card.labelled, *judged})
    readers = [reader] if unlabelled is None else [reader, unlabelled]
    making = families_with(families, others, card, readers, store)
    see_to_masks(opinion, making, shown)
    refuse_leakage(
        {"the judge's labelled cases": judged, "validation": parts.validation, "test": parts.test}
    )
    chosen = method_of(
        card.label_space,
        opinion,
        method=method,
        reduction=reduction,
        beta=beta,
        objective=objective,
        miner=miner,
        candidates=candidates,
        families=making,
        supervised=supervised,
        feedback=feedback,
        view=view,
        average=average,
        control=control,
        seed=seed,
    )
    if chosen.uncalibrated is not None:
        # Without their masks it would be measured how other pairs are flipped.
        see_to_masks(opinion, making, validation)
    several = len(opened.members) > 1
    folders = {name: RunFolder(out / name if several else out) for name in opened.members}
    bases: dict[str, Path] = {}
    lost = False
    for name, folder in folders.items():
        with folder.begun(settings, resume):
            parts.save(folder.path / "split.json")
            base = bases[name] = model
            if opened.write is not None:
                # Foreign models are converted at the door.
                base = bases[name] = folder.path / "base.safetensors"
                save_model(base, opened.members[name]().network, card)
            if not folder.finished:
                tell_of_dropout(base, shown, families, seed, store)
            own = _calibrated(chosen, base, validation, folder.audit, seed, store)
            summary = train(
                base,
                shown,
                validation,
                own.judge,
                own.signal,
                folder,
                proposals=own.proposals,
                epochs=epochs,
                images_per_epoch=images_per_epoch,
                batch_size=batch_size,
                learning_rate=learning_rate,
                schedule=schedule,
                view=own.view,
                average=own.average,
                refresh=refresh,
                reference=reference,
                optimizer=optimizer,
                seed=seed,
                precision=precision,
                cache=store,
            )
        before, peak = summary["val_iou_base"], summary["val_iou_peak"]
        lost = lost or peak < before
        verdict = "better than" if peak > before else "NOT better than"
        console.print(
            f"{folder.best}: validation IoU {peak:.3f} after epoch {summary['peak_epoch']}, {verdict} "
            f"the base's {before:.3f}; last epochs {summary['tail_avg']:.3f}",
            soft_wrap=True,
        )
    if card.mirroring:
        console.print(
            "Validation was without the mirrored views that the model averages when it predicts, which "
            "leave less to gain: segpref evaluate measures before and after with them.",
            soft_wrap=True,
        )
    if control:
        console.print("This was a control: what it gained was not learned from the judge.")
    elif lost:
        console.print(
            "Keep the base. Updates that are too large lose what a judge teaches: try --learning_rate "
            f"{learning_rate / 3:.0e}; segpref audit shows whether there is anything to gain: what the "
            "judge tells apart, and how much better than the base's masks the best candidates are.",
            soft_wrap=True,
        )
    if not is_first_process():
        return  # the first process of a launch writes for all
    # Before the reports, which can be made again.
    if opened.write is not None and not any((out / "tuned").glob("[!.]*")):
        sweep_partial(out)
        tuned = {name: load_model(folder.best)[0].network for name, folder in folders.items()}
        console.print(f"{opened.write(tuned, out / 'tuned')}: as {model} is", soft_wrap=True)
    for name, folder in folders.items():
        if refresh is not None:
            tell_of_pairs(folder, refresh)
        report = alignment_report(
            folder, bases[name], validation, chosen.judge, chosen.proposals, seed
        )
        console.print(f"report: {report}", soft_wrap=True)


def _calibrated(
    method: Method, base: Path, validation: Dataset, file: Path, seed: int, cache: Cache
) -> Method:
    """The method, with flip rates of slates like those of the training where it waits for them."""
    pairs = method.uncalibrated
    if pairs is None:
        return method
    policy, card = load_segmenter(base), read_card(base)
    patches = patch_draw(policy, card, validation, cache)
    asked = whole_images([policy], card.preparation) if patches is None else policy
    judge, proposals = method.judge, method.proposals
    return method.calibrated(
        measured_flips(file, asked, validation, judge, pairs.miner, proposals, seed, patches)
    )
