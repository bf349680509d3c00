"""Stage 1 in one call: from a dataset with some labels to a base, or to a judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from segpref.data import (
    Cache,
    Dataset,
    Preparation,
    Reader,
    Split,
    draw_cases,
    draw_patients,
    prepare,
)
from segpref.data.index import refuse_in_place
from segpref.data.splits import refuse_leakage, split_beside
from segpref.folder_kinds import refuse_other_kind
from segpref.locking import alone_in_out
from segpref.policies import ModelCard, NetworkSpec, PolicySpec, read_card
from segpref.policies.promptable import PARTS, Part, PromptableNetwork, promptable_card
from segpref.report.run_report import write_report
from segpref.studies.recipe import default_network
from segpref.targets import check_outputs
from segpref.training import (
    FitConfig,
    PromptableConfig,
    RunFolder,
    check_compiled,
    fit_promptable,
    is_first_process,
)
from segpref.training import fit as train
from segpref.types import SegprefError
from segpref.workflows.loading import keep_split, open_split, part_of
from segpref.workflows.options import DataOptions, Trust
from segpref.workflows.readers import reader_of
from segpref.workflows.runs import Run, chosen, text_of

__all__ = ["USUAL", "Fit", "fit"]

USUAL = Preparation(size=(256, 256))
"""How images become network input where nobody says so."""


@dataclass(frozen=True)
class Fit(Run):
    """What a training made; stands for its model wherever a path does.

    Args:
        out: the folder that was made.
        summary: its figures.
        report: its page.
        unused: images of the training patients that it did not learn from, and that a semi-supervised
            method would have; 0 of a judge.
    """

    summary: Mapping[str, Any]
    report: Path
    unused: int = 0


@alone_in_out
def fit(
    data: Reader | Path | str,
    *,
    out: Path | str = "runs/fit",
    config: FitConfig | None = None,
    part: Literal["train", "judge"] = "train",
    labelled: int | None = None,
    unit: Literal["patients", "cases"] = "patients",
    preparation: Preparation = USUAL,
    network: NetworkSpec | None = None,
    policy: PolicySpec | None = None,
    start: Path | str | Run | None = None,
    promptable: PromptableNetwork | None = None,
    prompter: dict[str, Any] | None = None,
    parts: tuple[Part, ...] = PARTS,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Fit:
    """Train a base (or a judge) from a few labelled cases.

    Args:
        data: folder of the dataset, whose layout is recognised, or its reader.
        out: run folder that is made.
        config: of the training.
        part: ``train`` for a base, ``judge`` for a judge.
        labelled: how many labelled patients or cases to use, drawn with the seed; all where None.
        unit: what ``labelled`` counts: ``patients``, or ``cases`` (slices in 2D).
        preparation: how images become network input; as in the start, where it is left out.
        network: class and arguments of a network; that of the start, or a MONAI residual U-Net, where
            None.
        policy: class of the policy that the network becomes, where it is another one than
            :class:`~segpref.Segmenter`.
        start: model file or run folder whose weights are the beginning; random ones where None.
        promptable: a promptable network in place of ``network``. It takes 2D images from 0 to 1
            (``normalise="percentile"``) and labels as independent structures (``as_multilabel``). The
            paper: 15 epochs, a learning rate of 1e-4.
        prompter: what makes its prompts (``class_path``, ``init_args``); it stands in the model file.
            The whole image as a box where None.
        parts: which of encoder, prompts and decoder of a promptable network learn.
        resume: go on with a run that was stopped.
        settings: what the run folder keeps as its settings; ``config`` and ``options`` where None.
        options: fields of :class:`~segpref.FitConfig`, :class:`DataOptions` and :class:`Trust`, such as
            ``epochs=20`` or ``split=base.split``.

    Returns:
        The run, which can be used as its model.

    Raises:
        SegprefError: what does not fit together, before any work.
    """
    out, start = Path(out), None if start is None else Path(start)
    config, where, opening = chosen(options, config or FitConfig(), DataOptions(), Trust())
    refuse_in_place(out, data)
    refuse_other_kind(out, "run")
    check_outputs(files=[out / "split.json", out / "report.html"], folders=[out, where.cache])
    folder = RunFolder(out)
    folder.check()
    ours = network or policy or start or config.method or config.dropout or config.loss
    ours = ours or config.compile
    if promptable is not None and (ours or config.augment == "photometric"):
        raise SegprefError(
            "a promptable network takes the place of --network and has no policy, start, method, "
            "dropout, loss, compile or photometric augmentation: leave those out"
        )
    before = None if start is None else read_card(start, opening.trust)
    # What equals the default was left out: options that are parsed do not tell who gave them.
    form = preparation if before is None or preparation != USUAL else before.preparation
    check_compiled(config, form, policy or PolicySpec())
    reader = reader_of(data, where, None if before is None else before.label_space)
    if reader.label_space is not None and (left := reader.label_space.unlabelled):
        raise SegprefError(
            f"the start {start} knows {', '.join(left)}, which the labels say nothing of, so that it "
            "would forget them: name their values in labels, or train from scratch"
        )
    # Nobody is validated or tested on whose labels the start has seen.
    seen = () if before is None else before.labelled
    split = open_split(reader, where.split or (start and split_beside(start)), seen=seen)
    refuse_leakage(
        {
            "the start's labelled cases": seen,
            "validation": split.validation,
            "test": split.test,
        }
    )
    store = Cache(where.cache)
    dataset = prepare(
        reader, form, store, orientation=None if before is None else before.orientation
    )
    cases = _drawn(part_of(dataset, split, part), labelled, unit, config.seed)
    validation = part_of(dataset, split, "validation")
    kept = settings or text_of(config, where, opening, data=_name(data), labelled=labelled)
    rest = _rest(dataset, split, cases)
    with folder.begun(kept, resume):
        keep_split(folder, split)
        if promptable is not None:
            space, names = dataset.label_space, reader.channels
            card = promptable_card(promptable, space, preparation, names, cases.patients, prompter)
            own = _promptable_config(config, parts)
            summary = fit_promptable(cases, validation, promptable, card, folder, own, cache=store)
        else:
            spec = network or (default_network(form.dims) if before is None else before.network)
            card = ModelCard(
                network=spec.for_data(len(reader.channels), dataset.label_space.channels),
                label_space=dataset.label_space,
                preparation=form,
                channels=reader.channels,
                labelled=cases.patients,
                policy=policy or PolicySpec(),
            )
            summary = train(cases, validation, card, folder, config, unlabelled=rest, start=start)
    # The first process of a launch writes for all.
    report = write_report(folder) if is_first_process() else out / "report.html"
    # Other networks than plain segmenters have no semi-supervised training.
    alone = part == "train" and not (config.method or promptable or policy)
    return Fit(out, summary, report, len(rest) if alone else 0)


def _drawn(cases: Dataset, count: int | None, unit: str, seed: int) -> Dataset:
    if count is None:
        return cases
    if unit == "cases":
        return draw_cases(cases, count, seed)
    return cases.of_patients(draw_patients(cases.patients, count, seed))


def _rest(dataset: Dataset, split: Split, cases: Dataset) -> Dataset:
    """Images of the training patients whose labels are not learned from."""
    return dataset.of_patients(set(split.train) - set(cases.patients))


def _promptable_config(config: FitConfig, parts: tuple[Part, ...]) -> PromptableConfig:
    """The same length, rate and seed, with the optimiser and schedule of promptable models."""
    own = ("schedule", "optimizer", "weight_decay", "augment")
    shared = {
        one.name: getattr(config, one.name)
        for one in fields(PromptableConfig)
        if hasattr(config, one.name) and one.name not in own
    }
    augment: Literal["none", "dihedral"] = "none" if config.augment == "none" else "dihedral"
    return PromptableConfig(**shared, parts=parts, augment=augment)


def _name(data: Reader | Path | str) -> str:
    return str(data) if isinstance(data, Path | str) else type(data).__name__
