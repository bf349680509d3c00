from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpref.data import (
    PARTS,
    Dataset,
    Source,
    Split,
    cross_validation,
    draw_cases,
    draw_patients,
    refuse_leakage,
    split_patients,
)
from segpref.types import SegprefError


@dataclass
class Index:
    """Just enough of a reader."""

    found: Sequence[Source]
    patients_known: bool = True

    def sources(self) -> Sequence[Source]:
        return self.found


def index(strata: Sequence[int], labelled: int | None = None) -> Any:
    """``strata[s]`` patients of stratum s with two images each."""
    sources = []
    for stratum, count in enumerate(strata):
        for number in range(count):
            name = f"s{stratum}p{number}"
            files = (Path("label"),) if labelled is None or number < labelled else ()
            sources += [
                Source(
                    id=f"{name}-{t}", patient=name, images=(), labels=files, stratum=f"{stratum}"
                )
                for t in range(2)
            ]
    return Index(sources)


@st.composite
def strata_and_sizes(draw: st.DrawFn) -> tuple[list[int], dict[str, float]]:
    """Strata of very unequal sizes, and parts that use everybody or only some."""
    strata = draw(
        st.lists(st.one_of(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=9)
    )
    left = sum(strata) - 1
    sizes: dict[str, float] = {}
    for part in draw(st.permutations(("judge", "validation", "test"))):
        sizes[part] = draw(st.integers(0, left))
        left -= int(sizes[part])
    if draw(st.booleans()):
        sizes["train"] = draw(st.integers(1, left + 1))
    return strata, sizes if any(sizes.values()) else {**sizes, "train": 1}


@given(asked=strata_and_sizes(), seed=st.integers(0, 50))
def test_every_part_has_its_share_of_every_stratum_within_one_patient(
    asked: tuple[list[int], dict[str, float]], seed: int
) -> None:
    strata, sizes = asked
    reader, total = index(strata), sum(strata)
    split = split_patients(reader, sizes, seed)
    assert split == split_patients(reader, sizes, seed)
    everyone = [name for part in PARTS for name in getattr(split, part)]
    assert len(everyone) == len(set(everyone))
    wanted = {"train": total - sum(sizes.values()), **sizes}
    for part in PARTS:
        names = getattr(split, part)
        assert len(names) == wanted[part]
        counts = Counter(name.partition("p")[0] for name in names)
        for stratum, patients in enumerate(strata):
            share = Fraction(patients * len(names), total)
            assert floor(share) <= counts[f"s{stratum}"] <= ceil(share)


def test_unequal_strata_by_hand() -> None:
    # 11 patients, 5 to be tested: shares of 15/11 of the three strata of 3, and of 10/11 of the 2.
    split = split_patients(index([3, 3, 3, 2]), {"test": 5})
    counts = Counter(name[:2] for name in split.test)
    assert sorted(counts[f"s{n}"] for n in range(3)) in ([1, 1, 2], [1, 2, 2])
    assert counts["s3"] == 5 - sum(counts[f"s{n}"] for n in range(3))


def test_strata_of_one_patient_come_into_every_part() -> None:
    # Such as one folder per patient: each is tested in about half of the splits.
    tested = Counter(
        name
        for seed in range(60)
        for name in split_patients(index([1] * 20), {"test": 10}, seed).test
    )
    assert len(tested) == 20
    assert all(15 <= times <= 45 for times in tested.values())
    # Of 4 + 1 + 1 patients a third: the lone ones' share is 1/3 as anybody's.
    lone = Counter(
        name
        for seed in range(60)
        for name in split_patients(index([4, 1, 1]), {"test": 2}, seed).test
        if name[:2] != "s0"
    )
    assert all(8 <= lone[name] <= 32 for name in ("s1p0", "s2p0"))


def test_the_split_of_the_published_runs_stays() -> None:
    groups = ("DCM", "HCM", "MINF", "NOR", "RV")
    sources = [
        Source(
            id=f"patient{n:03d}_frame{t:02d}",
            patient=f"patient{n:03d}",
            images=(),
            labels=(Path("label"),),
            stratum=groups[(n - 1) // 20],
        )
        for n in range(1, 101)
        if n % 5
        for t in (1, 12)
    ]
    reader: Any = Index(sources)
    split = split_patients(reader, {"train": 45, "judge": 10, "validation": 10, "test": 15}, seed=0)
    numbers = {part: [int(name[-3:]) for name in getattr(split, part)] for part in PARTS}
    assert numbers["judge"] == [4, 7, 27, 29, 48, 52, 73, 78, 88, 97]
    assert numbers["validation"] == [16, 19, 23, 31, 51, 57, 76, 77, 91, 94]
    assert numbers["test"] == [6, 8, 12, 22, 24, 26, 42, 44, 46, 63, 66, 79, 83, 87, 93]
    assert len(numbers["train"]) == 45
    for part, each in (("train", 9), ("judge", 2), ("validation", 2), ("test", 3)):
        counts = Counter((n - 1) // 20 for n in numbers[part])
        assert counts == dict.fromkeys(range(5), each)


def test_other_seeds_give_other_splits() -> None:
    splits = {split_patients(index([20, 20]), {"test": 10}, seed) for seed in range(5)}
    assert len(splits) == 5


def test_only_labelled_patients_are_split() -> None:
    split = split_patients(index([10], labelled=6), {"test": 2})
    assert len(split.train) == 4
    assert set(split.train + split.test) == {f"s0p{n}" for n in range(6)}


def test_whom_a_model_has_seen_goes_to_train() -> None:
    seen = {"s0p0", "s0p1", "s1p0", "somebody else"}
    for seed in range(5):
        split = split_patients(index([6, 1]), {"validation": 1, "test": 2}, seed, seen)
        assert set(split.train) > seen - {"somebody else"}
        assert (len(split.train), len(split.validation), len(split.test)) == (4, 1, 2)


def test_a_patient_whose_images_differ_in_stratum_is_drawn_once() -> None:
    files = (Path("label"),)
    sources = [
        Source(id=f"{p}-{t}", patient=f"p{p}", images=(), labels=files, stratum=str(t))
        for p in range(8)
        for t in range(2)
    ]
    split = split_patients(Index(sources), {"train": 4, "test": 4})  # type: ignore[arg-type]
    assert sorted(split.train + split.test) == [f"p{p}" for p in range(8)]


@given(patients=st.integers(8, 60))
def test_fractions_of_a_whole_use_everybody(patients: int) -> None:
    quarter = dict.fromkeys(PARTS, 0.25)
    split = split_patients(index([patients]), quarter)
    sizes = [len(getattr(split, part)) for part in PARTS]
    assert sum(sizes) == patients
    assert max(sizes) - min(sizes) <= 1
    halves = split_patients(index([patients]), {"test": 0.5})
    assert abs(len(halves.test) - patients / 2) <= 0.5
    assert len(halves.train) == patients - len(halves.test)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"train": 8, "test": 3}, "needs more than the 10"),
        ({"test": 10}, "needs more than the 10"),
        ({"train": 5, "test": -1}, "can't be negative"),
        ({"train": 0.7, "test": 0.01}, "none is left for test"),
        ({"training": 5}, "has the parts"),
    ],
)
def test_impossible_sizes(sizes: dict[str, float], said: str) -> None:
    with pytest.raises(SegprefError, match=said):
        split_patients(index([10]), sizes)


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    reader = index([7, 5])
    reader.patients_known = False
    split = split_patients(reader, {"judge": 2, "validation": 2, "test": 3}, seed=4)
    assert not split.by_patient
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_another_split_is_not_written_over(tmp_path: Path) -> None:
    path, reader = tmp_path / "split.json", index([7, 5])
    split, other = (
        split_patients(reader, {"judge": 2, "validation": 2, "test": 3}, seed=seed)
        for seed in (0, 1)
    )
    split.keep(path)
    split.keep(path)
    with pytest.raises(SegprefError, match=r"split\.json holds another split of the patients"):
        other.keep(path)
    assert Split.load(path) == split


def test_a_patient_in_two_parts_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    parts = {"train": ["a", "b"], "judge": [], "validation": ["c"], "test": ["b"]}
    path.write_text(json.dumps(parts))
    with pytest.raises(SegprefError, match="patient b is in 'train' and in 'test'") as caught:
        Split.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "3", '{"train": ["a"]}', '{"train": 3, "judge": 1, "validation": 1, "test": 1}'],
)
def test_what_is_no_split_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(SegprefError, match=r"is not a split file|is not valid JSON") as caught:
        Split.load(path)
    assert str(path) in str(caught.value)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match=r"there is no file .*split\.json"):
        Split.load(tmp_path / "split.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SegprefError, match="leave it out for a new split"):
        Split.load(tmp_path / "bytes.json")


def test_leakage_names_both_sets() -> None:
    refuse_leakage({"pool": ["a", "b"], "test": ["c"]})
    with pytest.raises(SegprefError, match="patient a is in 'pool' and in 'test'"):
        refuse_leakage({"pool": ["a", "b"], "test": iter(["a"])})


def test_drawing_patients() -> None:
    names = [f"p{n}" for n in range(20)]
    drawn = draw_patients(names, 5, seed=3)
    assert drawn == draw_patients(names[::-1], 5, seed=3)
    assert len(set(drawn)) == 5
    assert set(drawn) < set(names)
    assert len({draw_patients(names, 5, seed) for seed in range(10)}) > 5
    assert draw_patients(names, 20, seed=0) == tuple(sorted(names))
    for count in (0, 21):
        with pytest.raises(SegprefError, match="ask for 1 to 20"):
            draw_patients(names, count, seed=0)


def test_drawing_cases(hearts: Dataset) -> None:
    drawn = [one.id for one in draw_cases(hearts, 6, seed=1)]
    assert drawn == [one.id for one in draw_cases(hearts, 6, seed=1)]
    assert drawn != [one.id for one in draw_cases(hearts, 6, seed=2)]
    assert len(set(drawn)) == 6
    with pytest.raises(SegprefError, match=f"of {len(hearts)}"):
        draw_cases(hearts, len(hearts) + 1, seed=0)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.data())
def test_every_patient_is_tested_in_exactly_one_fold(
    strata: list[int], data: st.DataObject
) -> None:
    total = sum(strata)
    if total < 4:
        return
    folds = data.draw(st.integers(2, min(5, total // 2)))
    sizes = {"validation": 1}
    splits = [cross_validation(index(strata), folds, fold, sizes, 3) for fold in range(folds)]
    tested = Counter(name for split in splits for name in split.test)
    assert len(tested) == total
    assert set(tested.values()) == {1}
    assert {len(split.test) for split in splits} <= {total // folds, ceil(total / folds)}
    for split in splits:
        parts = [name for part in PARTS for name in getattr(split, part)]
        assert len(parts) == len(set(parts)) == total
        assert len(split.validation) == 1
        assert not split.judge
        # Each stratum's share of a fold is its share of all patients, rounded down or up.
        for stratum, count in enumerate(strata):
            held = sum(name.startswith(f"s{stratum}p") for name in split.test)
            share = Fraction(count * len(split.test), total)
            assert floor(share) <= held <= ceil(share)


def test_folds_that_can_not_be_made_are_refused() -> None:
    with pytest.raises(SegprefError, match="test is the fold that is left out"):
        cross_validation(index([6]), 2, 0, {"test": 1})
    with pytest.raises(SegprefError, match="6 labelled patients can't be cut into 7 folds"):
        cross_validation(index([6]), 7, 0, {})
