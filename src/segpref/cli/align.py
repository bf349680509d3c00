"""`segpref align`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from segpref.cli.opening import open_judge, open_split, part_of, prepared_for
from segpref.data import Cache, images_for, prepare
from segpref.data.splits import refuse_leakage
from segpref.judges import NamedJudge
from segpref.miners import TopVsRandom
from segpref.objectives import DPO, Reduction
from segpref.policies import read_card
from segpref.progress import console
from segpref.proposals import SlateProposals
from segpref.studies.gallery import alignment_report
from segpref.training import PreferenceSignal, PseudoLabelSignal, RunFolder, Signal
from segpref.training import align as train
from segpref.training.augmentation import StrongAugmentation
from segpref.types import Margins

__all__ = ["align"]


def align(
    model: Path,
    judge: NamedJudge | str,
    data: Path,
    out: Path,
    settings: dict[str, Any],
    data_options: dict[str, Any] | None = None,
    pool: Path | None = None,
    split: Path | None = None,
    method: Literal["preference", "pseudo-label"] = "preference",
    reduction: Reduction = "region",
    beta: float = 1.0,
    objective: Callable[[Margins], Any] | None = None,
    miner: Callable[[Any, Any], Any] | None = None,
    candidates: int = 32,
    epochs: int = 15,
    images_per_epoch: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    schedule: Literal["constant", "cosine"] = "constant",
    view: StrongAugmentation | None = None,
    average: float = 0.0,
    seed: int = 0,
    precision: Literal["no", "bf16", "fp16"] = "no",
    cache: Path | None = None,
    resume: bool = False,
) -> None:
    """Make a segmenter better from a judge's preferences on unlabelled images.

    Args:
        model: file or run folder of the base; a frozen copy of it is the reference.
        judge: file or run folder of a judge's model; oracle (needs labels, for studies only); or a
            class with its arguments (class_path, init_args).
        data: folder of the dataset; labels are read for validation only, never for the update.
        out: run folder that is made.
        settings: the resolved options, kept in the run folder.
        data_options: passed to the reader, such as as_multilabel, patient_pattern or exclude.
        pool: folder of unlabelled images; the training patients without the base's if left out.
        split: JSON file of the split; the base's own if left out.
        method: preference (pairs of candidates) or pseudo-label (the best candidate as target).
        reduction: region is RN-DPO, image is DPO as usual, [power, a] lies between.
        beta: strength of the preference, for DPO; other objectives bring their own.
        objective: loss on margins (class_path, init_args); DPO if left out.
        miner: picks pairs from scores (class_path, init_args); Top-vs-Random if left out.
        candidates: number K of masks in a slate.
        epochs: number of epochs.
        images_per_epoch: images in an epoch; the whole pool if left out.
        batch_size: images per update.
        learning_rate: of Adam.
        schedule: constant, or cosine with warm-up.
        view: the update is made on such a view of the image (class_path, init_args), while slates and
            judge see the image itself; on the image if left out.
        average: decay of the moving average of weights that is validated and saved; 0 for none.
        seed: of order, slates and pairs.
        precision: mixed precision: no, bf16 or fp16.
        cache: where prepared images and predictions are kept.
        resume: go on with a run that was stopped.
    """
    store = Cache(cache)
    card, reader, dataset = prepared_for(model, data, data_options, store)
    beside = (model if model.is_dir() else model.parent) / "split.json"
    parts = open_split(reader, split or (beside if beside.exists() else None))
    opinion = open_judge(judge, card, store)
    validation = part_of(dataset, parts, "validation")
    if pool is not None:
        images = prepare(images_for(pool, card.channels), card.preparation, store, card.label_space)
    else:
        # Nobody whose labels the base has seen.
        rest = [name for name in parts.train if name not in card.labelled]
        images = dataset.of_patients(rest)
    judged = judged_patients(judge)
    refuse_leakage(
        {"the judge's labelled cases": judged, "validation": parts.validation, "test": parts.test}
    )
    signal: Signal
    if method == "pseudo-label":
        signal = PseudoLabelSignal(card.label_space)
    else:
        signal = PreferenceSignal(
            card.label_space, miner or TopVsRandom(), objective or DPO(beta), reduction
        )
    folder = RunFolder(out)
    folder.open(settings, resume)
    parts.save(out / "split.json")
    proposals = SlateProposals(candidates)
    summary = train(
        model,
        images,
        validation,
        opinion,
        signal,
        folder,
        proposals=proposals,
        epochs=epochs,
        images_per_epoch=images_per_epoch,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        view=view,
        average=average,
        seed=seed,
        precision=precision,
        cache=store,
    )
    report = alignment_report(folder, model, validation, opinion, proposals, seed)
    base, peak = summary["val_iou_base"], summary["val_iou_peak"]
    verdict = "better than" if peak > base else "NOT better than"
    console.print(
        f"{out}/best.safetensors: validation IoU {peak:.3f} after epoch {summary['peak_epoch']}, "
        f"{verdict} the base's {base:.3f}; last epochs {summary['tail_avg']:.3f}\nreport: {report}"
    )


def judged_patients(judge: NamedJudge | str) -> tuple[str, ...]:
    """Patients whose labels a judge's model was trained with, as far as its file tells."""
    if not isinstance(judge, str):
        return tuple(getattr(judge, "labelled", ()))
    if judge == "oracle":
        return ()
    return read_card(Path(judge)).labelled
