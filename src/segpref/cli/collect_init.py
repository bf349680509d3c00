"""`segpref collect init`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from segpref.cluster import RayPool
from segpref.collect.config import CollectConfig
from segpref.judges import NamedJudge
from segpref.progress import console
from segpref.types import SegprefError
from segpref.workflows.collect import NewStudy, check_new_study, images_of_run, init_study
from segpref.workflows.options import PoolOptions, TrainedModel

__all__ = ["EXAMPLES", "collect_init"]

EXAMPLES = """\
  segpref collect init --model runs/base --data DATA --out study
  segpref collect init --model runs/base --data DATA --judge runs/judge --images 100 --out study
  segpref collect init --from runs/voted --seed 1 --out second
  segpref collect init --model runs/base --data DATA --mode base-or-tuned --tuned runs/voted --out blind
  segpref collect init --model runs/base --pool pool.csv --out study --ray auto
"""


def collect_init(
    out: Path,
    settings: dict[str, Any],
    config: CollectConfig,
    where: PoolOptions,
    opening: TrainedModel,
    workers: RayPool,
    model: Path | None = None,
    from_: Path | None = None,
    data: Path | None = None,
    pool: Path | None = None,
    others: list[Path] | None = None,
    judge: NamedJudge | list[str] | str | None = None,
    tuned: Path | None = None,
) -> None:
    """Make masks of unlabelled images for people to compare on the page, and to train on.

    Args:
        out: folder of the study, which is made.
        settings: the resolved options, kept in the study.
        config: of images, pairs and candidates.
        where: data, split and cache.
        opening: what may be opened.
        workers: prepare the images, make the masks and score them.
        model: makes the masks: model file or run folder of segpref, MONAI bundle, or .yaml that
            describes plain weights.
        from_: in place of model, for the next round: the run folder of an alignment, whose tuned model
            makes the masks, of the images of its data or pool if no others are given; another --seed
            draws others of them.
        data: folder of the dataset; labels are read for pairs with a known answer only.
        pool: folder or table of unlabelled images; the training patients new to the model if left out.
        others: folders of masks made by other models, named as by segpref predict, as further
            candidates.
        judge: by whose scores it is guessed which answers are open, so that these are asked; several,
            "[A, B]", count as an ensemble. All answers count as open if left out.
        tuned: of mode base-or-tuned, the model that is compared with the first one.
    """
    check_new_study(out, where)
    if (model is None) == (from_ is None):
        raise SegprefError(
            "give the model that makes the masks as --model, or an alignment's run folder as --from"
        )
    if from_ is not None:
        model = from_
        if data is None and pool is None:
            data, pool = images_of_run(from_)
    assert model is not None
    made = init_study(
        model, data, out=out, config=config, pool=pool, others=others, judge=judge, tuned=tuned,
        settings=settings, workers=workers, **vars(where), **vars(opening),
    )  # fmt: skip
    _show(made, config)


def _show(made: NewStudy, config: CollectConfig) -> None:
    contents = made.contents
    uses = Counter(pair.use for pair in contents.pairs)
    images = Counter[str](item.use for item in contents.items)
    drawn = sum(pair.chosen_by == "random" for pair in contents.pairs if pair.use == "normal")
    about = {
        "train": "to learn from", "choose": "to choose the checkpoint", "evaluate": "to compare models",
        "gold": "with a known answer",
    }  # fmt: skip
    told = ", ".join(f"{images[use]} {text}" for use, text in about.items() if images[use])
    _print(
        f"{made.folder.path}: {uses['normal']} questions ({drawn} drawn at random), {uses['gold']} "
        f"gold and {uses['practice']} practice pairs, about images: {told}."
    )
    for reason, count in made.left_out.items():
        if count:
            _print(f"Left out: {count} {reason}.")
    if config.mode != "base-or-tuned" and not images["choose"]:
        _print(
            "No patient's votes choose the checkpoint: align needs labelled validation cases then.",
        )
    _print(
        "Look at some of the images before you serve them: names and dates that are burnt into the "
        "pixels are shown as they are."
    )


def _print(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
