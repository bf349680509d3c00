"""Stage 1 of a promptable model: box, points and text together (Konwer et al., 2025, Sec. 3.1, 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import mean_iou, score_model
from segpref.objectives.focal_dice import FocalDiceLoss, quality_loss
from segpref.policies import ModelCard
from segpref.policies.promptable import (
    PARTS,
    Part,
    PromptableNetwork,
    PromptablePolicy,
)
from segpref.prompts import ExpertPrompts, LabelPrompts, Prompts, turned, turned_prompt
from segpref.runtime import Runtime
from segpref.seeds import derive_seed
from segpref.training.folder import RunFolder
from segpref.training.loop import (
    StepResult,
    batch_stream,
    halved,
    run_loop,
)
from segpref.types import Case, SegprefError

__all__ = ["fit_promptable"]


def fit_promptable(
    labelled: Dataset,
    validation: Dataset,
    network: PromptableNetwork,
    card: ModelCard,
    folder: RunFolder,
    *,
    guide: LabelPrompts | None = None,
    parts: Sequence[Part] = PARTS,
    loss: FocalDiceLoss | None = None,
    quality_weight: float = 1.0,
    epochs: int = 15,
    images_per_epoch: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    halve_every: float = 10,
    augment: Literal["none", "dihedral"] = "none",
    seed: int = 0,
    precision: str = "no",
    cache: Cache | None = None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Train a promptable model on labelled cases with the prompts that it will have.

    Adam, halved every 10 epochs; ``20 focal + 1 Dice`` as a mean over the iterations, of which
    the second is given the first one's mask. SAM's own recipe has a loss on the predicted IoU
    besides, which the paper does not name; it is kept, for that prediction is a judge.

    Args:
        labelled: cases with labels of independent structures.
        validation: chooses the checkpoint.
        network: what is trained, in place.
        card: what the model file will say, and who makes the prompts
            (:func:`~segpref.policies.promptable.promptable_card`).
        folder: where the run goes, opened.
        guide: draws the prompts from the labels in place of the card's prompter, anew at every step,
            and validates with such prompts: how a checkpoint learns to follow boxes and points.
        parts: which parts learn: encoder, prompts, decoder. All in the paper.
        loss: of the masks.
        quality_weight: of the squared error of the predicted IoU; 0 for none, as in the paper's text.
        epochs: number of epochs.
        images_per_epoch: images in an epoch, drawn without repeats until all were seen.
        batch_size: images per update.
        learning_rate: of Adam, at the start.
        halve_every: epochs after which it is halved.
        augment: none, or dihedral: quarter turns (of square images) and flips, prompts and all. It
            makes right and left meaningless: do without it where a text names a side.
        seed: of order, augmentation and drawn prompts.
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.
        cache: where image embeddings are kept while the encoder is frozen.
        checkpoint_seconds: how often the position is saved (seconds).

    Returns:
        The run's summary.
    """
    labelled = labelled.labelled()
    if not len(labelled):
        raise SegprefError("none of the cases to train on has a label: check the labels' folder")
    if not len(validation):
        raise SegprefError("there is no validation image: give validation patients in the split")
    refuse_leakage(
        {"the labelled cases": labelled.patients, "the validation set": validation.patients}
    )
    if folder.finished:
        return folder.read_summary()
    runtime = Runtime(precision)
    network.to(runtime.device)
    policy = _policy(card, network)
    policy.learn(parts)
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learning, learning_rate)
    wrapped, prepared = runtime.learning(network, optimizer)
    policy.network, judged = wrapped, policy
    if guide is not None:
        texts_of = None if network.text_encoder is None else policy.prompter
        judged = PromptablePolicy(wrapped, card.label_space, ExpertPrompts(texts_of=texts_of))
    judged.prepare(validation, cache)
    policy.prepare(labelled, cache)
    measure = loss or FocalDiceLoss()

    def step(indices: list[int], epoch: int, number: int) -> StepResult:
        cases = [labelled[i] for i in indices]
        rngs = [np.random.default_rng([derive_seed(seed, epoch, number), i]) for i in indices]
        images, targets, prompts = _batch(cases, rngs, policy, guide, augment)
        state = policy.forward(images, prompts, every=True)
        targets = targets.to(state.logits.device)
        total = state.logits.new_zeros(())
        for logits, quality in zip(state.iterations, state.qualities, strict=True):
            each = measure(logits, targets)
            if quality_weight:
                each = each + quality_weight * quality_loss(quality, logits, targets)
            total = total + each.mean(dim=1).sum() / len(state.iterations)
        amount = float(total.detach())
        return StepResult(total, len(cases), {"train_loss": (amount, float(len(cases)))})

    def validate() -> Mapping[str, float]:
        return {"val_iou": mean_iou(score_model(judged, validation))}

    history = run_loop(
        folder=folder,
        network=network,
        card=card,
        optimizer=prepared,
        learning_rate=halved(learning_rate, halve_every, epochs),
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
        "kind": "fit-promptable",
        "seed": seed,
        "labelled_cases": len(labelled),
        "labelled_patients": list(labelled.patients),
        "trained_parts": list(parts),
        "best_epoch": int(curve.argmax()) + 1,
        "val_iou": float(curve.max()),
    }
    if runtime.first:
        folder.write_summary(summary)
    return summary


def _policy(card: ModelCard, network: PromptableNetwork) -> PromptablePolicy:
    policy = card.policy_of(network)
    if not isinstance(policy, PromptablePolicy):
        raise SegprefError(
            f"{card.policy.class_path} is not asked by prompts: make the card with promptable_card"
        )
    return policy


def _batch(
    cases: Sequence[Case],
    rngs: Sequence[np.random.Generator],
    policy: PromptablePolicy,
    guide: LabelPrompts | None,
    augment: Literal["none", "dihedral"],
) -> tuple[torch.Tensor, torch.Tensor, Prompts]:
    """Images, targets and prompts of a step."""
    pictures = [np.array(case.image) for case in cases]
    labels = [np.array(case.label) for case in cases]
    prompts: Prompts
    if guide is None:
        prompts = policy.prompts_for(torch.from_numpy(np.stack(pictures)))
    else:
        texts = _texts(policy, pictures)
        drawn = zip(labels, rngs, texts, strict=True)
        prompts = [guide(label, rng, text) for label, rng, text in drawn]
    if augment == "dihedral":
        shape = pictures[0].shape[1:]
        square = shape[0] == shape[1]
        moves = [(int(rng.integers(4 if square else 2)), bool(rng.integers(2))) for rng in rngs]
        moves = [(quarters if square else 2 * quarters, flip) for quarters, flip in moves]
        pictures = [turned(p, *move) for p, move in zip(pictures, moves, strict=True)]
        labels = [turned(label, *move) for label, move in zip(labels, moves, strict=True)]
        prompts = [
            [turned_prompt(prompt, shape, *move) for prompt in row]
            for row, move in zip(prompts, moves, strict=True)
        ]
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(labels)), prompts


def _texts(
    policy: PromptablePolicy, pictures: Sequence[np.ndarray]
) -> list[tuple[str | None, ...] | None]:
    """The texts that the policy's own prompts have, for prompts that are drawn from labels."""
    if policy.inner.text_encoder is None:
        return [None] * len(pictures)
    own = policy.prompts_for(torch.from_numpy(np.stack(pictures)))
    return [tuple(prompt.text for prompt in row) for row in own]
