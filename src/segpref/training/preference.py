"""Stage 2: a better segmenter from a judge's preferences (RN-DPO, Figure 1 and Sec. 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import nn

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.predictions import PredictionStore
from segpref.data.splits import refuse_leakage
from segpref.inference.evaluation import mean_iou, score_model
from segpref.metrics import slate_iou
from segpref.policies import Segmenter, load_model
from segpref.proposals import SlateProposals
from segpref.training.augmentation import StrongAugmentation
from segpref.training.averaging import averaged
from segpref.training.curves import curve_summary
from segpref.training.folder import RunFolder
from segpref.training.loop import (
    StepResult,
    batch_stream,
    constant,
    cosine,
    make_accelerator,
    run_loop,
    step_seed,
)
from segpref.training.signals import ScoredBatch, Signal
from segpref.types import Judge, LabelSpace, SegprefError, Slate

__all__ = ["PreferenceStep", "align"]


def align(
    base: Path | str,
    pool: Dataset,
    validation: Dataset,
    judge: Judge,
    signal: Signal,
    folder: RunFolder,
    *,
    proposals: SlateProposals | None = None,
    epochs: int = 15,
    images_per_epoch: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    schedule: Literal["constant", "cosine"] = "constant",
    seed: int = 0,
    precision: str = "no",
    view: StrongAugmentation | None = None,
    average: float = 0.0,
    cache: Cache | None = None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Fine-tune a policy on preferences between its own candidate masks.

    Adam, constant learning rate, no augmentation (unless ``view`` is given); dropout and normalisation
    statistics are frozen.
    Labels of the pool, where there are any, reach only figures and a judge that declares
    ``needs_label``.

    Args:
        base: model file or run folder of stage 1; the frozen copy of it is the reference.
        pool: unlabelled images.
        validation: labelled cases that choose the checkpoint.
        judge: scores candidates.
        signal: what is learned from scored slates.
        folder: where the run goes, opened.
        proposals: make the slates; K = 32 by default.
        epochs: number of epochs.
        images_per_epoch: images in an epoch, drawn without repeats until all were seen.
        batch_size: images per update.
        learning_rate: of Adam.
        schedule: ``constant``, or ``cosine`` with warm-up.
        seed: of order, slates and pairs.
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.
        view: the update is made on such a view of the image, while slates, scores and the reference
            stay those of the image itself; on the image itself where None, as in the paper.
        average: decay of a moving average of the weights that is validated and saved instead of the
            policy; 0 for none, as in the paper.
        cache: where reference logits and judge predictions are kept.
        checkpoint_seconds: how often the position is saved within an epoch.

    Returns:
        The run's summary.
    """
    policy, card = load_model(base)
    reference, _ = load_model(base)
    refuse_leakage(
        {
            "the pool": pool.patients,
            "the validation set": validation.patients,
            "the base's labelled cases": card.labelled,
        }
    )
    if not len(validation):
        raise SegprefError("there is no validation image: give validation patients in the split")
    if folder.finished:
        return folder.read_summary()
    accelerator = make_accelerator(precision)
    network = policy.network.to(accelerator.device)
    reference.network.to(accelerator.device)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    policy.network, prepared = accelerator.prepare(network, optimizer)
    proposals = proposals or SlateProposals()

    reference_logits = PredictionStore(reference, "logits", cache or Cache())
    reference_logits.prepare(pool)
    if hasattr(judge, "prepare"):
        judge.prepare(pool)
    steady, state = network, None
    if average:
        mean = averaged(network, average)
        optimizer.register_step_post_hook(lambda *_: mean.update_parameters(network))
        steady, state = mean.module, nn.ModuleDict({"policy": network, "average": mean})
    validated = Segmenter(steady, policy.label_space) if average else policy
    step = PreferenceStep(policy, reference_logits, pool, judge, signal, proposals, seed, view)
    history = run_loop(
        folder=folder,
        network=steady,
        state_module=state,
        card=card,
        optimizer=prepared,
        learning_rate=(constant if schedule == "constant" else cosine)(learning_rate),
        epochs=epochs,
        batches=batch_stream(len(pool), images_per_epoch, batch_size, seed),
        step=step,
        validate=lambda: {"val_iou": mean_iou(score_model(validated, validation))},
        accelerator=accelerator,
        description="stage 2",
        checkpoint_seconds=checkpoint_seconds,
    )
    summary = {"kind": "align", "seed": seed, "pool_cases": len(pool), **curve_summary(history)}
    if accelerator.is_main_process:
        folder.write_summary(summary)
    return summary


@dataclass(frozen=True, slots=True)
class PreferenceStep:
    """One step of stage 2 up to its loss: Figure 1 from the image to the preference.

    Args:
        policy: what is tuned; its network is set to evaluation mode.
        reference: logits of the frozen start, prepared for the pool.
        pool: unlabelled images; labels reach only figures and a judge that declares them.
        judge: scores candidates, prepared for the pool.
        signal: what is learned from scored slates.
        proposals: make the slates.
        seed: of slates and pairs, together with epoch and step.
        view: changes the image that the update is made on; None for the image itself.
    """

    policy: Segmenter
    reference: PredictionStore
    pool: Dataset
    judge: Judge
    signal: Signal
    proposals: SlateProposals
    seed: int
    view: StrongAugmentation | None = None
    # The reference never changes, so its volumes are counted once.
    _reference_voxels: dict[int, Int64[np.ndarray, " structure"]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __call__(self, indices: list[int], epoch: int, number: int) -> StepResult:
        """Loss and figures of the images at these places in the pool."""
        # A judge that may not see labels is given cases that have none.
        labelled = [self.pool[i] for i in indices]
        hidden = [replace(case, label=None, raters=None) for case in labelled]
        cases = labelled if self.judge.needs_label else hidden
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        key = step_seed(self.seed, epoch, number)
        self.policy.network.eval()

        # Without a view the slates share the one pass of the update.
        with torch.set_grad_enabled(self.view is None):
            state = self.policy.forward(images)
        slates = self.proposals(self.policy, state, images, cases, key)
        scores = [self.judge.score(case, slate) for case, slate in zip(cases, slates, strict=True)]
        reference = torch.from_numpy(np.stack([self.reference[case] for case in cases]))
        logits = state.logits
        if self.view is not None:
            generator = torch.Generator().manual_seed(key)
            logits = self.policy.forward(self.view(images, generator)).logits
        batch = ScoredBatch(
            logits=logits,
            reference=reference.to(logits.device),
            slates=slates,
            scores=scores,
            truth=_truth(self.pool, indices, slates),
            # By image, so that it does not matter which process an image falls to.
            rngs=[np.random.default_rng([key, i]) for i in indices],
        )
        result = self.signal(batch)
        drift = self._volume_drift(batch, indices)
        return StepResult(result.loss, result.terms, {**result.logs, **drift})

    def _volume_drift(
        self, batch: ScoredBatch, indices: list[int]
    ) -> Mapping[str, tuple[float, float]]:
        """Predicted volume of each structure relative to the reference's, as sums over the epoch."""
        space = self.policy.label_space
        unknown = [row for row, i in enumerate(indices) if i not in self._reference_voxels]
        if unknown:
            masks = space.decode(batch.reference[unknown]).cpu().numpy()
            for row, voxels in zip(unknown, _voxels(masks, space), strict=True):
                self._reference_voxels[indices[row]] = voxels
        now = _voxels(np.stack([slate.masks[0] for slate in batch.slates]), space).sum(axis=0)
        before = np.sum([self._reference_voxels[i] for i in indices], axis=0)
        return {
            f"volume_ratio_{name}": (float(after), float(old))
            for name, after, old in zip(space.structures, now, before, strict=True)
        }


def _voxels(
    masks: UInt8[np.ndarray, "B field *space"], space: LabelSpace
) -> Int64[np.ndarray, "B structure"]:
    held = space.structure_masks(masks, field_axis=1)
    return np.asarray(np.count_nonzero(held, axis=tuple(range(2, held.ndim))))


def _truth(
    pool: Dataset, indices: Sequence[int], slates: Sequence[Slate]
) -> Callable[[int, Sequence[int]], np.ndarray] | None:
    """IoU of candidates with the ground truth: for figures, never for the update."""
    labels = [pool[i].label for i in indices]
    if any(label is None for label in labels):
        return None

    def truth(image: int, candidates: Sequence[int]) -> np.ndarray:
        label = np.asarray(labels[image])
        return slate_iou(slates[image].masks, label, pool.label_space, only=candidates)

    return truth
