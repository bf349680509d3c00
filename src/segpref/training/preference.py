"""Stage 2: a better segmenter from a judge's preferences (RN-DPO, Figure 1 and Sec. 3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.splits import refuse_leakage
from segpref.policies import ModelCard, TunablePolicy, load_policy
from segpref.policies.diffusion import AmbiSeg, SampleSlates
from segpref.proposals import SlateProposals
from segpref.runtime import Runtime
from segpref.training.augmentation import StrongAugmentation
from segpref.training.averaging import averaged
from segpref.training.curves import curve_summary
from segpref.training.denoising import Denoising, denoising_course
from segpref.training.folder import RunFolder
from segpref.training.loop import (
    Schedule,
    batch_stream,
    learning_rate_of,
    run_loop,
)
from segpref.training.signals import Signal
from segpref.training.teaching import Teaching, mask_course
from segpref.types import Judge, SegprefError, UnsureJudge

__all__ = ["align"]

log = logging.getLogger(__name__)


def align(
    base: Path | str,
    pool: Dataset,
    validation: Dataset,
    judge: Judge,
    signal: Signal,
    folder: RunFolder,
    *,
    proposals: SlateProposals | SampleSlates | None = None,
    denoising: Denoising = Denoising(),  # noqa: B008
    epochs: int = 15,
    images_per_epoch: int | None = None,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    schedule: Schedule = "constant",
    seed: int = 0,
    precision: str = "no",
    view: StrongAugmentation | None = None,
    average: float = 0.0,
    cache: Cache | None = None,
    refresh: int | None = None,
    reference: Literal["base", "round"] = "base",
    optimizer: Literal["adam", "adamw"] = "adam",
    parts: Sequence[str] | None = None,
    checkpoint_seconds: float = 30.0,
) -> dict[str, Any]:
    """Fine-tune a policy on preferences between its own candidate masks.

    As in the paper unless told otherwise: Adam, constant learning rate, no augmentation; dropout and
    normalisation statistics are frozen. Labels of the pool, where there are any, reach only figures,
    and a judge or signal that declares ``needs_label``.

    Where the model sees patches, a step is about one patch of each image: slate, scores, region and
    Omega are the patch's, and the reference sees the same patch. It is drawn anew at every step; with
    ``refresh`` a few of each image stand for a round, and its epochs take them in turn. Validation is
    by windows that slide over whole images.

    Args:
        base: model file or run folder of stage 1; the frozen copy of it is the reference.
        pool: unlabelled images.
        validation: labelled cases that choose the checkpoint.
        judge: scores candidates.
        signal: what is learned from scored slates.
        folder: where the run goes, opened.
        proposals: make the slates; K = 32 by default. Those of a diffusion model are its samples
            (:class:`~segpref.policies.diffusion.SampleSlates`, K = 4).
        denoising: of a diffusion model: how its denoising errors become margins.
        epochs: number of epochs.
        images_per_epoch: images in an epoch, drawn without repeats until all were seen.
        batch_size: images per update.
        learning_rate: of Adam.
        schedule: ``constant``, ``cosine`` with warm-up, or ``halved`` every ten epochs.
        seed: of order, slates and pairs.
        precision: ``no``, ``bf16`` or ``fp16``, as in Accelerate.
        view: the update is made on such a view of the image, while slates, scores and the reference
            stay those of the image itself; on the image itself where None, as in the paper.
        average: decay of a moving average of the weights that is validated and saved instead of the
            policy; 0 for none, as in the paper.
        cache: where reference logits and judge predictions are kept, or the samples of a diffusion
            model's reference (which are not kept where None).
        refresh: epochs after which slates and scores of the whole pool are made anew, and between which
            they stand (MAPO's rounds); at every step where None. A diffusion model's stand for the
            whole run where None, as in TDG-DiffDPO.
        reference: ``base``, or with ``refresh`` the policy at the beginning of each ``round``.
        optimizer: ``adam`` or ``adamw``.
        parts: of the network that learn, the others being frozen; the policy's usual ones where None:
            all of a segmenter, the mask decoder of a promptable model.
        checkpoint_seconds: how often the position is saved (seconds).

    Returns:
        The run's summary.
    """
    policy, card = load_policy(base)
    frozen, _ = load_policy(base)
    sets = folder.path / "rounds"
    teaching = Teaching(pool, validation, judge, signal, sets, refresh, batch_size, seed)
    _check(policy, card, teaching, proposals, view is not None, reference == "round")
    if folder.finished:
        return folder.read_summary()
    runtime = Runtime(precision)
    network = policy.network.to(runtime.device)
    frozen.network.to(runtime.device).requires_grad_(False)
    policy.learn(parts)
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.AdamW
    updater = kind(learning, learning_rate)
    policy.network, prepared = runtime.learning(network, updater)
    if hasattr(judge, "prepare"):
        judge.prepare(pool)
    steady, state, validated = network, None, policy
    if average:
        mean = averaged(network, average)
        updater.register_step_post_hook(lambda *_: mean.update_parameters(network))
        steady, state = mean.module, nn.ModuleDict({"policy": network, "average": mean})
        validated = copy(policy)
        validated.network = steady
    if isinstance(policy, AmbiSeg):
        assert isinstance(frozen, AmbiSeg)
        assert isinstance(validated, AmbiSeg)
        # In another precision than the policy's, it would have a margin before anything is learned.
        frozen.network = runtime.frozen(frozen.network)
        samples = proposals if isinstance(proposals, SampleSlates) else SampleSlates()
        course = denoising_course(
            policy, frozen, validated, teaching, samples, denoising, epochs, cache
        )
    else:
        assert not isinstance(frozen, AmbiSeg)
        assert not isinstance(validated, AmbiSeg)
        edits = proposals if isinstance(proposals, SlateProposals) else SlateProposals()
        edits.prepare(pool)
        course = mask_course(
            policy,
            frozen,
            validated,
            teaching,
            edits,
            card,
            reference_moves=reference == "round",
            view=view,
            cache=cache or Cache(),
        )
    history = run_loop(
        folder=folder,
        network=steady,
        state_module=state,
        card=card,
        optimizer=prepared,
        learning_rate=learning_rate_of(schedule, learning_rate, epochs),
        epochs=epochs,
        batches=batch_stream(len(pool), images_per_epoch, batch_size, seed),
        step=course.step,
        validate=course.figures,
        runtime=runtime,
        description="stage 2",
        checkpoint_seconds=checkpoint_seconds,
        rounds=refresh,
    )
    _tell_of_silence(history)
    summary = {"kind": "align", "seed": seed, "pool_cases": len(pool), **curve_summary(history)}
    if runtime.first:
        folder.write_summary(summary)
    return summary


def _tell_of_silence(history: Sequence[Mapping[str, float]]) -> None:
    shares = [row["images_with_pair"] for row in history[1:] if "images_with_pair" in row]
    if shares and not any(shares):
        log.warning(
            "No image gave a pair in the whole run, so nothing was learned from the judge: it found no "
            "candidate better than another, or the miner's threshold is above all its differences. "
            "segpref audit shows what a judge tells apart."
        )


def _check(
    policy: TunablePolicy | AmbiSeg,
    card: ModelCard,
    teaching: Teaching,
    proposals: SlateProposals | SampleSlates | None,
    viewed: bool,
    reference_moves: bool,
) -> None:
    """Refuse what does not fit together, before any work."""
    if reference_moves and teaching.refresh is None:
        raise SegprefError("a reference per round needs rounds: give refresh, in epochs")
    diffusion = isinstance(policy, AmbiSeg)
    if diffusion and (viewed or reference_moves or isinstance(proposals, SlateProposals)):
        raise SegprefError(
            "a diffusion model is aligned on its own samples, without a view and against its base: "
            "leave out view and reference, and give SampleSlates as proposals"
        )
    if not diffusion and isinstance(proposals, SampleSlates):
        raise SegprefError(
            "only a diffusion model's candidates are samples, and the base is none: give SlateProposals"
        )
    pool, judge = teaching.pool, teaching.judge
    if teaching.needs_label and not len(pool.labelled()):
        raise SegprefError(
            "the supervised part of the loss needs labels, and the pool has none: give a labelled "
            "pool, or a method without it"
        )
    if teaching.unsure and not isinstance(judge, UnsureJudge):
        raise SegprefError(
            f"the objective asks how unsure the judge is, which {type(judge).__name__} does not tell: "
            "take an ensemble, or set the objective's temperature"
        )
    # Who learns or judges by labels may do so on the cases that the base learned from.
    shared = pool.patients if teaching.needs_label or judge.needs_label else ()
    refuse_leakage(
        {
            "the pool": pool.patients,
            "the validation set": teaching.validation.patients,
            "the base's labelled cases": [name for name in card.labelled if name not in shared],
        }
    )
    if not len(teaching.validation):
        raise SegprefError("there is no validation image: give validation patients in the split")
