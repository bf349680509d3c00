"""A study of votes in one call: from a model and images to a folder that people can vote on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool, joined
from segpref.collect.builder import StudyBuilder
from segpref.collect.config import CollectConfig
from segpref.collect.contents import Contents
from segpref.collect.standing import drop_cases
from segpref.collect.study import StudyFolder, StudyNote
from segpref.collect.wording import INSTRUCTIONS, QUESTIONS
from segpref.data import Cache, Reader, sweep_partial, write_series_report
from segpref.judges import NamedJudge
from segpref.policies import atomic_folder, save_model
from segpref.targets import check_outputs
from segpref.trust import read_yaml
from segpref.types import Judge, SegprefError
from segpref.workflows.collect_inputs import CollectInputs, open_collect_inputs
from segpref.workflows.collect_known import add_known_pairs
from segpref.workflows.collect_models import add_model_pairs
from segpref.workflows.collect_sets import add_candidate_pairs
from segpref.workflows.collect_slates import MakeSet, made_by_pool, made_here
from segpref.workflows.options import PoolOptions, TrainedModel
from segpref.workflows.runs import Run, chosen, text_of

__all__ = ["NewStudy", "check_new_study", "images_of_run", "init_study"]


@dataclass(frozen=True)
class NewStudy:
    """A study that was made.

    Args:
        folder: where it is.
        left_out: what was not asked about, how often, by reason.
    """

    folder: StudyFolder
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def contents(self) -> Contents:
        """What it asks."""
        return self.folder.contents()


def init_study(
    model: Path | str | Run,
    data: Reader | Path | str | None = None,
    *,
    out: Path | str = "study",
    config: CollectConfig | None = None,
    pool: Path | str | None = None,
    others: Sequence[Path] | None = None,
    judge: Judge | NamedJudge | Sequence[str] | Path | str | Run | None = None,
    tuned: Path | str | Run | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: RayPool | None = None,
    **options: Any,
) -> NewStudy:
    """Make masks of unlabelled images that people compare, packed for the page.

    The masks stand still: an alignment with these votes trains on the very set that was voted on.
    The folder appears when everything is in it: a call that was stopped leaves none.

    Args:
        model: makes the masks; in any format that ``align`` takes.
        data: folder of the dataset, or its reader; labels are read for pairs with a known answer only.
        out: folder of the study, which is made.
        config: of images, pairs and candidates.
        pool: folder of unlabelled images; the training patients new to the model where None.
        others: folders of masks that other models made of the images, as further candidates.
        judge: by whose scores the answer to a pair is guessed, so that open ones are asked; several
            count as an ensemble.
        tuned: of mode base-or-tuned: the model that ``model`` is compared with.
        settings: what the study keeps as its settings; ``config`` and ``options`` where None.
        workers: a Ray cluster whose workers prepare the images, make the masks and score them; this
            process where None.
        options: fields of :class:`~segpref.collect.CollectConfig`, ``PoolOptions`` and
            ``TrainedModel``, such as ``images=20`` or ``trust=True``.

    Raises:
        SegprefError: what does not fit together, before any work; or nothing to ask about.
    """
    out = Path(out)
    config, where, opening = chosen(
        options, config or CollectConfig(), PoolOptions(), TrainedModel()
    )
    check_new_study(out, where)
    given = {
        "model": model, "data": data, "pool": pool, "others": others, "judge": judge, "tuned": tuned,
    }  # fmt: skip
    again = partial(
        open_collect_inputs, model=Path(model), data=data, pool=pool, others=others, judge=judge,
        tuned=tuned, config=config, where=where, opening=opening, cache=Cache(where.cache),
    )  # fmt: skip
    left_out: Counter[str] = Counter()
    with ExitStack() as stack:
        make: MakeSet = made_here
        if workers is not None and workers.ray is not None:
            stack.enter_context(joined(workers.ray))
            make = partial(made_by_pool, workers, again)
        inputs = again(workers=workers)
        sweep_partial(out.absolute().parent)
        folder = stack.enter_context(atomic_folder(out))
        builder = _asked(folder, inputs, config, left_out, make)
        note = StudyNote(
            mode=config.mode,
            title=config.title,
            question=config.question or QUESTIONS[config.mode],
            instructions=INSTRUCTIONS[config.mode],
            label_space=inputs.card.label_space,
            model=str(model if not isinstance(model, Run) else model.out),
            model_digest=inputs.digest,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            votes=config.votes,
            settings=text_of(**settings) if settings else text_of(config, where, opening, **given),
        )
        StudyFolder.create(folder, note, builder.contents)
    return NewStudy(StudyFolder(out), dict(+left_out))


def _asked(
    folder: Path,
    inputs: CollectInputs,
    config: CollectConfig,
    left_out: Counter[str],
    make: MakeSet,
) -> StudyBuilder:
    """Everything that is asked, with its files in the folder."""
    if len(inputs.model.members) == 1:
        save_model(folder / "base.safetensors", inputs.policy.network, inputs.card)
    if inputs.split is not None:
        inputs.split.save(folder / "split.json")
    write_series_report(inputs.reader, folder)
    builder = StudyBuilder(folder, inputs.card, config.mode, config.votes)
    if config.mode == "base-or-tuned":
        add_model_pairs(inputs, builder, config, left_out)
    else:
        add_candidate_pairs(inputs, builder, config, left_out, make)
    _check_asked(builder, left_out)
    asked = {item.case for item in builder.items}
    for name in ("set", "choose"):
        drop_cases(folder / name, lambda case: case not in asked)
    add_known_pairs(inputs, builder, config, left_out)
    return builder


def images_of_run(run: Path) -> tuple[Path | None, Path | None]:
    """Data and pool of an alignment, as its run folder keeps them.

    Raises:
        SegprefError: it is no run folder, or keeps neither.
    """
    file = run / "config.yaml"
    kept = read_yaml(file) if file.is_file() else None
    found = [kept.get(name) if isinstance(kept, dict) else None for name in ("data", "pool")]
    data, pool = (Path(one) if isinstance(one, str) else None for one in found)
    if data is None and pool is None:
        raise SegprefError(
            f"{file} does not say of which images the run was: give --data or --pool"
        )
    return data, pool


def check_new_study(out: Path, where: PoolOptions) -> None:
    """Refuse a folder that holds anything, before anything is opened.

    Args:
        out: of the study that is to be made.
        where: the cache.

    Raises:
        SegprefError: it can't be made, or is not empty.
    """
    check_outputs(folders=[out, where.cache])
    if (out / "study.json").exists():
        raise SegprefError(
            f"{out} holds a study already, which people may have voted on: choose another --out"
        )
    there = sorted(one.name for one in out.iterdir()) if out.is_dir() else []
    if there:
        raise SegprefError(
            f"{out} holds something else than a study, such as {there[0]}: choose an empty folder as "
            "--out"
        )


def _check_asked(builder: StudyBuilder, left_out: Mapping[str, int]) -> None:
    if not builder.pairs:
        why = "; ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise SegprefError(
            f"there is nothing to ask about ({why or 'no images'}): give more images, families of "
            "candidates that differ more, or a lower --least_voxels or higher --most_dice"
        )
