"""Stage 2 in one call: from a model, a dataset and a judge to a tuned model of the same format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpref.cluster import RayPool, joined
from segpref.data import Cache, Dataset, Reader, prepare, write_series_report
from segpref.data.cache import sweep_partial
from segpref.data.index import refuse_in_place
from segpref.data.splits import refuse_leakage
from segpref.folder_kinds import refuse_other_kind
from segpref.inference.windows import whole_images
from segpref.judges import NamedJudge
from segpref.locking import alone_in_out
from segpref.policies import load_model, load_segmenter, read_card, save_model
from segpref.policies.model_formats import OpenModel
from segpref.preferences import TopVsRandom
from segpref.proposals import Families
from segpref.report.comparison import Comparison
from segpref.report.subgroups import read_groups
from segpref.studies.calibration import measured_flip_rates
from segpref.studies.examples import alignment_report
from segpref.studies.slates import patch_draw
from segpref.studies.verdict import measured_verdict
from segpref.targets import check_outputs
from segpref.training import AlignConfig, RunFolder, check_compiled, is_first_process
from segpref.training import align as train
from segpref.training.methods import Method, method_of, with_flip_rates
from segpref.types import Judge, SegprefError
from segpref.workflows.align_ahead import LearnedFrom, check_workers, predict_ahead
from segpref.workflows.candidates import report_dropout_diversity
from segpref.workflows.inputs import Inputs, open_inputs
from segpref.workflows.loading import check_masks, keep_split, part_of
from segpref.workflows.options import PoolOptions, TrainedModel
from segpref.workflows.runs import Run, chosen, text_of

if TYPE_CHECKING:
    from segpref.studies.votes import VoteInputs

__all__ = ["Alignment", "align"]


@dataclass(frozen=True)
class Alignment(Run):
    """The result of an alignment; can be used as its model wherever a path can.

    Args:
        out: the folder that was made.
        runs: run folders by member: one, or one for each fold of an nnU-Net.
        tuned: the model in the format that it came in; None where that is segpref's own, or where it
            was not written because nothing shows that it is better than the base.
        verdicts: how every run's model compares with its base on validation.
        kept_back: whether ``tuned`` was not written because no model is better.
        config: of the alignment.
    """

    runs: Mapping[str, RunFolder]
    tuned: Path | None
    config: AlignConfig
    verdicts: Mapping[str, Comparison] = field(default_factory=dict)
    kept_back: bool = False

    @property
    def summaries(self) -> list[dict[str, Any]]:
        """The figures of every run."""
        return [run.read_summary() for run in self.runs.values()]

    @property
    def reports(self) -> list[Path]:
        """The pages of every run."""
        return [run.path / "report.html" for run in self.runs.values()]


@alone_in_out
def align(
    model: Path | str | Run | None = None,
    data: Reader | Path | str | None = None,
    *,
    judge: Judge | NamedJudge | Sequence[str] | Path | str | Run | None = None,
    votes: Path | str | Sequence[Path | str] | None = None,
    database: str | None = None,
    out: Path | str = "runs/align",
    config: AlignConfig | None = None,
    pool: Path | str | None = None,
    others: Sequence[Path] | None = None,
    resume: bool = False,
    keep_tuned: bool = False,
    groups: Path | str | None = None,
    by: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: RayPool | None = None,
    **options: Any,
) -> Alignment:
    """Make a segmenter better from the preferences of a judge or of people on unlabelled images.

    A model of another format is written back in that format, into the folder ``tuned`` of the run,
    where it is better than the base on validation (:class:`~segpref.report.comparison.Comparison`); of
    an nnU-Net folder with several folds, each is tuned in a run folder of its own, and those that are
    not better keep the base's weights.

    Args:
        model: the base; segpref's file or run folder, a trained nnU-Net folder (or one fold of it), a
            MONAI bundle, a ``.yaml`` that describes plain weights, or LiteMedSAM's checkpoint; a frozen
            copy is the reference. With votes it may be left out for the copy that the study keeps.
        data: folder of the dataset, or its reader; labels are read for validation only, never for the
            update. With votes on a ``pool`` it may be left out.
        judge: a model as above; a folder of masks that another program made of the images, named as
            predict names them; several of these, of which the mean counts; ``oracle``, or
            ``oracle-dice`` by which MAPO ranks (need labels, for studies only); or an object.
        votes: in the place of a judge, the folder of a study in which people voted, or several of one
            model. Their masks are what is learned from, and where there are no validation labels, votes
            that are not learned from choose the checkpoint.
        database: where the votes are, if not in the study's folder.
        out: run folder that is made.
        config: of candidates, method and training.
        pool: folder of unlabelled images; the training patients without the base's where None.
        others: folders of masks that other models made of the images, named as predict names them:
            candidates, too, whole and structure by structure.
        resume: go on with a run that was stopped.
        keep_tuned: write ``tuned`` whether or not it is better.
        groups: CSV or Parquet table with a column ``patient`` and others: report and model card then
            have the scores of each group of validation patients.
        by: which of its columns; all where None.
        settings: what the run folder keeps as its settings; ``config`` and ``options`` where None.
        workers: a Ray cluster whose workers prepare the images and predict, before the training begins,
            what it will ask of the base and of the judge; not with votes, nor in a launch of several
            processes. This process where None.
        options: fields of :class:`~segpref.AlignConfig`, :class:`PoolOptions` and
            :class:`TrainedModel`, such as ``method="calibrated"`` or ``trust=True``.

    Returns:
        The run, which can be used as its model.

    Raises:
        SegprefError: what does not fit together, before any work.
    """
    out = Path(out)
    config, where, opening = chosen(options, config or AlignConfig(), PoolOptions(), TrainedModel())
    check_compiled(config)
    refuse_in_place(out, data)
    refuse_other_kind(out, "run")
    check_outputs(
        files=[out / "split.json", out / "report.html"], folders=[out, out / "tuned", where.cache]
    )
    RunFolder(out).check()
    if by is not None and groups is None:
        raise SegprefError("by names columns of a table: give the table as groups, or leave by out")
    table = None if groups is None else read_groups(Path(groups).expanduser(), by)
    store = Cache(where.cache)
    given: dict[str, Any] = {"model": model, "judge": judge, "pool": pool, "others": others}
    if votes is not None:
        given |= {"votes": [votes] if isinstance(votes, Path | str) else list(votes)}
    check_workers(workers, votes is not None)
    asked = _Asked(given, data, database, config, where, opening, store, out)
    with nullcontext() if workers is None or workers.ray is None else joined(workers.ray):
        source = _source(asked, workers)
    base_path, inputs, config = source.base, source.inputs, source.config
    check_compiled(config, inputs.card.preparation, inputs.card.policy)
    opened, validation, making = inputs.model, source.validation, source.families
    records = None if source.votes is None else source.votes.records
    method = method_of(config, inputs.card.label_space, inputs.judge, making, records)
    if table is not None and groups is not None:
        table.check(validation.patients, Path(groups))
    several = len(opened.members) > 1
    runs = {name: RunFolder(out / name if several else out) for name in opened.members}
    kept = settings or text_of(config, where, opening, **{**given, "model": base_path})
    for name, run in runs.items():
        with run.begun(kept, resume):
            _tune(source, name, run, config, store, asked, workers)
    tuned, verdicts = None, {}
    foreign = opened.write is not None
    if is_first_process():
        bases = {name: _converted(run) if foreign else base_path for name, run in runs.items()}
        verdicts = {
            name: measured_verdict(run, bases[name], validation)
            for name, run in runs.items()
            if len(validation)
        }
        better = {name for name, one in verdicts.items() if one.word == "better"}
        kept_back = runs.keys() - better
        tuned = _written_back(opened, runs, out, set() if keep_tuned else kept_back)
        for name, run in runs.items():
            if table is not None:
                table.save(run.groups, validation.patients)
            base = bases[name]
            judging = method.judge if source.votes is None else None
            alignment_report(run, base, validation, judging, method.proposals, config.seed)
    unwritten = foreign and tuned is None and is_first_process()
    return Alignment(out, runs, tuned, config, verdicts, unwritten)


@dataclass(frozen=True)
class _Source:
    """What is learned from: a model, its images, and a judge or votes."""

    base: Path
    inputs: Inputs
    config: AlignConfig
    shown: Dataset
    validation: Dataset
    families: Families = "auto"
    votes: VoteInputs | None = None


@dataclass(frozen=True)
class _Asked:
    """What :func:`align` was given."""

    given: Mapping[str, Any]
    data: Any
    database: str | None
    config: AlignConfig
    where: PoolOptions
    opening: TrainedModel
    store: Cache
    out: Path


def _source(asked: _Asked, workers: RayPool | None = None) -> _Source:
    """Everything that is learned from, opened and checked; workers may prepare the images."""
    given, data, config, store = asked.given, asked.data, asked.config, asked.store
    model, judge, pool, others = (given[name] for name in ("model", "judge", "pool", "others"))
    if (judge is None) == ("votes" not in given):
        raise SegprefError("preferences come from --judge or from --votes: give one of the two")
    if "votes" in given:
        if others:
            raise SegprefError(
                "others has no effect with votes, whose masks are in the study: leave it out"
            )
        return _of_votes(asked)
    if model is None or data is None or asked.database is not None:
        raise SegprefError(
            "a judge needs --model and --data, and no --database: give these two, or --votes"
        )
    base_path = Path(model)
    inputs = open_inputs(
        base_path, data, judge, asked.where, asked.opening, store, pool, workers, asked.where.series
    )
    card, parts = inputs.card, inputs.split
    validation = part_of(inputs.dataset, parts, "validation")
    if inputs.pool is not None:
        space, axes = card.label_space, card.orientation
        shown = prepare(inputs.pool, card.preparation, store, space, axes, workers)
    elif config.images == "labelled":
        shown = inputs.dataset.of_patients(set(parts.train) & set(card.labelled))
    else:
        # Nobody whose labels the base has seen, or the judge.
        shown = inputs.dataset.of_patients(set(parts.train) - inputs.seen)
    named: Any = config.families  # jsonargparse takes a list of classes by name for callables
    making = inputs.families(named, others, config.candidates, store)
    check_masks(inputs.judge, making, shown)
    refuse_leakage(
        {
            "the judge's labelled cases": inputs.judged,
            "validation": parts.validation,
            "test": parts.test,
        }
    )
    # What excludes each other is refused before any work.
    method_of(config, card.label_space, inputs.judge, making)
    if config.needs_flips:
        # Without their masks it would be measured how other pairs are flipped.
        check_masks(inputs.judge, making, validation)
    return _Source(base_path, inputs, config, shown, validation, making)


def _of_votes(asked: _Asked) -> _Source:
    # Votes need a database, which the other commands do not.
    from segpref.collect import read_studies
    from segpref.studies.votes import configured, open_votes
    from segpref.workflows.votes import open_vote_inputs, voted_images

    given, store = asked.given, asked.store
    votes = read_studies([Path(one) for one in given["votes"]], asked.database)
    config = configured(asked.config, votes)
    model = None if given["model"] is None else Path(given["model"])
    base, inputs = open_vote_inputs(
        votes,
        model,
        asked.data,
        asked.where,
        asked.opening,
        store,
        given["pool"],
        asked.where.series,
    )
    validation = part_of(inputs.dataset, inputs.split, "validation").labelled()
    patches = inputs.card.preparation.patch is not None
    sources = voted_images(inputs, store)
    told = open_votes(votes, sources, config, validation, asked.out / "votes", patches=patches)
    voted = {*told.pool.patients, *(told.held_out.patients if told.held_out else ())}
    refuse_leakage(
        {"votes": sorted(voted), "validation": inputs.split.validation, "test": inputs.split.test}
    )
    return _Source(base, inputs, config, told.pool, validation, votes=told)


def _learned_from(asked: _Asked) -> LearnedFrom:
    """What is learned from, in a worker."""
    source = _source(asked)
    return LearnedFrom(source.shown, source.validation, source.inputs.judge)


def _tune(
    source: _Source,
    name: str,
    run: RunFolder,
    config: AlignConfig,
    store: Cache,
    asked: _Asked,
    workers: RayPool | None,
) -> None:
    """One member in its run folder, which is opened."""
    inputs, families, votes = source.inputs, source.families, source.votes
    keep_split(run, inputs.split)
    if inputs.pool is not None and is_first_process():
        write_series_report(inputs.pool, run.path)
    opened = inputs.model
    base = opened.path
    if opened.write is not None:
        # Foreign models are converted at the door.
        base = _converted(run)
        save_model(base, opened.members[name]().network, opened.card)
    space, validation = opened.card.label_space, source.validation
    if votes is not None:
        from segpref.studies.votes import align_to_votes

        align_to_votes(base, votes, validation, run, store)
        return
    if workers is not None and workers.ray is not None and not run.finished:
        learned = LearnedFrom(source.shown, validation, inputs.judge)
        again = partial(_learned_from, asked)
        predict_ahead(workers, again, learned, base, config.resolved(), store)
    if not run.finished:
        report_dropout_diversity(base, source.shown, source.families, config.seed, store)
    if config.needs_flips:
        method = method_of(config, space, inputs.judge, families)
        config = _calibrated(config, method, base, validation, run.audit, store)
    method = method_of(config, space, inputs.judge, families)
    train(
        base, source.shown, validation, method.judge, method.signal, run, config.resolved(),
        proposals=method.proposals, cache=store,
    )  # fmt: skip


def _converted(run: RunFolder) -> Path:
    return run.path / "base.safetensors"


def _written_back(
    opened: OpenModel, runs: Mapping[str, RunFolder], out: Path, kept_back: Set[str]
) -> Path | None:
    """The tuned model in the format that it came in, before reports, which can be made again.

    Members that are kept back have the base's weights; where all are, nothing is written.
    """
    if opened.write is None:
        return None
    if there := next((out / "tuned").glob("[!.]*"), None):
        return there
    sweep_partial(out)
    if kept_back >= runs.keys():
        return None
    files = {name: _converted(run) if name in kept_back else run.best for name, run in runs.items()}
    networks = {name: load_model(file)[0].network for name, file in files.items()}
    return opened.write(networks, out / "tuned")


def _calibrated(
    config: AlignConfig, method: Method, base: Path, validation: Dataset, file: Path, cache: Cache
) -> AlignConfig:
    """The configuration with flip rates of slates like those of the training."""
    policy, card = load_segmenter(base), read_card(base)
    patches = patch_draw(policy, card, validation, cache)
    asked = whole_images([policy], card.preparation) if patches is None else policy
    miner = config.miner or TopVsRandom()
    flips = measured_flip_rates(
        file, asked, validation, method.judge, miner, method.proposals, config.seed, patches
    )
    return with_flip_rates(config, flips)
