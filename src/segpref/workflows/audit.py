"""What a judge and its slates are worth, in one call."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool, joined
from segpref.data import Cache, Reader
from segpref.data.cache import write_atomically
from segpref.judges import NamedJudge
from segpref.preferences import StandingJudge, TopVsRandom
from segpref.proposals import Families
from segpref.studies.audit_report import audit_page
from segpref.studies.auditing import Audit, audit_standing
from segpref.studies.auditing import audit as measure
from segpref.targets import check_outputs
from segpref.types import Judge, Miner, SegprefError
from segpref.workflows.audit_slates import open_audit, pool_slates
from segpref.workflows.options import DataOptions, TrainedModel
from segpref.workflows.runs import Run, chosen, text_of

__all__ = ["audit"]


def audit(
    model: Path | str | Run | None = None,
    data: Reader | Path | str | None = None,
    *,
    judge: Judge | NamedJudge | Sequence[str] | Path | str | Run | None = None,
    votes: Path | str | Sequence[Path | str] | None = None,
    database: str | None = None,
    part: str = "validation",
    miner: Miner | None = None,
    candidates: int = 32,
    families: Families = "auto",
    others: Sequence[Path] | None = None,
    seed: int = 0,
    out: Path | None = None,
    report: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Audit:
    """Measure the judge and the slates on labelled cases, before anything is trained.

    What people said is measured on the masks that they voted on, of the images that have a label: each
    group of masks that were compared about one structure is a slate, with the model's own mask as the
    anchor.

    Args:
        model: as in :func:`~segpref.align`.
        data: folder of the dataset, or its reader.
        judge: as in :func:`~segpref.align`.
        votes: in the place of a judge, as in :func:`~segpref.align`; the same as a
            :class:`~segpref.collect.VotesJudge`.
        database: where the votes are, if not in the study's folder.
        part: on whom to measure.
        miner: whose pairs PairFlip is about; Top-vs-Random where None.
        candidates: number K of masks in a slate.
        families: what makes the candidates, or ``auto``, ``lean`` or ``paper``; see
            :func:`segpref.proposals.families_of`.
        others: folders of masks that other models made of the images.
        seed: random seed of slates and pairs.
        out: JSON file for the figures.
        report: HTML page of the figures.
        settings: what ``out`` keeps as its settings.
        options: fields of :class:`DataOptions`, :class:`TrainedModel` and :class:`RayPool`, whose
            workers prepare the images and make the slates if it has an address.

    Raises:
        SegprefError: what does not fit together, before any work.
    """
    where, opening, pool = chosen(options, DataOptions(), TrainedModel(), RayPool())
    read = [model, data, judge, votes, where.split, *(others or ())]
    check_outputs(files=[out, report], folders=[where.cache], read=read)
    if data is None or (judge is None) == (votes is None):
        raise SegprefError("an audit needs --data, and --judge or --votes: give one of these two")
    if votes is not None or isinstance(judge, StandingJudge):
        # Votes need a database, which other judges do not.
        from segpref.workflows.votes_audit import open_voted

        if pool.ray is not None:
            raise SegprefError("what people saw is measured in this process: leave --ray out")
        if part != "validation" or candidates != 32 or families != "auto" or others is not None:
            raise SegprefError(
                "votes are measured on the images and masks that people saw: leave part, candidates, "
                "families and others out"
            )
        voted, dataset = open_voted(
            judge if votes is None else votes,
            model,
            data,
            database,
            where,
            opening,
            Cache(where.cache),
        )
        result = audit_standing(voted, dataset, miner or TopVsRandom(), seed)
    else:
        if judge is None or model is None or database is not None:
            raise SegprefError("a judge needs --model, and no --database: give it, or --votes")
        again = partial(
            open_audit, Path(model), data, judge, where, opening, part, candidates, families, others
        )
        with nullcontext() if pool.ray is None else joined(pool.ray):
            inputs = again(workers=pool)
            result = measure(
                inputs.policy,
                inputs.cases,
                inputs.judge,
                miner or TopVsRandom(),
                inputs.proposals,
                seed,
                slates=None if pool.ray is None else pool_slates(pool, again, inputs, seed),
            )
            result = replace(result, unused=inputs.unused)
    if out is not None:
        content = {"settings": settings or text_of(where, opening), **result.as_dict()}
        write_atomically(out, json.dumps(content, indent=1, default=str).encode())
    if report is not None:
        # The page's template is loaded only where there is a page.
        from segpref.report import write_page

        write_page(report, audit_page(result, _lead(model, data)))
    return result


def _lead(model: object, data: object) -> str:
    named = [Path(one).name for one in (model, data) if isinstance(one, str | os.PathLike)]
    return (
        "Measured with labels, before anything is trained: " + " on ".join(named) if named else ""
    )
