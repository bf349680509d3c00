"""A model that learns from records of preferences, whoever's they are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from short_align import POOL, run

from segpref.data import Cache, Dataset
from segpref.judges import ModelJudge, OracleJudge
from segpref.policies import load_model
from segpref.preferences import (
    AbstainingJudge,
    Candidates,
    Extremes,
    Preference,
    PreferenceFile,
    RecordedPairs,
    RoundSlates,
    Scoring,
    TopVsRandom,
    content_ids,
    distinct,
)
from segpref.proposals import SlateProposals
from segpref.runtime import proposal_precision
from segpref.training import AnchoredSignal, PreferenceSignal, PseudoLabelSignal, RunFolder
from segpref.types import Case, SegprefError, Slate

STANDING = {"refresh": 2, "images_per_epoch": None}


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.last)


def same(first: RunFolder, second: RunFolder) -> bool:
    a, b = weights(first), weights(second)
    return all(torch.equal(a[name], b[name]) for name in a)


def test_records_of_a_judge_teach_what_the_judge_taught(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    space = hearts.label_space
    oracle = OracleJudge(space)
    mined = PreferenceSignal(space, Extremes(1e-3))
    first = run(
        tmp_path / "judged", heart_base, hearts, oracle, store, signal=mined,
        write_preferences=True, **STANDING,
    )  # fmt: skip
    records = list(PreferenceFile(first.preferences).read())
    assert {record.source for record in records} == {"OracleJudge"}
    # The pairs of standing slates are the same in both epochs.
    assert len(list(distinct(records))) * 2 == len(records) > 0

    said = PreferenceSignal(space, records=RecordedPairs.of(records))
    second = run(
        tmp_path / "recorded", heart_base, hearts, AbstainingJudge(), store, signal=said, **STANDING
    )
    assert not second.preferences.exists()
    assert same(first, second)
    rows = zip(first.read_metrics(), second.read_metrics(), strict=True)
    for judged, learned in rows:
        for name in ("val_iou", "margin", "pair_flip", "pairs_per_image"):
            assert learned.get(name) == judged.get(name)
    # What was learned is not just what the base knew.
    assert not same(
        second,
        run(
            tmp_path / "turned", heart_base, hearts, AbstainingJudge(), store,
            signal=PreferenceSignal(space, records=RecordedPairs.of(records), flip_rate=1.0),
            **STANDING,
        ),
    )  # fmt: skip


def test_votes_on_slates_teach_as_a_judge_does(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    """What a page does: show two candidates of a slate, keep what a person says, train on it."""
    space, pool = hearts.label_space, hearts.of_patients(hearts.patients[POOL])
    policy, _ = load_model(heart_base)
    made = Candidates(policy, SlateProposals(8), proposal_precision("auto", "no"))
    votes = PreferenceFile(tmp_path / "votes.jsonl")
    for case in pool:
        # Seed and round as in the run's first round.
        (one,) = Scoring(OracleJudge(space))([case], made([case], 3, (0,)))
        best, worst = int(one.scores[:, 0].argmax()), int(one.scores[:, 0].argmin())
        shown = (one.ids[worst], one.ids[best])
        if shown[0] != shown[1]:
            vote = Preference(
                case=case.id, candidates=shown, choice="second", source="votes",
                rater="a clinician", confidence=0.9, time=datetime.now(UTC),
            )  # fmt: skip
            votes.append([vote])
    signal = PreferenceSignal(space, records=RecordedPairs.of(votes.read()))
    anchored = AnchoredSignal(space, signal, 0.5)
    for name, one in (("votes", signal), ("anchored", anchored)):
        made_run = run(
            tmp_path / name, heart_base, hearts, AbstainingJudge(), store, signal=one, **STANDING
        )
        row = made_run.read_metrics()[1]
        assert row["skipped_elsewhere"] == 0
        assert row["images_with_pair"] == len(list(votes.read())) / len(pool) > 0.3
        assert row["pair_flip"] == 0


def test_slates_that_were_voted_on_are_those_that_are_learned_from(
    tmp_path: Path,
    heart_base: Path,
    hearts: Dataset,
    store: Cache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    space, pool = hearts.label_space, hearts.of_patients(hearts.patients[POOL])
    made = Candidates(load_model(heart_base)[0], SlateProposals(8))

    def make(cases: Sequence[Case], number: int) -> tuple[list[Slate], None]:
        return made(cases, 99, (number,)), None  # not the run's own seed

    round_slates = RoundSlates(make, pool, AbstainingJudge(), tmp_path / "slates", every=1)
    slates = round_slates(range(len(pool)), 0, 0).slates
    before = {path.name: path.read_bytes() for path in (tmp_path / "slates").iterdir()}
    records = []
    for case, slate in zip(pool, slates, strict=True):
        truth = OracleJudge(space).score(case, slate)[:, 0]
        ids = content_ids(slate)
        shown = ids[int(truth.argmin())], ids[int(truth.argmax())]
        if shown[0] != shown[1]:
            records.append(
                Preference(case=case.id, candidates=shown, choice="second", source="votes")
            )
    signal = PreferenceSignal(space, records=RecordedPairs.of(records))
    options = {"signal": signal, "images_per_epoch": None}
    taught = run(
        tmp_path / "run",
        heart_base,
        hearts,
        AbstainingJudge(),
        store,
        slates=tmp_path / "slates",
        **options,
    )
    rows = taught.read_metrics()[1:]
    assert [row["images_with_pair"] for row in rows] == [len(records) / len(pool)] * 2
    assert [row["skipped_elsewhere"] for row in rows] == [0, 0]
    after = {path.name: path.read_bytes() for path in (tmp_path / "slates").glob("round-*")}
    assert after.items() <= before.items()
    assert "nothing was learned from the records" not in caplog.text
    # Slates of the run's own are others.
    other = run(
        tmp_path / "own", heart_base, hearts, AbstainingJudge(), store, refresh=2, **options
    )
    assert other.read_metrics()[1]["skipped_elsewhere"] > 0


def test_records_need_slates_that_stand(
    tmp_path: Path,
    heart_base: Path,
    hearts: Dataset,
    store: Cache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = hearts.label_space
    vote = Preference(case="x", candidates=("0" * 32, "1" * 32), choice="first", source="votes")
    signal = PreferenceSignal(space, records=RecordedPairs.of([vote]))
    for name, one in (("plain", signal), ("anchored", AnchoredSignal(space, signal))):
        with pytest.raises(SegprefError, match="refer to slates that are kept"):
            run(tmp_path / name, heart_base, hearts, AbstainingJudge(), store, signal=one)
    run(tmp_path / "none", heart_base, hearts, AbstainingJudge(), store, signal=signal, **STANDING)
    assert "nothing was learned from the records" in caplog.text


def test_a_run_goes_on_with_the_records_and_the_base_that_it_was_begun_with(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    space, case = hearts.label_space, hearts.of_patients(hearts.patients[POOL])[0].id
    first = Preference(case=case, candidates=("0" * 32, "1" * 32), choice="first", source="votes")
    other = replace(first, choice="second")
    more = replace(first, candidates=("0" * 32, "2" * 32))
    base = tmp_path / "base.safetensors"
    shutil.copy(heart_base / "best.safetensors", base)

    def go_on(*records: Preference) -> None:
        signal = PreferenceSignal(space, records=RecordedPairs.of(records))
        for name, one in (("plain", signal), ("anchored", AnchoredSignal(space, signal))):
            run(
                tmp_path / name,
                base,
                hearts,
                AbstainingJudge(),
                store,
                signal=one,
                resume=True,
                **STANDING,
            )

    go_on(first, more)
    about = (tmp_path / "plain" / "run.json").read_bytes()
    go_on(first, more)
    go_on(first, more, first)  # said twice
    for records in ((first,), (other, more), (more, first, other)):
        with pytest.raises(SegprefError, match="plain was begun with other preferences than there"):
            go_on(*records)
    shutil.copy(tmp_path / "anchored" / "last.safetensors", base)
    with pytest.raises(SegprefError, match=r"other weights than .*base.safetensors has now"):
        go_on(first, more)
    assert (tmp_path / "plain" / "run.json").read_bytes() == about


def test_nothing_is_kept_that_nobody_asked_for(
    tmp_path: Path, heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache
) -> None:
    space = hearts.label_space
    plain = run(tmp_path / "plain", heart_base, hearts, model_judge, store)
    kept = run(tmp_path / "kept", heart_base, hearts, model_judge, store, write_preferences=True)
    assert not plain.preferences.exists()
    assert same(plain, kept)
    records = list(PreferenceFile(kept.preferences).read())
    pairs = sum(row["pairs_per_image"] * 8 for row in kept.read_metrics()[1:])
    assert len(records) == pytest.approx(pairs)
    assert all(record.structure is None and record.strength for record in records)
    with pytest.raises(SegprefError, match="only mined pairs of candidates can be kept"):
        run(
            tmp_path / "labels", heart_base, hearts, model_judge, store, write_preferences=True,
            signal=PseudoLabelSignal(space),
        )  # fmt: skip


def test_pairs_of_random_losers_are_all_kept(
    tmp_path: Path, heart_base: Path, hearts: Dataset, store: Cache
) -> None:
    space = hearts.label_space
    signal = AnchoredSignal(space, PreferenceSignal(space, TopVsRandom(2)))
    kept = run(
        tmp_path / "kept", heart_base, hearts, OracleJudge(space), store, signal=signal,
        write_preferences=True, **STANDING,
    )  # fmt: skip
    records = RecordedPairs.of(PreferenceFile(kept.preferences).read())
    pool = hearts.of_patients(hearts.patients[POOL])
    assert set(records.by_case) <= {case.id for case in pool}
    assert np.mean([len(own) for own in records.by_case.values()]) > 2
