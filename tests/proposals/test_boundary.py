"""Boundary offsets: worked masks, SciPy distances, conservative conflict resolution."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from segpref.proposals import (
    InterfaceOffset,
    LabelMap,
    ProposalContext,
    StructureOffset,
    UniformOffset,
    interfaces_by_contact,
    labelmap,
    offset,
    offset_interface,
    offset_structure,
)
from segpref.types import LabelSpace, SegprefError

CARDIAC = LabelSpace("multi-class", ("background", "RV", "MYO", "LV"))
CHEST = LabelSpace("multi-label", ("lung", "heart"))
LABELS = st.one_of(
    hnp.arrays(np.uint8, (8, 9), elements=st.sampled_from([0, 0, 0, 1, 2, 3])),
    hnp.arrays(np.uint8, (4, 5, 6), elements=st.sampled_from([0, 0, 0, 1, 2, 3])),
)
DISTANCES = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.2])
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (0.5, 2.0, 1.0), (1.5, 1.5, 1.5)])


def field(labels: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> LabelMap:
    return LabelMap(labels, 4, spacing[: labels.ndim])


def row(text: str) -> LabelMap:
    return LabelMap(np.array([[int(digit) for digit in text]], np.uint8), 4, (1.0, 1.0))


def drawn(field: LabelMap) -> str:
    return "".join(map(str, field.labels[0]))


def context(
    anchor: np.ndarray,
    space: LabelSpace = CARDIAC,
    spacing_mm: tuple[float, ...] | None = None,
) -> ProposalContext:
    logits = np.zeros((space.channels, *anchor.shape[1:]), np.float32)
    return ProposalContext(logits, anchor, space, spacing_mm, rng=np.random.default_rng(0))


def to(value: int, labels: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    if not np.any(labels == value):
        return np.full(labels.shape, np.inf)
    return ndimage.distance_transform_edt(labels != value, sampling=spacing[: labels.ndim])


def within(distance: np.ndarray, reach: float) -> np.ndarray:
    return np.asarray(distance <= reach * (1 + 2e-6))


def test_uniform_offsets_by_hand() -> None:
    assert drawn(offset(row("0001110000"), 1)) == "0011111000"
    assert drawn(offset(row("0001110000"), -1)) == "0000100000"
    assert drawn(offset(row("0001110000"), -2)) == "0000000000"
    assert drawn(offset(row("0100002000"), 3)) == "1111222222"[:10]


def test_expansion_stops_half_way_and_ties_go_to_the_lower_class() -> None:
    assert drawn(offset(row("0200010"), 2)) == "2221111"
    assert drawn(offset_structure(row("0100020"), 1, 6)) == "1111020"
    assert drawn(offset_structure(row("0100020"), 2, 6)) == "0100222"


def test_shrinking_gives_to_the_background_even_between_structures() -> None:
    assert drawn(offset_structure(row("1112220"), 2, -1)) == "1110200"
    assert drawn(offset(row("0111122220"), -1)) == "0011002200"


def test_interfaces_exchange_pixels_between_the_two_only() -> None:
    assert drawn(offset_interface(row("0333222110"), 3, 2, 1)) == "0333322110"
    assert drawn(offset_interface(row("0333222110"), 3, 2, -2)) == "0322222110"
    assert drawn(offset_interface(row("0333222110"), 3, 2, 9)) == "0333333110"
    assert drawn(offset_interface(row("0333222110"), 3, 0, 1)) == "3333222110"
    assert drawn(offset_interface(row("0333222110"), 3, 0, -1)) == "0033222110"
    assert drawn(offset_interface(row("0333222110"), 0, 3, 1)) == "0033222110"


def test_the_image_border_is_not_a_boundary() -> None:
    assert drawn(offset(row("1110000"), -1)) == "1100000"


def test_offsets_are_in_millimetres_along_each_axis() -> None:
    labels = np.zeros((5, 5), np.uint8)
    labels[2, 2] = 1
    grown = offset(LabelMap(labels, 2, (3.0, 1.0)), 2.0).labels
    assert grown.tolist()[2] == [1, 1, 1, 1, 1]
    assert grown.sum() == 5


@pytest.mark.slow
@settings(max_examples=150)
@given(LABELS, DISTANCES, SPACINGS)
def test_uniform_offset_is_scipys(
    labels: np.ndarray, distance: float, spacing: tuple[float, ...]
) -> None:
    every = np.stack([to(value, labels, spacing) for value in (1, 2, 3)])
    grown = np.where(within(every.min(axis=0), distance), every.argmin(axis=0) + 1, 0)
    if np.any(labels):
        np.testing.assert_array_equal(offset(field(labels, spacing), distance).labels, grown)
    shrunk = labels.copy()
    for value in (1, 2, 3):
        if not np.all(labels == value):
            depth = ndimage.distance_transform_edt(labels == value, sampling=spacing[: labels.ndim])
            shrunk[(labels == value) & within(depth, distance)] = 0
    np.testing.assert_array_equal(offset(field(labels, spacing), -distance).labels, shrunk)


@settings(max_examples=150)
@given(LABELS, DISTANCES, SPACINGS, st.permutations([0, 1, 2, 3]))
def test_interface_offset_is_scipys(
    labels: np.ndarray, distance: float, spacing: tuple[float, ...], values: list[int]
) -> None:
    winner, loser = values[:2]
    near = (labels == loser) & within(to(winner, labels, spacing), distance)
    if loser == 0:
        others = [to(value, labels, spacing) for value in (1, 2, 3) if value != winner]
        own = to(winner, labels, spacing)
        lower = [to(value, labels, spacing) for value in range(1, winner)]
        near &= np.all([own <= other for other in others], axis=0)
        near &= np.all([own < other for other in lower], axis=0) if lower else True
    expected = np.where(near, winner, labels)
    moved = offset_interface(field(labels, spacing), winner, loser, distance)
    np.testing.assert_array_equal(moved.labels, expected)
    back = offset_interface(field(labels, spacing), loser, winner, -distance)
    np.testing.assert_array_equal(back.labels, expected)


@settings(max_examples=100)
@given(LABELS, DISTANCES, DISTANCES)
def test_shrunk_is_inside_the_anchor_is_inside_expanded(
    labels: np.ndarray, one: float, other: float
) -> None:
    short, long = sorted((one, other))
    start = field(labels)
    for move in (offset, lambda f, d: offset_structure(f, 2, d)):
        grown, more = move(start, short).labels, move(start, long).labels
        assert np.all((grown == labels) | (labels == 0))
        assert np.all((more == grown) | (grown == 0))
        shrunk, less = move(start, -short).labels, move(start, -long).labels
        assert np.all((shrunk == labels) | (shrunk == 0))
        assert np.all((less == shrunk) | (less == 0))


@settings(max_examples=60)
@given(LABELS, DISTANCES, st.sampled_from([-1, 1]))
def test_one_structure_moves_and_the_others_stay(
    labels: np.ndarray, distance: float, sign: int
) -> None:
    moved = offset_structure(field(labels), 2, sign * distance).labels
    changed = moved != labels
    assert set(moved[changed].tolist()) <= {2 if sign > 0 else 0}
    assert set(labels[changed].tolist()) <= {0 if sign > 0 else 2}


@settings(max_examples=40)
@given(LABELS)
def test_offset_zero_is_the_identity(labels: np.ndarray) -> None:
    start = field(labels)
    assert offset(start, 0.0) is start
    assert offset_structure(start, 1, 0.0) is start
    np.testing.assert_array_equal(offset_interface(start, 1, 2, 0.0).labels, labels)


@settings(max_examples=40)
@given(hnp.arrays(np.uint8, (8, 9), elements=st.sampled_from([0, 0, 1, 2])), DISTANCES)
def test_one_slice_of_a_volume_is_an_image(labels: np.ndarray, distance: float) -> None:
    solid = LabelMap(labels[np.newaxis], 4, (7.0, 1.0, 1.0))
    for signed in (distance, -distance):
        np.testing.assert_array_equal(
            offset(solid, signed).labels[0], offset(field(labels), signed).labels
        )


def test_interfaces_come_by_contact() -> None:
    labels = np.array([[0, 2, 3, 2], [0, 2, 3, 2], [0, 2, 2, 2]], np.uint8)
    assert interfaces_by_contact(field(labels)) == [(3, 2), (2, 0)]
    assert interfaces_by_contact(field(np.zeros((3, 3), np.uint8))) == []


@settings(max_examples=60)
@given(hnp.arrays(np.uint8, (5, 6), elements=st.integers(0, 3)))
def test_contact_is_counted_face_by_face(labels: np.ndarray) -> None:
    faces: dict[tuple[int, int], int] = {}
    for y, x in np.ndindex(labels.shape):
        for other in ((y + 1, x), (y, x + 1)):
            if other[0] < 5 and other[1] < 6 and labels[y, x] != labels[other]:
                low, high = sorted((int(labels[y, x]), int(labels[other])))
                faces[high, low] = faces.get((high, low), 0) + 1
    expected = sorted(faces, key=lambda pair: (-faces[pair], pair))
    assert interfaces_by_contact(field(labels)) == expected


def ring() -> np.ndarray:
    y, x = np.mgrid[:40, :40]
    radius = np.hypot(y - 20, x - 20)
    return np.select([radius < 6, radius < 11], [3, 2], 0).astype(np.uint8)[np.newaxis]


def test_candidates_name_structure_offset_and_unit() -> None:
    found = [dict(s) for s, _ in islice(UniformOffset()(context(ring())), 4)]
    assert found == [{"offset_voxels": size} for size in (2.0, -2.0, 1.0, -1.0)]
    found = [dict(s) for s, _ in islice(UniformOffset()(context(ring(), spacing_mm=(1.5, 3.0))), 2)]
    assert found == [{"offset_mm": 3.0}, {"offset_mm": -3.0}]
    found = [dict(s) for s, _ in islice(StructureOffset(["LV"], [1.0])(context(ring())), 2)]
    assert found == [
        {"structure": "LV", "offset_voxels": 1.0},
        {"structure": "LV", "offset_voxels": -1.0},
    ]
    family = InterfaceOffset([("LV", "MYO"), ("MYO", "background")], offsets=[1.0])
    found = [dict(s) for s, _ in islice(family(context(ring())), 3)]
    assert [one["interface"] for one in found] == ["LV-MYO", "LV-MYO", "MYO-background"]


def test_interfaces_are_found_where_none_are_named() -> None:
    found = [dict(s) for s, _ in islice(InterfaceOffset()(context(ring())), 4)]
    assert [one["interface"] for one in found] == ["MYO-background"] * 2 + ["LV-MYO"] * 2


def test_random_offsets_follow_the_given_ones() -> None:
    sizes = [s["offset_voxels"] for s, _ in islice(UniformOffset([2.0])(context(ring())), 12)]
    assert sizes[:2] == [2.0, -2.0]
    assert len(set(sizes)) == 12
    assert max(map(abs, sizes)) <= 3.0


def test_distances_are_measured_for_the_first_offset_and_then_beyond_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reaches = []
    measured = labelmap.distances

    def noted(*given: object) -> object:
        reaches.append(given[-1])
        return measured(*given)

    monkeypatch.setattr(labelmap, "distances", noted)
    candidates = UniformOffset([1.0, 2.0])(context(ring()))
    list(islice(candidates, 2))
    assert reaches == [1.0]
    list(islice(candidates, 30))
    assert reaches == [1.0, 1.25 * 3.0]


def test_steps_grow_with_the_image() -> None:
    wide = np.zeros((1, 4, 512), np.uint8)
    assert context(wide).step == 2.0
    assert context(wide, spacing_mm=(0.7, 0.9)).step == pytest.approx(1.4)


def test_families_leave_other_label_spaces_and_what_is_absent_alone() -> None:
    two = np.concatenate([ring() > 0, ring() > 0]).astype(np.uint8)
    assert list(StructureOffset()(context(two, CHEST))) == []
    assert list(InterfaceOffset()(context(two, CHEST))) == []
    assert list(StructureOffset(["RV"])(context(ring()))) == []
    assert list(InterfaceOffset([("RV", "LV")])(context(ring()))) == []
    assert list(UniformOffset()(context(np.zeros((1, 5, 5), np.uint8)))) == []


def test_a_wrong_name_and_a_wrong_offset_are_refused() -> None:
    with pytest.raises(SegprefError, match=r"'RA'.*background, RV, MYO, LV"):
        next(iter(StructureOffset(["RA"])(context(ring()))))
    with pytest.raises(SegprefError, match="above 0"):
        UniformOffset([1.0, -2.0])
