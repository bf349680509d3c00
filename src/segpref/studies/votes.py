"""Learning from votes: slates of studies joined, records about them, and the alignment itself.

The one path by which votes train a model, for ``segpref align --votes`` and for recipes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segpref.collect import SlatesByCase, StudyVotes, cases_named, joined, kept_cases, kept_set
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.objectives import KTO, CalibratedDPO
from segpref.preferences import (
    AbstainingJudge,
    Preference,
    PreferenceFolder,
    RecordedPairs,
    distinct,
    in_random_order,
    latest,
)
from segpref.proposals import SlateProposals
from segpref.training import AlignConfig, HeldOut, RunFolder, align, is_first_process
from segpref.training.anchored import objective_of
from segpref.training.methods import method_of
from segpref.types import Objective, SegprefError

__all__ = [
    "LEFT_OUT",
    "VoteInputs",
    "align_to_votes",
    "configured",
    "open_votes",
    "refuse_silence",
]

HELD_OUT = 0.2
"""Share of the patients whose votes choose the checkpoint, where a study holds none out for it."""

LEFT_OUT = "of validation or test"
"""Why votes about patients who measure are left out, in the figures of :class:`VoteInputs`."""

_REPEATED = "repeated by the same rater"
_SILENT = {
    "both-bad": "both bad",
    "cant-tell": "can't tell",
    "tie": "ties, which this objective does not learn from",
    "single": "of one mask, which this objective does not learn from",
}
"""Why preferences teach nothing, in words."""


@dataclass(frozen=True)
class VoteInputs:
    """Votes on slates that stand.

    Args:
        config: of the alignment, with what votes imply.
        records: to learn from.
        pool: the images of the slates, in their order.
        slates: folder of the slates.
        held_out: what is not learned from; None where nothing is held out.
        figures: what the report says of them.
    """

    config: AlignConfig
    records: RecordedPairs
    pool: Dataset
    slates: Path
    held_out: HeldOut | None
    figures: Mapping[str, Any]


def align_to_votes(
    base: Path | str, votes: VoteInputs, validation: Dataset, folder: RunFolder, cache: Cache
) -> SlateProposals:
    """Fine-tune a model on votes about its own masks; the summary says how many and of whom.

    Args:
        base: the model that made the masks.
        votes: to learn from, with the configuration.
        validation: labelled cases that choose the checkpoint; held-out votes do where there are none.
        folder: of the run, opened.
        cache: where reference logits are kept.

    Returns:
        What makes the candidates that reports show.
    """
    judge = AbstainingJudge()
    method = method_of(votes.config, votes.pool.label_space, judge, records=votes.records)
    align(
        base, votes.pool, validation, method.judge, method.signal, folder, votes.config.resolved(),
        proposals=method.proposals, cache=cache, slates=votes.slates, held_out=votes.held_out,
    )  # fmt: skip
    if is_first_process():
        folder.write_summary({**folder.read_summary(), "votes": dict(votes.figures)})
    return method.proposals


def open_votes(
    votes: StudyVotes,
    sources: Sequence[Dataset],
    config: AlignConfig,
    validation: Dataset,
    folder: Path,
    *,
    patches: bool,
    without: Set[str] = frozenset(),
) -> VoteInputs:
    """The slates of the studies, joined where there are several, and the records about them.

    Args:
        votes: of some studies.
        sources: prepared images; those that were voted on are of the first that has them all.
        config: of the alignment, :func:`configured`; ``control`` gives the votes in random order.
        validation: labelled cases; where there are none, held-out votes choose the checkpoint.
        folder: where slates go that are not a study's as they are.
        patches: whether the model sees patches.
        without: patients about whom votes are left out, and counted.

    Raises:
        SegprefError: the images are not there, too few votes to learn from or to hold some out, or none
            that says which mask is better.
    """
    sets = [one.slates for one in votes.studies]
    slates, pool, dropped = _standing(
        sets, votes.folders, folder / "set", sources, patches, without
    )
    learned = [one for one in votes.learned if one.case not in dropped]
    left_out = len(votes.learned) - len(learned)
    held: list[Preference] = []
    held_pool, held_slates = pool, slates
    if votes.held_out and any(kept_cases(one.held_out) for one in votes.studies):
        others = [one.held_out for one in votes.studies]
        held_slates, held_pool, dropped = _standing(
            others, (), folder / "choose", sources, patches, without
        )
        held = [one for one in votes.held_out if one.case not in dropped]
        left_out += len(votes.held_out) - len(held)
    if not learned:
        raise SegprefError(
            f"all {left_out} votes are about patients of validation or test, from whom nothing may be "
            "learned: give another split"
        )
    empty = RecordedPairs({})
    signal = method_of(config, pool.label_space, AbstainingJudge(), records=empty).signal
    objective = objective_of(signal)
    silent = RecordedPairs({}, objective=objective).says_nothing
    refuse_silence(learned, objective)
    if not held and not len(validation):
        learned, held = _held_back(learned, pool, config.seed, silent)
    rates = votes.flip_rates
    if config.control:
        learned = in_random_order(learned, config.seed)
        if rates is not None and isinstance(config.resolved().objective, CalibratedDPO):
            rates = dict.fromkeys(rates, 0.5)
    records = RecordedPairs.of(learned, flip_rates=rates)
    told = HeldOut(records, pool, slates)
    if not told.says_something(objective):
        raise SegprefError(
            f"none of {len(learned)} votes is about two masks that differ in what was asked, so "
            "nothing can be learned: let people vote on other masks (segpref collect init)"
        )
    held_out = None
    if held:
        kept = RecordedPairs.of(held, flip_rates=votes.flip_rates)
        held_out = HeldOut(kept, held_pool, held_slates)
        if not len(validation) and not held_out.says_something(objective):
            raise SegprefError(
                f"none of the {len(held)} held-out votes says which mask is better, so nothing can "
                "choose the checkpoint: collect more of these votes, or give labelled cases"
            )
    skipped = Counter(votes.skipped) + Counter({LEFT_OUT: left_out})
    figures = _figures(learned, held, skipped, silent)
    return VoteInputs(config, records, pool, slates, held_out, figures)


def refuse_silence(records: Sequence[Preference], objective: Objective) -> None:
    """Refuse votes of which none can teach anything, before any work.

    Args:
        records: what was said.
        objective: what they are for.

    Raises:
        SegprefError: none says which mask is better, or whether one is good enough, for this objective.
    """
    silent = RecordedPairs({}, objective=objective).says_nothing
    reasons = Counter(silent(one) for one in records)
    if records and None not in reasons:
        told = "; ".join(f"{count} {_SILENT[str(why)]}" for why, count in reasons.most_common())
        raise SegprefError(
            f"nothing can be learned from these votes ({told}): collect more of them, or set another "
            "objective where this one passes over what was said"
        )


def configured(config: AlignConfig, votes: StudyVotes) -> AlignConfig:
    """The configuration with what votes imply: KTO where masks were only accepted or rejected.

    Raises:
        SegprefError: settings that make no sense with votes.
    """
    if config.method not in ("preference", "calibrated") or config.feedback is not None:
        raise SegprefError("votes are preferences: leave method and feedback out")
    for name in ("miner", "families"):
        if getattr(config, name) != getattr(AlignConfig, name):
            raise SegprefError(
                f"{name} has no effect with votes, which say the pairs: leave it out"
            )
    if config.reference == "round":
        raise SegprefError("a study's masks are of the base: leave reference out")
    if config.images != "unlabelled" or config.write_preferences:
        raise SegprefError("images and write_preferences have no effect with votes: leave them out")
    if votes.singles and config.objective is None and config.method == "preference":
        beta = 1.0 if config.beta is None else config.beta
        return replace(config, objective=KTO(beta), beta=None, reduction="image")
    return config


def _standing(
    sets: Sequence[Path],
    recorded: Sequence[PreferenceFolder],
    folder: Path,
    sources: Sequence[Dataset],
    whole: bool,
    without: Set[str],
) -> tuple[Path, Dataset, Set[str]]:
    """The set of all studies and folders, its images, and the ids of those that are left out."""
    sets = [path for path in sets if kept_cases(path)]
    slates = joined([*map(SlatesByCase.of_set, sets), *map(SlatesByCase.of_folder, recorded)])
    images = cases_named(sources, slates.cases)
    shown = images.of_patients(set(images.patients) - without)
    if len(shown) == len(images):
        as_it_is = len(sets) == 1 and not recorded
        return sets[0] if as_it_is else kept_set(slates, folder, whole=whole), images, frozenset()
    kept = [case.id for case in shown]
    if not kept:
        return folder, shown, frozenset(slates.cases)
    left = SlatesByCase(kept, slates.slate)
    return kept_set(left, folder, whole=whole), shown, frozenset(slates.cases) - {*kept}


def _held_back(
    records: Sequence[Preference],
    pool: Dataset,
    seed: int,
    silent: Callable[[Preference], str | None],
) -> tuple[list[Preference], list[Preference]]:
    """Records to learn from, and those of a share of the patients; both say something."""
    of = {case.id: case.patient for case in pool}
    telling = (one for one in records if one.case in of and silent(one) is None)
    # A tie teaches, and chooses nothing.
    patients = sorted({of[one.case] for one in telling if one.choice != "tie"})
    if len(patients) < 2:
        raise SegprefError(
            "there are no validation labels, and votes of one patient can't both be learned from and "
            "choose the checkpoint: vote on images of more patients, or give labelled cases"
        )
    drawn = np.random.default_rng([seed, len(patients)]).permutation(patients)
    held = set(drawn[: max(1, round(HELD_OUT * len(patients)))].tolist())
    learned = [one for one in records if of.get(one.case) not in held]
    return learned, [one for one in records if of.get(one.case) in held]


def _figures(
    learned: Sequence[Preference],
    held: Sequence[Preference],
    skipped: Mapping[str, int],
    silent: Callable[[Preference], str | None],
) -> dict[str, Any]:
    """What is learned from, what is held out, and what is neither; the last answer counts."""
    left: Counter[str] = Counter(skipped)
    used = []
    for told in (learned, held):
        last = latest(distinct(told))
        left[_REPEATED] += len(told) - len(last)
        reasons = [(one, silent(one)) for one in last]
        left.update(_SILENT[why] for _, why in reasons if why is not None)
        used.append([one for one, why in reasons if why is None])
    taught = used[0]
    return {
        "preferences": len(taught),
        "held out": len(used[1]),
        "raters": len({one.rater for one in taught}),
        "images": len({one.case for one in taught}),
        "said": dict(sorted(Counter(one.choice for one in taught).items())),
        "left out": {why: count for why, count in sorted(left.items()) if count},
    }
