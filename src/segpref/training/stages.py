"""Both stages in one call each: :func:`fit` and :func:`align`, and the trainings of other kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.foreground import check_foreground
from segpref.policies import ModelCard, load_policy
from segpref.policies.diffusion import DIFFUSION, SampleSlates, TextEncoder, is_diffusion
from segpref.policies.promptable import PromptableNetwork
from segpref.preferences import PreferenceFile, distinct, write_preferences
from segpref.process import is_first_process
from segpref.prompts import LabelPrompts
from segpref.proposals import SlateProposals
from segpref.runtime import proposal_precision
from segpref.training.anchored import records_of
from segpref.training.config import AlignConfig, FitConfig
from segpref.training.folder import RunFolder
from segpref.training.held_out import HeldOut
from segpref.training.predicted_ahead import task_of
from segpref.training.signals import Signal
from segpref.training.start import card_of_start
from segpref.training.tasks.ambiguous import Ambiguous, AmbiguousConfig
from segpref.training.tasks.diffusion import Diffusion, DiffusionConfig
from segpref.training.tasks.preference import AlignmentInputs
from segpref.training.tasks.promptable import Promptable, PromptableConfig
from segpref.training.tasks.regressor import Regressor, RegressorConfig
from segpref.training.tasks.semisupervised import SemiSupervised
from segpref.training.tasks.supervised import Supervised
from segpref.training.trainer import Task, train
from segpref.types import Case, Judge

__all__ = ["align", "fit", "fit_ambiguous", "fit_diffusion", "fit_promptable", "fit_regressor"]


def fit(
    labelled: Dataset,
    validation: Dataset,
    card: ModelCard,
    folder: RunFolder,
    config: FitConfig | None = None,
    *,
    unlabelled: Dataset | None = None,
    start: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a segmenter; the best validation checkpoint is the reference of stage 2.

    Args:
        labelled: cases to learn from; those without a label are left out.
        validation: chooses the checkpoint.
        card: what the model file will say; names the network.
        folder: where the run goes, opened.
        config: of the training.
        unlabelled: images of other patients for ``config.method``, whose labels are taken away.
        start: model file or run folder to go on from; random weights where None.
        settings: fields of :class:`~segpref.training.FitConfig`, changed in ``config``.

    Returns:
        The run's summary.

    Raises:
        SegprefError: no labels, nothing to validate on, patients on both sides, or another start.
    """
    config = _with(config or FitConfig(), settings)
    labelled = _shown(labelled, validation)
    card = card_of_start(card.with_geometry(labelled), start)
    task: Task
    if config.method is None:
        task = Supervised(labelled, validation, card, config, start)
    else:
        rest = (unlabelled or labelled.take([])).without_labels()
        task = SemiSupervised(labelled, rest, validation, card, config, start)
        folder.keep_digest(
            "unlabelled images", rest.digest(),
            "other unlabelled images than there are now: restore the files as they were",
        )  # fmt: skip
    _keep_cases(folder, labelled, validation)
    if start is not None:
        said = f"other weights than {start} has now: restore those"
        folder.keep_digest("start", load_policy(start)[0].digest(), said)
    return train(task, config, folder)


def fit_promptable(
    labelled: Dataset,
    validation: Dataset,
    network: PromptableNetwork,
    card: ModelCard,
    folder: RunFolder,
    config: PromptableConfig | None = None,
    *,
    guide: LabelPrompts | None = None,
    cache: Cache | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a promptable model; see :class:`~segpref.training.tasks.promptable.Promptable`.

    Returns:
        The run's summary.
    """
    config = _with(config or PromptableConfig(), settings)
    labelled = _shown(labelled, validation)
    card = card.with_geometry(labelled)
    task = Promptable(labelled, validation, network, card, config, guide, cache)
    _keep_cases(folder, labelled, validation)
    return train(task, config, folder)


def fit_diffusion(
    cases: Sequence[Case],
    validation: Sequence[Case],
    card: ModelCard,
    folder: RunFolder,
    config: DiffusionConfig | None = None,
    *,
    encoder: TextEncoder | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a diffusion model; see :class:`~segpref.training.tasks.diffusion.Diffusion`.

    Returns:
        The run's summary.
    """
    config = _with(config or DiffusionConfig(), settings)
    card = card if is_diffusion(card) else replace(card, policy=DIFFUSION)
    if isinstance(cases, Dataset):
        card = card.with_geometry(cases)
    task = Diffusion(cases, validation, card, config, encoder)
    _keep_cases(folder, cases, validation)
    return train(task, config, folder)


def fit_ambiguous(
    cases: Sequence[Case],
    validation: Sequence[Case],
    card: ModelCard,
    folder: RunFolder,
    config: AmbiguousConfig | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a U-Net that draws masks; see :class:`~segpref.training.tasks.ambiguous.Ambiguous`.

    Returns:
        The run's summary.
    """
    config = _with(config or AmbiguousConfig(), settings)
    if isinstance(cases, Dataset):
        card = card.with_geometry(cases)
    task = Ambiguous(cases, validation, card, config)
    _keep_cases(folder, cases, validation)
    return train(task, config, folder)


def fit_regressor(
    policy: Path | str,
    labelled: Dataset,
    validation: Dataset,
    folder: RunFolder,
    config: RegressorConfig | None = None,
    *,
    proposals: SlateProposals | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a judge that predicts IoU; see :class:`~segpref.training.tasks.regressor.Regressor`.

    Returns:
        The run's summary.
    """
    config = _with(config or RegressorConfig(), settings)
    labelled = _shown(labelled, validation)
    task = Regressor(policy, labelled, validation.labelled(), config, proposals)
    _keep_cases(folder, labelled, validation)
    return train(task, config, folder)


def align(
    base: Path | str,
    pool: Dataset,
    validation: Dataset,
    judge: Judge,
    signal: Signal,
    folder: RunFolder,
    config: AlignConfig | None = None,
    *,
    proposals: SlateProposals | SampleSlates | None = None,
    cache: Cache | None = None,
    parts: Sequence[str] | None = None,
    denoising: Any = None,
    slates: Path | None = None,
    held_out: HeldOut | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Fine-tune a policy on preferences between its own candidates.

    Args:
        base: model file or run folder of stage 1; the frozen copy of it is the reference.
        pool: unlabelled images.
        validation: labelled cases that choose the checkpoint.
        judge: scores candidates.
        signal: what is learned from scored slates.
        folder: where the run goes, opened.
        config: of candidates and training.
        proposals: make the slates; those of ``config`` where None. A diffusion model's are its samples
            (:class:`~segpref.policies.diffusion.SampleSlates`, K = 4), and so are those of a
            :class:`~segpref.policies.LatentSegmenter`.
        cache: where reference logits and judge predictions are kept.
        parts: of the network that learn; the policy's usual ones where None.
        denoising: of a diffusion model: how its denoising errors become margins.
        slates: folder of :class:`~segpref.preferences.RoundSlates` of the pool that are kept for the
            whole run, such as those that people have voted on; made there where there are none.
        held_out: preferences that are not learned from: how far the model agrees with them is shown,
            and chooses the checkpoint where ``validation`` is empty. Of models with logits only.
        settings: fields of :class:`~segpref.training.AlignConfig`, changed in ``config``.

    Returns:
        The run's summary.

    Raises:
        SegprefError: what does not fit together, before any work, or the folder was begun with another
            base, judge, images or records.
    """
    config = _with(config or AlignConfig(), settings)
    if held_out is None or len(validation):
        check_foreground(validation, validation.label_space, "validation")
    sets, kept = slates or folder.path / "rounds", folder.preferences
    if slates is not None and (config.refresh or 0) < config.epochs:
        config = replace(config, refresh=config.epochs)
    inputs = AlignmentInputs(
        base, pool, validation, judge, signal, sets, proposals, cache, parts, kept, held_out
    )
    own = {} if denoising is None else {"denoising": denoising}
    task = task_of(base)(inputs, config, **own)
    weights = f"other weights than {base} has now: restore those"
    folder.keep_digest("base", task.policy.digest(), weights)
    _keep_cases(folder, pool, validation)
    _keep_content(
        folder, judge, "judge", "another judge than there is now: restore its weights or masks"
    )
    lower = proposal_precision(config.proposal_precision, config.precision)
    other = "no" if lower == "bf16" else "bf16"
    said = (
        f"another precision of the passes that propose candidates than {lower}, which "
        f"proposal_precision {config.proposal_precision} is here: set it to {other}"
    )
    if slates is None:
        folder.keep_digest("precision of proposals", lower, said)
    for number, family in enumerate(getattr(proposals, "own_families", ())):
        said = "other masks as candidates than there are now: restore the files"
        _keep_content(folder, family, f"candidates {number}", said)
    if (records := records_of(signal)) is not None:
        said = "other preferences than there are now: restore the records as they were"
        folder.keep_digest("records", records.digest(), said)
    if held_out is not None:
        said = "other held-out preferences than there are now: restore the records as they were"
        folder.keep_digest("held out", held_out.records.digest(), said)
    summary = train(task, config, folder)
    if config.write_preferences and is_first_process():
        # Each once: of standing slates the pairs of all epochs are the same.
        write_preferences(
            kept.with_suffix(""), list(distinct(PreferenceFile(kept).read())),
            model_digest=load_policy(base)[0].digest(), cases=[case.id for case in pool], anchors={},
            model=str(base),
        )  # fmt: skip
    return summary


def _keep_cases(folder: RunFolder, images: object, validation: object) -> None:
    """Note which files a run sees: half of it on some images and half on others would be nobody's."""
    for name, cases in (("images", images), ("validation images", validation)):
        if isinstance(cases, Dataset):
            said = f"other {name} or labels than there are now: restore the files as they were"
            folder.keep_digest(name, cases.digest(), said)


def _keep_content(folder: RunFolder, source: object, name: str, otherwise: str) -> None:
    """The same of a judge or a family of candidates that can tell what it was made from."""
    if (digest := getattr(source, "digest", None)) is not None:
        folder.keep_digest(name, digest(), f"{otherwise} as they were")


def _shown(labelled: Dataset, validation: Dataset) -> Dataset:
    """The cases with a label, if there is something to see in theirs and in those for validation."""
    labelled = labelled.labelled()
    check_foreground(labelled, labelled.label_space, "training")
    check_foreground(validation, validation.label_space, "validation")
    return labelled


def _with(config: Any, settings: dict[str, Any]) -> Any:
    return replace(config, **settings) if settings else config
