"""A model that learns from what people said of masks that stand still."""

from __future__ import annotations

import json
import math
import shutil
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.collect.studies import HEART, heart_data, small_study, untrained

from segpref.collect import Assignment, Rules, StudyFolder, VoteStore
from segpref.data import Folders
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.objectives import DPO, KTO, CalibratedDPO, RobustDPO
from segpref.preferences import (
    AbstainingJudge,
    Extremes,
    Preference,
    PreferenceFile,
    PreferenceFolder,
    RecordedPairs,
    RoundSlates,
    TopVsBase,
    content_id,
    distinct,
)
from segpref.training import HeldOut, RunFolder, agreement
from segpref.types import Candidate, Case, LabelSpace, SegprefError, Slate
from segpref.workflows import align
from vote_studies import vote_all, welcome

pytestmark = pytest.mark.slow

SPACE = LabelSpace("multi-class", ("background", "LV"))
SHORT = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "log_with": ()}
FOUR = {"candidates": 16, "least_voxels": 1, "most_dice": 0.999}
"""Of which four candidates differ."""


def larger(given: Assignment) -> str:
    """A rater who always likes the candidate with the larger number, and finds the first ones equal."""
    places = [mask.candidate for mask in given.masks]
    if len(places) == 1:
        return "accept" if places[0] % 2 else "reject"
    if len(places) == 4:
        return f"best-{int(np.argmax(places))}"
    return "tie" if max(places) == 1 else "left" if places[0] > places[1] else "right"


def voted(folder: Path, most: int | None = None, **options: Any) -> StudyFolder:
    study = small_study(folder, **options)
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0))
        vote_all(store, welcome(store), larger, most)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return voted(tmp_path_factory.mktemp("voted"), images=8)


def run(study: StudyFolder, out: Path, **options: Any) -> RunFolder:
    folder = study.path.parent
    data = Folders(folder / "data", names=HEART, patient_pattern=PATIENT_PATTERN)
    settings = {"data": data, "votes": study.path, "cache": folder / "cache", **SHORT, **options}
    return align(out=out, **settings).runs[""]


def same(first: RunFolder, second: RunFolder) -> bool:
    a, b = load_file(first.last), load_file(second.last)
    return all(torch.equal(a[name], b[name]) for name in a)


def without_labels(study: StudyFolder, out: Path) -> StudyFolder:
    """A copy whose split has no validation patients."""
    shutil.copytree(study.path, out)
    split = json.loads((out / "split.json").read_text())
    split["train"] += split.pop("validation")
    (out / "split.json").write_text(json.dumps({**split, "validation": []}))
    return StudyFolder(out)


def test_votes_are_learned_from(study: StudyFolder, tmp_path: Path) -> None:
    votes = run(study, tmp_path / "voted")
    rows, summary = votes.read_metrics(), votes.read_summary()
    assert [row["skipped_elsewhere"] for row in rows[1:]] == [0, 0]
    assert rows[1]["images_with_pair"] == 1
    with VoteStore(study.database) as store:
        said = store.preferences("train")
        held = store.preferences("choose")
    told = summary["votes"]
    answers = [one for one in said if one.choice not in ("both-bad", "cant-tell")]
    assert (told["preferences"], told["held out"]) == (len(answers), len(held))
    assert told["images"] == len({one.case for one in answers})
    assert len(held) > 0
    assert (told["raters"], told["said"]["tie"] > 0) == (1, True)
    assert rows[0]["val_votes"] == 0.5  # the base has moved nowhere
    assert 0 <= rows[-1]["val_votes"] <= 1
    assert rows[-1]["preference_accuracy"] > 0.5
    assert summary["val_iou_peak"] > 0
    page = (votes.path / "report.html").read_text()
    assert "Held-out votes" in page
    again = run(study, tmp_path / "again")
    assert same(votes, again)
    control = run(study, tmp_path / "control", control=True)
    assert not same(votes, control)


@pytest.mark.parametrize(
    ("mode", "answer", "objective", "told"),
    [
        ("pair", "cant-tell", None, "can't tell"),
        ("pair", "both-bad", None, "both bad"),
        ("pair", "tie", KTO(1.0), "ties, which this objective does not learn from"),
        (
            "accept-reject",
            "accept",
            DPO(1.0),
            "of one mask, which this objective does not learn from",
        ),
    ],
)
def test_answers_that_teach_nothing_are_refused_before_training(
    study: StudyFolder, tmp_path: Path, mode: Any, answer: str, objective: Any, told: str
) -> None:
    asked = study if mode == "pair" else small_study(tmp_path, mode=mode, practice=0)
    votes, out = tmp_path / "votes.db", tmp_path / "out"
    with VoteStore(votes) as store:
        store.create(asked.contents(), Rules(repeats=0.0))
        vote_all(store, welcome(store), lambda _: answer)
    with pytest.raises(SegprefError, match=rf"learned from these votes \(\d+ {told}\)"):
        run(asked, out, objective=objective, database=f"sqlite:///{votes}")
    assert not out.exists()


def test_what_is_learned_from_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    study = small_study(tmp_path, mode="best-of-four", practice=0, gold=0.0, images=8, **FOUR)
    answers = cycle(["best-0", "cant-tell", "best-1", "none-good"])
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0, gold=0.0))
        vote_all(store, welcome(store), lambda _: next(answers))
        said = [*store.preferences("train"), *store.preferences("choose")]
    told = run(study, tmp_path / "out").read_summary()["votes"]
    assert told["preferences"] + told["held out"] == sum(
        one.choice in ("first", "second") for one in said
    )
    for choice, words in (("cant-tell", "can't tell"), ("both-bad", "both bad")):
        assert told["left out"].get(words, 0) == sum(one.choice == choice for one in said) > 0


class Cases(list[Case]):
    """A data set in memory."""

    def without_labels(self) -> Cases:
        return self


class Fixed:
    """Logits that do not depend on the image."""

    label_space = SPACE

    def __init__(self, *rows: list[float]) -> None:
        self._logits = torch.tensor(rows, dtype=torch.float64)[None, :, None]

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return self._logits

    def digest(self) -> str:
        return "fixed"


def test_agreement_counts_how_the_policy_has_moved(tmp_path: Path) -> None:
    masks = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 0]], np.uint8)[:, None, None]
    ids = [content_id(mask) for mask in masks]
    case = Case(id="p", patient="p", volume="p", image=np.zeros((1, 1, 3), np.float32))
    slate = Slate(masks, (Candidate("made"),) * 4)

    def held(objective: Any, *told: tuple[str, tuple[int, ...]]) -> HeldOut:
        records = RecordedPairs.of(
            Preference(
                case="p", source="votes", choice=choice, candidates=tuple(ids[i] for i in shown)
            )
            for choice, shown in told
        )
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        RoundSlates(lambda *_: ([slate], None), Cases([case]), AbstainingJudge(), folder, every=1)(
            [0], 0, 0
        )
        return HeldOut(records, Cases([case]), folder).of(objective)

    base, moved = Fixed([0, 0, 0], [0, 0, 0]), Fixed([0, 0, 0], [2, -1, 0])
    # Pixel by pixel the policy has moved towards the structure by 2, -1, 0.
    told = [("first", (1, 0)), ("second", (2, 0)), ("first", (2, 0)), ("tie", (3, 0))]
    assert agreement(held(DPO(), *told[:2]), moved, base)["val_votes"] == 1
    assert agreement(held(DPO(), *told), moved, base)["val_votes"] == pytest.approx(0.5)
    assert agreement(held(DPO(), *told[:2]), base, base)["val_votes"] == 0.5
    single = [("accept", (1,)), ("reject", (2,)), ("reject", (3,))]
    assert agreement(held(KTO(), *single), moved, base)["val_votes"] == pytest.approx(2 / 3)
    assert math.isnan(agreement(held(DPO(), *single), moved, base)["val_votes"])


def test_a_run_goes_on_with_the_votes_that_it_was_begun_with(
    tmp_path: Path,
) -> None:
    study = voted(tmp_path, most=3)
    run(study, tmp_path / "run")
    with VoteStore(study.database) as store:
        vote_all(store, welcome(store, "late"), larger)
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(SegprefError, match="begun with other preferences"):
        run(study, tmp_path / "run", resume=True)


@pytest.mark.parametrize("objective", [CalibratedDPO(), RobustDPO(flip_rate=0.1)])
def test_how_reliable_a_rater_is_matters(
    study: StudyFolder, tmp_path: Path, objective: Any
) -> None:
    found = run(study, tmp_path / "run", objective=objective, epochs=1)
    assert found.read_metrics()[1]["images_with_pair"] == 1


def test_without_labels_votes_choose_the_checkpoint(study: StudyFolder, tmp_path: Path) -> None:
    unlabelled = without_labels(study, tmp_path / "study")
    made = run(study, tmp_path / "run", votes=unlabelled.path, epochs=3)
    summary, rows = made.read_summary(), made.read_metrics()
    agreed = [row["val_votes"] for row in rows[1:]]
    assert summary["val_votes_peak"] == max(agreed)
    assert summary["peak_epoch"] == 1 + agreed.index(max(agreed))
    assert "val_iou_base" not in summary
    assert "moved towards" in (made.path / "report.html").read_text()
    # A study that holds nobody out leaves it to the run.
    shutil.rmtree(unlabelled.path / "choose")
    own = run(study, tmp_path / "own", votes=unlabelled.path)
    told = own.read_summary()["votes"]
    assert told["held out"] > 0


@pytest.mark.parametrize("part", ["validation", "test"])
def test_nobody_who_was_voted_on_measures_the_result(
    study: StudyFolder, tmp_path: Path, part: str
) -> None:
    split = json.loads((study.path / "split.json").read_text())
    patient = next(item.patient for item in study.contents().items if item.use == "train")
    split["train"].remove(patient)
    split[part].append(patient)
    (tmp_path / "split.json").write_text(json.dumps(split))
    with pytest.raises(SegprefError, match=f"{patient} is in 'votes' and in '{part}'"):
        run(study, tmp_path / "run", split=tmp_path / "split.json")


def test_accepted_masks_are_learned_by_kto(tmp_path: Path) -> None:
    single = voted(tmp_path, mode="accept-reject")
    made = run(single, tmp_path / "run")
    row = made.read_metrics()[1]
    assert row["skipped_single"] == 0
    assert row["images_with_pair"] > 0
    named = run(single, tmp_path / "named", objective=KTO(), reduction="image")
    assert same(made, named)


def test_studies_of_one_model_are_joined(study: StudyFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(study.path, other)
    both = run(study, tmp_path / "both", votes=[study.path, other], epochs=1)
    one = run(study, tmp_path / "one", epochs=1)
    assert both.read_metrics()[1]["skipped_elsewhere"] == 0
    # Who said what is in both once, and is learned from once.
    twice, once = both.read_summary()["votes"], one.read_summary()["votes"]
    assert twice["preferences"] == once["preferences"]
    assert twice["left out"]["repeated by the same rater"] == once["preferences"] + once["held out"]
    note = json.loads((both.path / "votes" / "set" / "round-000.json").read_text())
    assert note["cases"] == list(study.train_cases)


def test_what_does_not_fit_is_refused(study: StudyFolder, tmp_path: Path) -> None:
    def refused(reason: str, **options: Any) -> None:
        with pytest.raises(SegprefError, match=reason):
            run(study, tmp_path / "refused", **options)

    refused("give one of the two", judge="oracle")
    refused("give one of the two", votes=None)
    refused("named twice", votes=[study.path, study.path])
    refused("the votes of one study", votes=[study.path, study.path], database="x.sqlite")
    refused("holds no study", votes=tmp_path / "nothing")
    refused("does not hold the votes|no database", database=str(tmp_path / "empty.sqlite"))
    refused("leave method and feedback out", method="pseudo-label")
    refused("miner has no effect", miner=TopVsBase())
    refused("leave reference out", reference="round", refresh=2)
    refused("others has no effect", others=[tmp_path])
    other = untrained(tmp_path / "other.safetensors", "phantom000", seed=1)
    refused("is not the model that made the masks", model=other)
    refused("images that were voted on are needed", data=None)
    assert run(study, tmp_path / "fine", model=study.path.parent / "base.safetensors", epochs=1)


def test_a_run_is_repeated_from_the_preferences_that_it_wrote(tmp_path: Path) -> None:
    data = heart_data(tmp_path / "data")
    base = untrained(tmp_path / "base.safetensors", "phantom000")
    settings = {"cache": tmp_path / "cache", **SHORT, "candidates": 8}
    first = align(
        base, data, judge="oracle", out=tmp_path / "judged", write_preferences=True, refresh=2,
        miner=Extremes(1e-3), **settings,
    ).runs[""]  # fmt: skip
    folder = first.path / "preferences"
    records = PreferenceFolder.open(folder).records
    assert records == list(distinct(PreferenceFile(first.preferences).read()))
    again = align(
        base, data, votes=folder, out=tmp_path / "repeated", split=first.path / "split.json",
        **settings,
    ).runs[""]  # fmt: skip
    assert same(first, again)
    assert again.read_metrics()[1]["skipped_elsewhere"] == 0
    # A mask that is not what was written is not learned from.
    (mask, *_) = sorted((folder / "masks").iterdir())
    np.save(mask, np.zeros((1, 32, 32), np.uint8))
    with pytest.raises(SegprefError, match="another mask than was written"):
        align(base, data, votes=folder, out=tmp_path / "other", **settings)
