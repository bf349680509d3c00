"""Stage 1: a base (or a judge) from a few labelled cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segpref.data.dataset import Dataset
from segpref.data.patches import LabelPlaces, PatchDraw
from segpref.inference.evaluation import mean_iou, score_model
from segpref.inference.windows import whole_images
from segpref.networks import ImageChance, InjectedDropout, dropout_places, keyed_dropout
from segpref.objectives.supervised import SupervisedLoss
from segpref.policies import ModelCard
from segpref.runtime import Runtime
from segpref.seeds import derive_seed, image_seeds
from segpref.training.augmentation import AugmentationName, augmentation, augmented_batch
from segpref.training.folder import RunFolder
from segpref.training.loop import (
    StepResult,
    batch_stream,
    cosine,
    run_loop,
)
from segpref.training.sizes import sizes_told
from segpref.training.start import card_of_start, first_network
from segpref.types import SegprefError

__all__ = ["fit"]


def fit(
    labelled: Dataset,
    validation: Dataset,
    card: ModelCard,
    folder: RunFolder,
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
    dropout: float = 0.0,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Train a segmenter on labelled cases; the best validation checkpoint is the reference.

    AdamW, cosine schedule with warm-up (RN-DPO, Sec. 4.2). Where the preparation has a patch, a step
    sees one patch of each image, often around a structure.

    Args:
        labelled: cases with labels.
        validation: chooses the checkpoint.
        card: what the model file will say; names the network.
        folder: where the run goes, opened.
        epochs: number of epochs.
        images_per_epoch: images in an epoch, drawn without repeats until all were seen.
        batch_size: images per update.
        learning_rate: highest learning rate.
        weight_decay: of AdamW.
        augment: see :func:`~segpref.training.augmentation.augmentation`.
        seed: of weights, order and augmentation.
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.
        start: model file or run folder to go on from; random weights where None.
        dropout: rate of dropout after every block while training, also of the network's own dropout
            layers (MAPO's warm-up); 0 leaves the network as it is.
        loss: of logits and labels; Dice + (binary) cross-entropy where None, as in RN-DPO.
        checkpoint_seconds: how often the position is saved (seconds).

    Returns:
        The run's summary.
    """
    labelled = labelled.labelled()
    if not len(labelled):
        raise SegprefError("none of the cases to train on has a label: check the labels' folder")
    if not len(validation):
        raise SegprefError("there is no validation image: give validation patients in the split")
    card = card_of_start(card, start)
    if folder.finished:
        return folder.read_summary()
    runtime = Runtime(precision)
    network = first_network(card, start, seed).to(runtime.device)
    model = card.policy_of(network)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
    wrapped, prepared = runtime.learning(network, optimizer)
    measure = loss or SupervisedLoss(card.label_space)
    transforms = augmentation(augment, card.preparation.dims)
    whole, chance = whole_images([model], card.preparation), ImageChance()
    patches: PatchDraw | None = None
    if card.preparation.patch is not None:
        found = LabelPlaces(card.label_space)
        patches = PatchDraw(card.preparation, found, mirroring=card.mirroring)

    def step(indices: list[int], epoch: int, number: int) -> StepResult:
        cases = [labelled[i] for i in indices]
        key = derive_seed(seed, epoch, number)
        if patches is not None:
            cases = patches(cases, indices, key)
        images, labels = augmented_batch(cases, transforms, key)
        wrapped.train()
        chance.seeds = image_seeds([case.id for case in cases], key)
        # Layers of another kind than dropout that draw do so from the global state.
        with torch.random.fork_rng():
            torch.manual_seed(key)
            images = images.to(runtime.device)
            with sizes_told(images, network):
                logits = wrapped(images)
        if isinstance(logits, list | tuple):
            logits = logits[0]
        value = measure(logits, labels.to(runtime.device))
        amount = float(value.detach()) * len(cases)
        return StepResult(value * len(cases), len(cases), {"train_loss": (amount, len(cases))})

    def validate() -> Mapping[str, float]:
        wrapped.eval()
        scores = score_model(whole, validation)
        return {"val_iou": mean_iou(scores)}

    first = labelled[0] if patches is None else patches([labelled[0]], [0], seed)[0]
    image = torch.from_numpy(np.array(first.image))[None].to(runtime.device)
    with sizes_told(image, network):
        places = (
            InjectedDropout(network, image).places(dropout) if dropout else dropout_places(network)
        )
    with keyed_dropout(places, chance):
        history = run_loop(
            folder=folder,
            network=network,
            card=card,
            optimizer=prepared,
            learning_rate=cosine(learning_rate),
            epochs=epochs,
            batches=batch_stream(len(labelled), images_per_epoch, batch_size, seed),
            step=step,
            validate=validate,
            runtime=runtime,
            description="stage 1",
            checkpoint_seconds=checkpoint_seconds,
        )
    curve = np.array([row["val_iou"] for row in history[1:]])
    summary = {
        "kind": "fit",
        "seed": seed,
        "labelled_cases": len(labelled),
        "labelled_patients": list(labelled.patients),
        "best_epoch": int(curve.argmax()) + 1 if len(curve) else 0,
        "val_iou": float(curve.max()) if len(curve) else math.nan,
    }
    if runtime.first:
        folder.write_summary(summary)
    return summary
