"""Training on labelled cases and unlabelled images: what one would do without a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor, nn

from segpref.data.dataset import Dataset
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import mean_iou, score_model
from segpref.networks import dropout_places, keyed_dropout
from segpref.policies import ModelCard
from segpref.runtime import Runtime
from segpref.seeds import derive_seed, generators, image_seeds
from segpref.training.augmentation import AugmentationName, augmentation, augmented_batch
from segpref.training.averaging import averaged
from segpref.training.curves import curve_summary
from segpref.training.folder import RunFolder
from segpref.training.loop import (
    StepResult,
    batch_stream,
    cosine,
    run_loop,
)
from segpref.training.semisupervised.method import Method, StepBatch
from segpref.training.semisupervised.student import Student
from segpref.training.start import card_of_start, first_network
from segpref.types import Case, SegprefError

__all__ = ["fit_semisupervised"]


def fit_semisupervised(
    labelled: Dataset,
    unlabelled: Dataset,
    validation: Dataset,
    card: ModelCard,
    folder: RunFolder,
    method: Method,
    *,
    epochs: int = 100,
    images_per_epoch: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    augment: AugmentationName = "flips-rotations",
    seed: int = 0,
    precision: str = "no",
    start: Path | None = None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Train a segmenter on labelled cases and unlabelled images together.

    Network, weak augmentation, supervised loss and optimiser are those of stage 1
    (:func:`segpref.training.fit`), so that what differs is the unlabelled images. Every step takes
    ``batch_size`` labelled and as many unlabelled ones. The teacher is what is validated and saved;
    with ``method.decay`` 0 it is the student. Labels of the unlabelled images are taken away at the
    door.

    Args:
        labelled: cases with labels.
        unlabelled: images of other patients.
        validation: chooses the checkpoint.
        card: what the model file will say; names the network.
        folder: where the run goes, opened.
        method: what is learned from the unlabelled images.
        epochs: number of epochs.
        images_per_epoch: unlabelled images in an epoch, drawn without repeats until all were seen.
        batch_size: labelled images per update, and unlabelled ones.
        learning_rate: highest learning rate of AdamW (cosine with warm-up).
        weight_decay: of AdamW.
        augment: weak augmentation, see :func:`~segpref.training.augmentation.augmentation`.
        seed: of weights, order, augmentation and all that the method draws.
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.
        start: model file or run folder to start from; from scratch where None.
        checkpoint_seconds: how often the position is saved (seconds).

    Returns:
        The run's summary.

    Raises:
        SegprefError: a set is empty or shares a patient with another, or ``start`` does not fit.
    """
    labelled, unlabelled = labelled.labelled(), unlabelled.without_labels()
    if not len(labelled):
        raise SegprefError("none of the cases to train on has a label: check the labels' folder")
    if not len(unlabelled):
        raise SegprefError("there is no unlabelled image: check which patients the split leaves")
    if not len(validation):
        raise SegprefError("there is no validation image: give validation patients in the split")
    card = card_of_start(card, start)
    refuse_leakage(
        {
            "the labelled cases": sorted({*card.labelled, *labelled.patients}),
            "the unlabelled images": unlabelled.patients,
            "the validation set": validation.patients,
        }
    )
    if folder.finished:
        return folder.read_summary()
    runtime = Runtime(precision)
    network = first_network(card, start, seed).to(runtime.device)
    average = averaged(network, method.decay)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(network))
    wrapped, prepared = runtime.learning(network, optimizer)
    student, model = Student(wrapped), card.policy_of(average.module)
    dropout = keyed_dropout(dropout_places(network), student.chance)
    transforms = augmentation(augment, card.preparation.dims)
    per_epoch = len(unlabelled) if images_per_epoch is None else images_per_epoch
    batches = batch_stream(len(unlabelled), per_epoch, batch_size, seed)
    labelled_batches = batch_stream(len(labelled), per_epoch, batch_size, seed)
    steps = len(batches(0))

    def teacher(images: Tensor) -> Tensor:
        with runtime.autocast():
            return model.logits(images).float()

    def step(indices: list[int], epoch: int, number: int) -> StepResult:
        known = labelled_batches(epoch)[number]
        known = list(runtime.shared(known)) or known[:1]
        key = derive_seed(seed, epoch, number)
        cases = [labelled[i] for i in known]
        images, labels = augmented_batch(cases, transforms, key)
        rest = [unlabelled[i] for i in indices]
        free = _augmented_images(
            rest,
            transforms,
            derive_seed(seed, epoch, number, 1),
        )
        batch = StepBatch(
            images.to(runtime.device),
            labels.to(runtime.device),
            free.to(runtime.device),
            card.label_space,
        )
        progress = (epoch * steps + number) / (epochs * steps)
        names = [case.id for case in rest]
        student.shown([case.id for case in cases], names, key)
        chance = generators(image_seeds(names, seed, epoch, number, 2))
        with torch.random.fork_rng():
            torch.manual_seed(key)
            loss = method.loss(student, teacher, batch, progress, chance)
        figures = {
            "train_loss": float(loss.supervised.detach()),
            "unsupervised_loss": float(loss.unsupervised.detach()),
            "unsupervised_weight": loss.weight,
            **loss.figures,
        }
        count = len(indices)
        logs = {name: (value * count, float(count)) for name, value in figures.items()}
        return StepResult(loss.total * count, count, logs)

    def validate() -> Mapping[str, float]:
        return {"val_iou": mean_iou(score_model(model, validation))}

    with dropout:
        history = run_loop(
            folder=folder,
            network=average.module,
            state_module=nn.ModuleDict({"student": network, "teacher": average}),
            card=card,
            optimizer=prepared,
            learning_rate=cosine(learning_rate),
            epochs=epochs,
            batches=batches,
            step=step,
            validate=validate,
            runtime=runtime,
            description=type(method).__name__,
            checkpoint_seconds=checkpoint_seconds,
        )
    curve = np.array([row["val_iou"] for row in history[1:]])
    summary = {
        "kind": "semisupervised",
        "method": type(method).__name__,
        "seed": seed,
        "labelled_cases": len(labelled),
        "labelled_patients": list(labelled.patients),
        "unlabelled_cases": len(unlabelled),
        "best_epoch": int(curve.argmax()) + 1,
        "val_iou": float(curve.max()),
        **curve_summary(history),
    }
    if runtime.first:
        folder.write_summary(summary)
    return summary


def _augmented_images(cases: Sequence[Case], transforms: Compose | None, seed: int) -> Tensor:
    # The transforms move an image and its label; here the label says nothing.
    blank = [replace(case, label=np.zeros((1, *case.image.shape[1:]), np.uint8)) for case in cases]
    return augmented_batch(blank, transforms, seed)[0]
