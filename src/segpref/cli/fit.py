"""`segpref fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from segpref.cli.opening import beside, open_split, part_of
from segpref.data import Cache, Preparation, draw_cases, draw_patients, open_dataset, prepare
from segpref.data.splits import refuse_leakage
from segpref.locking import alone_in_out
from segpref.policies import ModelCard, NetworkSpec, read_card
from segpref.policies.promptable import PARTS, Part, PromptableNetwork, promptable_card
from segpref.progress import console
from segpref.report.run_report import write_report
from segpref.studies.recipe import default_network
from segpref.targets import check_outputs
from segpref.training import RunFolder, fit_promptable
from segpref.training import fit as train
from segpref.training.augmentation import AugmentationName
from segpref.training.semisupervised import Method
from segpref.types import SegprefError

__all__ = ["fit"]

_USUAL = Preparation(size=(256, 256))


@alone_in_out
def fit(
    data: Path,
    out: Path,
    settings: dict[str, Any],
    data_options: dict[str, Any] | None = None,
    split: Path | None = None,
    part: Literal["train", "judge"] = "train",
    labelled: int | None = None,
    unit: Literal["patients", "cases"] = "patients",
    preparation: Preparation = _USUAL,
    network: NetworkSpec | None = None,
    start: Path | None = None,
    method: Method | None = None,
    dropout: float = 0.0,
    promptable: PromptableNetwork | None = None,
    prompter: dict[str, Any] | None = None,
    parts: tuple[Part, ...] = PARTS,
    epochs: int = 100,
    images_per_epoch: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    augment: AugmentationName = "flips-rotations",
    seed: int = 0,
    precision: Literal["no", "bf16", "fp16"] = "no",
    trust: bool = False,
    cache: Path | None = None,
    resume: bool = False,
) -> None:
    """Train a base (or a judge) from a few labelled cases.

    Args:
        data: folder of the dataset; its layout is recognised.
        out: run folder that is made.
        settings: the resolved options, kept in the run folder.
        data_options: passed to the reader, such as as_multilabel, patient_pattern or exclude.
        split: JSON file with the patients of train, judge, validation and test; the start's own, or
            drawn, if left out.
        part: train for a base, judge for a judge.
        labelled: how many labelled patients or cases to use, drawn with the seed; all if left out.
        unit: what --labelled counts: patients, or cases (slices in 2D).
        preparation: how images become network input; as in the start, where it is left out.
        network: class and arguments of a network; that of the start, or a MONAI residual U-Net, if left
            out.
        start: model file or run folder whose weights are the beginning; random ones if left out.
        method: a semi-supervised method that also learns from the training patients without labels
            (class_path, init_args), such as segpref.training.semisupervised.FixMatch.
        dropout: rate of dropout after every block while training, whatever the network (the warm-up of
            MAPO); supervised training only.
        promptable: a promptable network in its place (class_path, init_args), such as
            segpref.policies.promptable.load_sam with the name or folder of a checkpoint. It takes 2D
            images from 0 to 1 (preparation.normalise percentile) and labels as independent structures
            (data_options.as_multilabel). The paper: 15 epochs, learning_rate 1e-4.
        prompter: what makes its prompts (class_path, init_args), such as
            segpref.prompts.SaliencyPrompts; it stands in the model file. The whole image as a box if
            left out.
        parts: which of encoder, prompts and decoder of a promptable network learn.
        epochs: number of epochs.
        images_per_epoch: images in an epoch; all if left out.
        batch_size: images per update.
        learning_rate: highest learning rate of AdamW (cosine with warm-up), or of Adam that is halved
            every ten epochs for a promptable network.
        weight_decay: of AdamW.
        augment: flips-rotations, photometric (not for promptable networks) or none.
        seed: of everything that is drawn.
        precision: mixed precision: no, bf16 or fp16.
        trust: whether a model may run code that comes with it and build whatever class it names; a
            pickled nnU-Net checkpoint, an expression in a MONAI bundle and a class from elsewhere can
            do anything, so ask where it comes from.
        cache: where prepared images are kept; SEGPREF_CACHE or the user's cache folder if left out.
        resume: go on with a run that was stopped.
    """
    check_outputs(files=[out / "split.json", out / "report.html"], folders=[out, cache])
    folder = RunFolder(out)
    folder.check()
    ours = network is not None or start is not None or method is not None or dropout
    if promptable is not None and (ours or augment == "photometric"):
        raise SegprefError(
            "a promptable network takes the place of --network and has no start, method, dropout or "
            "photometric augmentation: leave those out"
        )
    if method is not None and dropout:
        raise SegprefError("dropout is for supervised training: leave it or the method out")
    before = None if start is None else read_card(start, trust)
    # What equals the default was left out: options that are parsed do not tell who gave them.
    form = preparation if before is None or preparation != _USUAL else before.preparation
    reader = open_dataset(data, **(data_options or {}))
    # Nobody is validated or tested on whose labels the start has seen.
    seen = () if before is None else before.labelled
    split_parts = open_split(reader, split or (start and beside(start)), seen=seen)
    refuse_leakage(
        {
            "the start's labelled cases": seen,
            "validation": split_parts.validation,
            "test": split_parts.test,
        }
    )
    store = Cache(cache)
    dataset = prepare(reader, form, store)
    cases = part_of(dataset, split_parts, part)
    if labelled is not None and unit == "cases":
        cases = draw_cases(cases, labelled, seed)
    elif labelled is not None:
        cases = cases.of_patients(draw_patients(cases.patients, labelled, seed))
    label_space, channels = dataset.label_space, reader.channels
    if promptable is not None:
        card = promptable_card(
            promptable, label_space, preparation, channels, cases.patients, prompter
        )
    else:
        spec = network or (default_network(form.dims) if before is None else before.network)
        card = ModelCard(
            network=spec.for_data(len(channels), label_space.channels),
            label_space=label_space,
            preparation=form,
            channels=channels,
            labelled=cases.patients,
        )
    validation = part_of(dataset, split_parts, "validation")
    common: dict[str, Any] = {
        "epochs": epochs,
        "images_per_epoch": images_per_epoch,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "precision": precision,
    }
    with folder.begun(settings, resume):
        split_parts.save(out / "split.json")
        if promptable is not None:
            summary = fit_promptable(
                cases,
                validation,
                promptable,
                card,
                folder,
                parts=parts,
                augment="none" if augment == "none" else "dihedral",
                cache=store,
                **common,
            )
        else:
            common |= {"weight_decay": weight_decay, "augment": augment, "start": start}
            rest = dataset.of_patients(set(split_parts.train) - set(cases.patients))
            common |= {"method": method, "dropout": dropout}
            summary = train(cases, validation, card, folder, unlabelled=rest, **common)
    report = write_report(folder)
    console.print(
        f"{out}/best.safetensors: validation IoU {summary['val_iou']:.3f} after epoch "
        f"{summary['best_epoch']}, from {summary['labelled_cases']} labelled cases of "
        f"{len(summary['labelled_patients'])} patients\nreport: {report}"
    )
