"""Stage 1 of a diffusion model: AmbiSeg from the masks of several raters (TDG-DiffDPO, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segpref.data.prompts import draw_prompt, prompts_of
from segpref.data.splits import refuse_leakage
from segpref.inference.samples import rated_masks, sample_cases, score_samples
from segpref.policies import ModelCard
from segpref.policies.diffusion import DIFFUSION, AmbiSeg, Sampler, TextEncoder, draw, signed
from segpref.runtime import Runtime
from segpref.seeds import derive_seed
from segpref.training.folder import RunFolder
from segpref.training.loop import (
    StepResult,
    batch_stream,
    run_loop,
)
from segpref.types import Case, SegprefError

__all__ = ["fit_diffusion", "linear", "sample_figures", "warm_average"]


def fit_diffusion(
    cases: Sequence[Case],
    validation: Sequence[Case],
    card: ModelCard,
    folder: RunFolder,
    *,
    encoder: TextEncoder | None = None,
    epochs: int = 50,
    images_per_epoch: int | None = 32000,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    weight_decay: float = 1e-2,
    kl_weight: float = 1e-3,
    average: float = 0.9999,
    augment: bool = False,
    text_dropout: float = 0.0,
    validation_samples: int = 8,
    validation_sampler: Sampler | None = None,
    seed: int = 0,
    precision: str = "no",
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Train a denoiser; the moving average of its weights is what is validated and saved.

    Eq. 5, ``L = L_mse + lambda L_kl``: at every step one rater of the image is drawn (an empty mask
    among them), independently of him one prompt, a time step and noise. The error is averaged over
    pixels, the divergence summed over the latent's axes. AdamW, learning rate falling linearly to 0.
    As in the paper 50 epochs of 32,000 images are 50,000 steps of 32.

    The best checkpoint is the one with the highest ``val_iou``, which here is the IoU of samples and
    raters matched one to one: unlike the mean over pairs it does not reward a model that says the same
    every time. ``val_ged`` and the other measures stand beside it.

    Args:
        cases: prepared 2D cases with raters' masks, or with labels.
        validation: cases that choose the checkpoint, of other patients.
        card: what the model file will say; names the network (an ``AmbiSegNetwork``).
        folder: where the run goes, opened.
        encoder: the text encoder, if it is loaded already; by the network's ``text_encoder`` if None.
        epochs: number of epochs.
        images_per_epoch: images in an epoch, drawn without repeats until all were seen.
        batch_size: images per update.
        learning_rate: at the beginning.
        weight_decay: of AdamW.
        kl_weight: lambda.
        average: highest decay of the moving average of weights; 0 for none.
        augment: flip and turn images and masks by right angles (needs square images).
        text_dropout: share of images whose text is left out, drawn anew at every step, so that the
            model can be asked without a text; 0 in the paper, where every image has one.
        validation_samples: masks that are drawn of every validation case.
        validation_sampler: draws them; 10 steps of DPM-Solver++ where None.
        seed: of weights, order, raters, prompts and noise.
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.
        checkpoint_seconds: how often the position is saved (seconds).

    Returns:
        The run's summary.

    Raises:
        SegprefError: no cases, patients on both sides, or ``text_dropout`` out of range.
    """
    if not 0 <= text_dropout < 1:
        raise SegprefError(
            f"text_dropout is a share of images, from 0 to below 1, not {text_dropout:g}: correct it"
        )
    if not len(cases) or not len(validation):
        raise SegprefError("there is no case to train on or to validate: check the split")
    refuse_leakage(
        {
            "the training cases": sorted({case.patient for case in cases}),
            "the validation set": sorted({case.patient for case in validation}),
        }
    )
    if folder.finished:
        return folder.read_summary()
    card = replace(card, policy=DIFFUSION)
    runtime = Runtime(precision)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = card.network.build().to(runtime.device)
    policy = AmbiSeg(network, card.label_space, encoder)
    if policy.encoder is not None:
        policy.encoder.prepare(text for case in (*cases, *validation) for text in prompts_of(case))
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
    wrapped, prepared = runtime.learning(network, optimizer)
    steady, state = network, None
    if average:
        mean = warm_average(network, average)
        optimizer.register_step_post_hook(lambda *_: mean.update_parameters(network))
        steady, state = mean.module, nn.ModuleDict({"network": network, "average": mean})
    validated = AmbiSeg(steady, card.label_space, policy.encoder)

    def step(indices: list[int], epoch: int, number: int) -> StepResult:
        key = derive_seed(seed, epoch, number)
        # By image, so that it does not matter which process an image falls to.
        rngs = [np.random.default_rng([key, i]) for i in indices]
        images, masks, texts = _drawn([cases[i] for i in indices], rngs, augment)
        drawn = draw(rngs, masks.shape[1:], policy.process.timesteps, policy.latent)
        # Last of all, so that the same seed draws the same masks and noise whatever the share.
        texts = [
            None if rng.random() < text_dropout else text
            for rng, text in zip(rngs, texts, strict=True)
        ]
        drawn, clean = drawn.to(policy.device), signed(masks.to(policy.device))
        wrapped.train()
        noisy = policy.process.noised(clean, drawn.noise, drawn.time)
        prediction, divergence = wrapped(
            images.to(policy.device), policy.words(texts), noisy, drawn.time, drawn.unit, clean
        )
        target = policy.process.target(clean, drawn.noise, drawn.time)
        error = ((prediction.float() - target) ** 2).flatten(1).mean(dim=1)
        loss = (error + kl_weight * divergence.float()).sum()
        count = float(len(indices))
        logs = {
            "train_loss": (float(loss.detach()), count),
            "train_mse": (float(error.detach().sum()), count),
            "train_kl": (float(divergence.detach().sum()), count),
        }
        return StepResult(loss, len(indices), logs)

    history = run_loop(
        folder=folder,
        network=steady,
        state_module=state,
        card=card,
        optimizer=prepared,
        learning_rate=linear(learning_rate),
        epochs=epochs,
        batches=batch_stream(len(cases), images_per_epoch, batch_size, seed),
        step=step,
        validate=lambda: sample_figures(
            validated, validation, validation_samples, validation_sampler, seed
        ),
        runtime=runtime,
        description="diffusion stage 1",
        checkpoint_seconds=checkpoint_seconds,
    )
    curve = np.array([row["val_iou"] for row in history[1:]])
    summary = {
        "kind": "fit-diffusion",
        "seed": seed,
        "cases": len(cases),
        "labelled_patients": sorted({case.patient for case in cases}),
        "best_epoch": int(curve.argmax()) + 1,
        "val_iou": float(curve.max()),
        "val_ged": float(history[int(curve.argmax()) + 1]["val_ged"]),
    }
    if runtime.first:
        folder.write_summary(summary)
    return summary


def sample_figures(
    model: AmbiSeg,
    cases: Sequence[Case],
    count: int = 8,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> Mapping[str, float]:
    """What validation says of a diffusion model.

    ``val_iou``, by which checkpoints are chosen, is the IoU of samples and raters matched one to one.

    Args:
        model: its network is set to evaluation mode.
        cases: with raters' masks.
        count: samples of every case.
        sampler: draws them; 10 steps of DPM-Solver++ where None.
        seed: of the samples.
    """
    model.network.eval()
    masks = sample_cases(model, cases, count, sampler or Sampler(steps=10), seed)
    scores = dict(score_samples(masks, cases).mean())
    return {
        "val_iou": scores.pop("matched_iou"),
        **{f"val_{name}": value for name, value in scores.items()},
    }


def linear(rate: float) -> Callable[[float], float]:
    """From the rate at the beginning straight down to 0."""
    return lambda progress: rate * (1 - progress)


def warm_average(network: nn.Module, decay: float) -> AveragedModel:
    """A moving average of weights that begins quickly: its decay is ``min(decay, (1 + t)/(10 + t))``.

    With a decay of .9999 from the start, ten thousand steps would leave a third of the random weights
    in it. At update t it looks back over about t / 10 steps.
    """

    def average(
        old: list[Tensor] | tuple[Tensor, ...],
        new: list[Tensor] | tuple[Tensor, ...],
        updates: Tensor | int,
    ) -> None:
        t = int(updates)
        share = 1 - min(decay, (1 + t) / (10 + t))
        for mean, value in zip(old, new, strict=True):
            mean.lerp_(value, share)

    return AveragedModel(network, multi_avg_fn=average)


def _drawn(
    cases: Sequence[Case], rngs: Sequence[np.random.Generator], augment: bool
) -> tuple[Tensor, Tensor, list[str | None]]:
    """Images, one rater's mask of each, and a prompt that is drawn independently of him."""
    images, masks, texts = [], [], []
    for case, rng in zip(cases, rngs, strict=True):
        raters = rated_masks(case)
        mask = raters[int(rng.integers(len(raters)))]
        texts.append(draw_prompt(case, rng))
        image = case.image
        if augment:
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            image, mask = (_turned(array, turns, flip) for array in (image, mask))
        images.append(image)
        masks.append(mask)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), texts


def _turned(array: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    turned = np.rot90(array, turns, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned
