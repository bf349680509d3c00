"""A judge made of votes: what people said of masks that stand still, and nothing of others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.collect.studies import heart_data, small_study

from segpref import audit
from segpref.cli.main import main
from segpref.collect import Assignment, Rules, SlatesByCase, StudyFolder, VotesJudge, VoteStore
from segpref.data import Cache, Dataset, Preparation, prepare
from segpref.metrics import slate_iou
from segpref.preferences import Preference, content_ids, save_mask, write_preferences
from segpref.types import Candidate, Case, LabelSpace, SegprefError, Slate
from segpref.workflows import align
from vote_studies import vote_all, welcome

MASKS = [np.full((1, 2, 2), value, np.uint8) * np.eye(2, dtype=np.uint8) for value in range(4)]
MASKS += [np.array([[[0, 1], [0, 0]]], np.uint8)]


def said(*told: tuple[str, tuple[int, ...]], folder: Path, structure: str | None = None) -> Path:
    """A folder of preferences about one case, whose anchor is the first mask."""
    everything = Slate(np.stack(MASKS), (Candidate("made"),) * len(MASKS))
    ids = content_ids(everything)
    for mask, name in zip(MASKS, ids, strict=True):
        save_mask(folder, mask, name)
    records = [
        Preference(
            case="a", candidates=tuple(ids[i] for i in shown), choice=choice,  # type: ignore[arg-type]
            source="votes", structure=structure, rater=f"rater {number}",
        )
        for number, (choice, shown) in enumerate(told)
    ]  # fmt: skip
    write_preferences(
        folder, records, model_digest="m", cases=["a", "b"], anchors={"a": ids[0], "b": ids[0]}
    )
    return folder


def scored(folder: Path, *places: int, case: str = "a") -> list[float]:
    """The judge's scores of some of the masks."""
    image = np.zeros((1, 2, 2), np.float32)
    slate = Slate(np.stack([MASKS[i] for i in places]), (Candidate("made"),) * len(places))
    judge = VotesJudge(folder)
    found = judge.score(Case(id=case, patient="p", volume="v", image=image), slate)
    return list(found[:, 0])


def test_of_two_masks_the_better_one_has_the_higher_score(tmp_path: Path) -> None:
    folder = said(("first", (1, 2)), ("first", (1, 2)), ("second", (1, 2)), folder=tmp_path)
    anchor, better, worse = scored(folder, 0, 1, 2)
    # Two against one: odds of 2 between the two, and scores that are mirror images.
    assert np.isnan(anchor)
    odds = better / (1 - better) / (worse / (1 - worse))
    assert odds == pytest.approx(2, rel=1e-6)
    assert better + worse == pytest.approx(1)


def test_a_tie_is_a_tie_and_doubt_says_nothing(tmp_path: Path) -> None:
    folder = said(("tie", (1, 2)), ("both-bad", (0, 3)), ("cant-tell", (0, 4)), folder=tmp_path)
    found = scored(folder, 0, 1, 2, 3, 4)
    assert found[1] == found[2] == pytest.approx(0.5)
    assert np.isnan([found[0], found[3], found[4]]).all()


def test_an_audit_of_doubt_alone_says_so(tmp_path: Path) -> None:
    study = small_study(tmp_path, practice=0, gold=0.0)
    with VoteStore(study.database) as store:
        store.create(study.contents(), Rules(repeats=0.0, gold=0.0))
        vote_all(store, welcome(store), lambda _: "cant-tell")
    with pytest.raises(
        SegprefError, match=r"none of \d+ votes in .*study says which mask is better"
    ):
        audit(data=heart_data(tmp_path / "again"), votes=study.path, cache=tmp_path / "cache")


def test_masks_that_were_never_compared_are_not_set_side_by_side(tmp_path: Path) -> None:
    told = [("first", (0, 1)), ("first", (1, 2)), ("first", (3, 4))]
    found = scored(said(*told, folder=tmp_path), 0, 1, 2, 3, 4)
    assert found[0] > found[1] > found[2]
    assert np.isnan(found[3:]).all()
    # By themselves they can.
    alone = scored(tmp_path, 3, 4)
    assert alone[0] > alone[1]


def test_accepted_masks_score_by_the_share_of_raters(tmp_path: Path) -> None:
    told = [("accept", (1,)), ("accept", (1,)), ("reject", (1,)), ("reject", (2,))]
    assert scored(said(*told, folder=tmp_path), 1, 2) == pytest.approx([2 / 3, 0])


def test_it_abstains_where_nobody_voted_and_refuses_masks_that_nobody_saw(tmp_path: Path) -> None:
    folder = said(("first", (1, 2)), folder=tmp_path, structure="LV")
    assert np.isnan(scored(folder, 1, 2, case="b")).all()
    with pytest.raises(SegprefError, match="none of these 3 masks of a was compared"):
        scored(folder, 0, 1, 4)
    space = LabelSpace("multi-class", ("background", "RV", "LV"))
    assert VotesJudge(folder).unvoted(space) == ("RV",)


@pytest.mark.slow
def test_without_anchors_nothing_is_gained_over_them(tmp_path: Path, hearts: Dataset) -> None:
    folder = said(("first", (1, 2)), folder=tmp_path)
    judge = VotesJudge(folder)
    about = judge.votes.folders[0].about
    assert set(about["anchors"]) == {"a", "b"}
    about["anchors"].clear()
    with pytest.raises(SegprefError, match="does not say which masks are the model's own"):
        list(judge.asked(hearts))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Votes of a rater who knows the labels."""
    made = small_study(tmp_path_factory.mktemp("audited"), images=6, practice=0, gold=0.0)
    hearts = _hearts(made)
    labels = {case.id: case for case in hearts}
    masks: dict[str, tuple[str, int]] = {}
    contents = made.contents()
    cases = {item.id: item.case for item in contents.items}
    for mask in contents.masks:
        masks[mask.id] = (cases[mask.item], mask.candidate)
    sets = [SlatesByCase.of_set(place) for place in (made.slates, made.held_out)]

    def quality(name: str) -> float:
        case, place = masks[name]
        slate = next(one.slate(case) for one in sets if case in one.cases)
        label = labels[case].label
        assert label is not None
        return float(slate_iou(slate.masks, np.asarray(label), hearts.label_space)[place, 0])

    def right(given: Assignment) -> str:
        first, second = (quality(mask.id) for mask in given.masks)
        return "tie" if first == second else "left" if first > second else "right"

    with VoteStore(made.database) as store:
        store.create(contents, Rules(repeats=0.0, gold=0.0))
        vote_all(store, welcome(store), right)
    return made


def _hearts(study: StudyFolder) -> Dataset:
    data = heart_data(study.path.parent / "again")
    return prepare(data, Preparation(dims=2, size=(32, 32)), Cache(study.path.parent / "cache"))


@pytest.mark.slow
def test_votes_are_audited_on_the_masks_that_people_saw(
    study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study.path.parent
    data = heart_data(tmp_path / "data")
    found = audit(data=data, votes=study.path, cache=folder / "cache")
    contents = study.contents()
    asked = len(contents.pairs)
    assert found.judge.slates + sum(found.judge.skipped.values()) == asked
    # They knew the labels: no answer is the wrong way round.
    assert found.judge.pairs == found.judge.slates > 0
    assert found.judge.pair_flip == 0
    assert found.flips.flip_rate == 0
    assert found.judge.regret >= 0
    # A structure is measured where people were asked about it, and nowhere else.
    by_structure = {one.structure: one for one in found.structures}
    for name in study.note.label_space.structures:
        here = sum(pair.structure == name for pair in contents.pairs)
        assert by_structure[name].slates + by_structure[name].abstained <= here
    assert sum(one.slates for one in found.structures) == found.judge.slates
    # The same by class and arguments, which is how the command line names it.
    again = audit(data=data, judge=VotesJudge(study.path), cache=folder / "cache")
    assert again.as_dict() == found.as_dict()
    out = tmp_path / "audit.json"
    options = json.dumps(
        {"names": list(study.note.label_space.names), "patient_pattern": r"(phantom\d+)"}
    )
    main([
        "audit", "--data", str(tmp_path / "data"), "--votes", str(study.path), "--out", str(out),
        "--cache", str(folder / "cache"), "--data_options", options,
    ])  # fmt: skip
    assert json.loads(out.read_text())["judge"]["pair_flip"] == 0
    assert "PairFlip" in capsys.readouterr().out
    named = {"class_path": "segpref.collect.VotesJudge", "init_args": {"study": str(study.path)}}
    assert main([
        "audit", "--data", str(tmp_path / "data"), "--judge", json.dumps(named),
        "--cache", str(folder / "cache"), "--data_options", options,
    ]) == 0  # fmt: skip


@pytest.mark.slow
def test_votes_are_no_judge_of_masks_that_nobody_saw(study: StudyFolder, tmp_path: Path) -> None:
    folder = study.path.parent
    data, base = heart_data(tmp_path / "data"), folder / "base.safetensors"
    settings = {"cache": folder / "cache"}
    for judge in (VotesJudge(study.path), str(study.path)):
        with pytest.raises(SegprefError, match="give it as --votes to align or audit"):
            align(base, data, judge=judge, out=tmp_path / "run", **settings)
    with pytest.raises(SegprefError, match="leave part, candidates"):
        audit(data=data, votes=study.path, part="test", **settings)
    with pytest.raises(SegprefError, match="--judge or --votes"):
        audit(base, data, judge="oracle", votes=study.path, **settings)
    with pytest.raises(SegprefError, match="nobody voted on any of these"):
        VotesJudge(study.path).prepare(_hearts(study).of_patients(["phantom000"]))
    unlabelled = _hearts(study).without_labels()
    with pytest.raises(SegprefError, match="has a label"):
        list(VotesJudge(study.path).asked(unlabelled))
