from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpref.data import Dataset, Source, Split, draw_cases, draw_patients, split_patients
from segpref.data.splits import PARTS, refuse_leakage
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


@given(
    groups=st.integers(1, 5),
    each=st.integers(4, 12),
    seed=st.integers(0, 50),
    data=st.data(),
)
def test_splits_are_disjoint_stratified_and_seeded(
    groups: int, each: int, seed: int, data: st.DataObject
) -> None:
    total = groups * each
    sizes = {}
    left = total - 1
    for part in ("judge", "validation", "test"):
        sizes[part] = data.draw(st.integers(1, max(1, left // 3)))
        left -= sizes[part]
    reader = index([each] * groups)
    split = split_patients(reader, {**sizes, "train": 1}, seed)
    assert split == split_patients(reader, {**sizes, "train": 1}, seed)
    everyone = [name for part in PARTS for name in getattr(split, part)]
    assert len(everyone) == len(set(everyone)) == sum(sizes.values()) + 1
    whole = split_patients(reader, sizes, seed)
    assert sum(len(getattr(whole, part)) for part in PARTS) == total
    for part in PARTS:
        names = getattr(whole, part)
        counts = Counter(name[:2] for name in names)
        for group in range(groups):
            assert abs(counts[f"s{group}"] - len(names) / groups) <= 1


def test_unequal_strata_keep_their_shares() -> None:
    split = split_patients(index([40, 20, 20]), {"train": 40, "test": 20, "validation": 20})
    for part, share in (("train", 40), ("validation", 20), ("test", 20)):
        counts = Counter(name[:2] for name in getattr(split, part))
        assert abs(counts["s0"] - share / 2) <= 1
        assert abs(counts["s1"] - share / 4) <= 1


def test_other_seeds_give_other_splits() -> None:
    splits = {split_patients(index([20, 20]), {"test": 10}, seed) for seed in range(5)}
    assert len(splits) == 5


def test_only_labelled_patients_are_split() -> None:
    split = split_patients(index([10], labelled=6), {"test": 2})
    assert len(split.train) == 4
    assert set(split.train + split.test) == {f"s0p{n}" for n in range(6)}


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
    with pytest.raises(SegprefError, match="is no split file") as caught:
        Split.load(path)
    assert str(path) in str(caught.value)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="can't be read"):
        Split.load(tmp_path / "split.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SegprefError, match="is no split file"):
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
