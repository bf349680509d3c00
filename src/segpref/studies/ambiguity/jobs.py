"""The jobs of the study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from segpref.locking import alone_in
from segpref.report.table_files import TitledTable
from segpref.studies.ambiguity.report import write_report
from segpref.studies.ambiguity.sample_files import REFERENCE, SampleSet
from segpref.studies.ambiguity.workspace import AmbiguityWorkspace
from segpref.studies.engine import Executor, Job, named_jobs, run_jobs

__all__ = ["ambiguity_jobs", "run_ambiguity"]


def ambiguity_jobs(workspace: AmbiguityWorkspace, only: Sequence[str] = ()) -> list[Job]:
    """All jobs, each after those that it needs.

    Args:
        workspace: the study.
        only: words; just jobs with one of them in their title, and what they need.

    Raises:
        SegprefError: no job has such a title.
    """
    recipe = workspace.recipe
    found = []
    for seed in recipe.seeds:
        found += _model(workspace, "fit", REFERENCE, seed)
        for name in recipe.methods_of(None):
            found += _model(workspace, "align", name, seed)
        for name, stops in recipe.knob.items():
            found += [_drawn(workspace, SampleSet(name, seed, w)) for w in stops]
        found += [
            _drawn(workspace, SampleSet(REFERENCE, seed, described=text)) for text in recipe.control
        ]
        if seed == recipe.seeds[0]:
            found += _timed(workspace, seed)
            for name in recipe.variants:
                found += _model(workspace, "fit", name, seed)
        for name in recipe.peers:
            found += _peer(workspace, name, seed)
            for method in recipe.methods_of(name):
                found += _model(workspace, "align", method, seed)
    return named_jobs(found, only)


def run_ambiguity(
    workspace: AmbiguityWorkspace, only: Sequence[str] = (), executor: Executor | None = None
) -> tuple[list[TitledTable], dict[str, str]]:
    """Do what is not finished yet, and write the tables of what is there.

    Args:
        workspace: the study.
        only: words; see :func:`ambiguity_jobs`.
        executor: where jobs run; one after the other in this process where None.

    Returns:
        The tables, and why jobs failed, by their names.

    Raises:
        SegprefError: another process works in the folder.
    """
    jobs = ambiguity_jobs(workspace, only)
    with alone_in(workspace.out):
        try:
            failed = run_jobs(workspace.out, jobs, executor, workspace.open)
        finally:
            # What is there is worth a table, whatever stopped the rest.
            tables = write_report(workspace)
    return tables, failed


def _model(workspace: AmbiguityWorkspace, kind: str, name: str, seed: int) -> list[Job]:
    """A training, and samples of what it made."""
    run = workspace.folder(name, seed)
    work: Callable[[str, int], None] = workspace.align if kind == "align" else workspace.fit
    aligned = kind == "align"
    stage = workspace.recipe.methods[name] if aligned else workspace.stage1(name)
    training = Job(
        name=_name(workspace, name, seed),
        title=f"{kind} {name}, seed {seed}",
        outputs=(run.summary,),
        run=partial(work, name, seed),
        needs=(_name(workspace, workspace.start_of(name), seed),) if aligned else (),
        kind=kind,
        check=partial(workspace.check_training, name, seed),
        epochs=stage.epochs,
        memory={f"{kind}: batch_size": stage.batch_size},
    )
    return [training, _drawn(workspace, SampleSet(name, seed))]


def _peer(workspace: AmbiguityWorkspace, name: str, seed: int) -> list[Job]:
    """The trainings of a peer, samples, and for the first seed their time."""
    peer, first = workspace.recipe.peers[name], workspace.recipe.seeds[0]
    made = [
        Job(
            name=_name(workspace, name, seed, member),
            title=f"fit {name}, seed {seed}" + ("" if member is None else f", member {member}"),
            outputs=(workspace.folder(name, seed, member).summary,),
            run=partial(workspace.fit_peer, name, seed, member),
            kind="fit peer",
            check=partial(workspace.check_peer, name, seed, member),
            epochs=peer.epochs,
            memory={f"peers: {name}: batch_size": peer.batch_size},
        )
        for member in peer.trainings
    ]
    made.append(_drawn(workspace, SampleSet(name, seed)))
    if seed == first:
        path = workspace.timed_peer(name)
        made.append(
            Job(
                name=str(path.with_suffix("").relative_to(workspace.out)),
                title=f"speed of {name}",
                outputs=(path,),
                run=partial(workspace.time_peer, name),
                needs=_trained(workspace, SampleSet(name, seed)),
                kind="time",
                alone=True,
            )
        )
    return made


def _trained(workspace: AmbiguityWorkspace, drawing: SampleSet) -> tuple[str, ...]:
    """Names of the trainings that samples need."""
    name, seed, recipe = drawing.model, drawing.seed, workspace.recipe
    if name in recipe.peers:
        members = recipe.peers[name].trainings
        return tuple(_name(workspace, name, seed, member) for member in members)
    of_a_peer = name in recipe.methods and recipe.methods[name].of is not None
    alone = of_a_peer or name in recipe.variants
    every = [name] if alone else dict.fromkeys((REFERENCE, name))
    return tuple(_name(workspace, one, seed) for one in every)


def _drawn(workspace: AmbiguityWorkspace, drawing: SampleSet) -> Job:
    return Job(
        name=str(workspace.samples_folder(drawing).relative_to(workspace.out)),
        title=f"draw {drawing.name}",
        outputs=partial(workspace.sample_files, drawing),
        run=partial(workspace.draw, drawing),
        needs=_trained(workspace, drawing),
        kind="draw",
        check=partial(workspace.check_samples, drawing),
    )


def _timed(workspace: AmbiguityWorkspace, seed: int) -> list[Job]:
    return [
        Job(
            name=str(workspace.timed(sampler).with_suffix("").relative_to(workspace.out)),
            title=f"speed of {sampler.solver}, {sampler.steps} steps",
            outputs=(workspace.timed(sampler),),
            run=partial(workspace.time, sampler),
            needs=(_name(workspace, REFERENCE, seed),),
            kind="time",
            alone=True,
        )
        for sampler in workspace.recipe.speed
    ]


def _name(workspace: AmbiguityWorkspace, model: str, seed: int, member: int | None = None) -> str:
    return str(workspace.folder(model, seed, member).path.relative_to(workspace.out))
