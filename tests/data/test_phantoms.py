"""Phantoms: the same every time, anatomically right, confusable, and readable from disk."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, generate_binary_structure, label

from segpref.data import Folders
from segpref.data.phantoms import (
    PATIENT_PATTERN,
    Chest,
    Field,
    Grid,
    Heart,
    Kind,
    label_space,
    make_phantom,
    write_phantoms,
)
from segpref.types import SegprefError

SIZES = [
    ("cardiac", (64, 48)),
    ("cardiac", (40, 32, 12)),
    ("chest", (64, 48)),
    ("chest", (32, 24, 36)),
]
EDGES = generate_binary_structure(2, 1)


def heart(seed: int) -> Heart:
    return Heart.draw(np.random.default_rng(seed))


def slice_of(seed: int, level: float = 0.4, systole: bool = False, size: int = 64) -> tuple:
    image, labels = heart(seed).image((size, size, 1), level, systole, np.random.default_rng(seed))
    return image[..., 0], labels[..., 0]


@pytest.mark.parametrize(("kind", "size"), SIZES)
def test_a_seed_gives_one_case_and_another_seed_gives_another(
    kind: Kind, size: tuple[int, ...]
) -> None:
    first, again, other = (make_phantom(kind, size, seed) for seed in (3, 3, 4))
    assert first.label is not None
    assert first.image.dtype == np.float32
    assert first.label.dtype == np.uint8
    assert first.image.shape == (1, *size)
    assert first.label.shape == (label_space(kind).fields, *size)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    assert (first.image != other.image).mean() > 0.5
    assert first.spacing_mm is not None
    assert len(first.spacing_mm) == len(size)
    assert (first.affine is None) == (len(size) == 2)
    if first.affine is not None:
        np.testing.assert_allclose(np.diag(first.affine)[:3], first.spacing_mm)


def test_making_a_phantom_leaves_the_global_random_state_alone() -> None:
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    make_phantom("chest", (32, 32), 0)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize(("kind", "size"), SIZES)
def test_grey_values_are_what_a_file_can_hold(kind: Kind, size: tuple[int, ...]) -> None:
    for seed in range(4):
        image = make_phantom(kind, size, seed).image
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 65535
        np.testing.assert_array_equal(image, np.rint(image))
        assert len(np.unique(image)) > 100


def test_a_chest_has_all_structures_and_clavicles_overlap_the_lungs() -> None:
    for seed in range(10):
        mask = make_phantom("chest", (96, 96), seed).label
        assert mask is not None
        assert set(np.unique(mask)) == {0, 1}
        left, right, left_lung, right_lung, heart_mask = mask.astype(bool)
        assert mask.reshape(5, -1).sum(axis=1).min() > 40
        assert (left & left_lung).sum() > 5
        assert (right & right_lung).sum() > 5
        assert not ((left_lung | right_lung) & heart_mask).any()
        assert not (left_lung & right_lung).any()
        # On a film the patient's left is on the right, and clavicles are above the heart.
        rows, columns = np.indices(left.shape)
        assert columns[left_lung].mean() > columns[right_lung].mean()
        assert columns[left].mean() > columns[right].mean()
        assert rows[left].mean() < rows[heart_mask].mean()


def test_a_chest_volume_has_the_same_anatomy_in_ras_axes() -> None:
    mask = make_phantom("chest", (32, 32, 32), 1).label
    assert mask is not None
    x, _, z = np.indices(mask.shape[1:])
    left, right, left_lung, right_lung, heart_mask = mask.astype(bool)
    assert x[left_lung].mean() < x[right_lung].mean()
    assert z[left].mean() > z[heart_mask].mean()
    assert (left & left_lung).any()
    assert (right & right_lung).any()


@pytest.mark.parametrize("systole", [False, True])
@pytest.mark.parametrize("size", [48, 64, 128])
def test_the_myocardium_surrounds_the_ventricle_in_the_middle(size: int, systole: bool) -> None:
    for seed in range(12):
        for level in (0.3, 0.5):
            _, labels = slice_of(seed, level, systole, size)
            assert set(np.unique(labels)) == {0, 1, 2, 3}
            ventricle = labels == 3
            around = binary_dilation(ventricle, EDGES) & ~ventricle
            assert (labels[around] == 2).all()
            ring, parts = label(labels == 2)
            assert parts == 1
            # The background falls apart into outside and inside only where the ring is closed.
            assert label(ring == 0)[1] == 2


def test_a_closed_ring_in_volumes_too() -> None:
    for seed in range(3):
        labels = heart(seed).image((32, 32, 12), 0, False, np.random.default_rng(0))[1]
        middle = labels[..., 5]
        ventricle = middle == 3
        assert ventricle.any()
        around = binary_dilation(ventricle, EDGES) & ~ventricle
        assert (middle[around] == 2).all()


def test_a_slice_is_cut_from_the_volume() -> None:
    patient = heart(5)
    before, after = patient.margins
    volume = patient.image((48, 48, 6), 0, False, np.random.default_rng(0))[1]
    level = (3.5 / 6) * (1 + before + after) - before
    single = patient.image((48, 48, 1), level, False, np.random.default_rng(0))[1]
    assert (volume[..., 3] == single[..., 0]).mean() > 0.999


def test_the_heart_contracts_and_narrows_towards_the_apex() -> None:
    for seed in range(10):
        areas = [(slice_of(seed, level)[1] == 3).sum() for level in (0.1, 0.5, 0.8)]
        assert all(near > far for near, far in pairwise(areas))
        assert (slice_of(seed, 0.4, systole=True)[1] == 3).sum() < 0.8 * (
            slice_of(seed, 0.4)[1] == 3
        ).sum()
        assert not slice_of(seed, 1.1)[1].any()
        assert not slice_of(seed, -0.1)[1].any()


def test_structures_vanish_or_are_tiny_in_some_slices_only() -> None:
    ventricles = [
        (slice_of(seed, float(level))[1] == 1).sum()
        for seed in range(20)
        for level in heart(seed).levels(6)
    ]
    small = np.mean(np.array(ventricles) < 15)
    assert 0.03 < small < 0.4


def test_patients_differ_in_size_and_position() -> None:
    sizes, centres = [], []
    for seed in range(40):
        ventricle = slice_of(seed)[1] == 3
        sizes.append(ventricle.sum())
        centres.append(np.argwhere(ventricle).mean(axis=0))
    assert np.std(sizes) / np.mean(sizes) > 0.15
    assert (np.std(centres, axis=0) > 2).all()
    chests = [make_phantom("chest", (64, 64), seed).label for seed in range(30)]
    areas = np.array([mask.reshape(5, -1).sum(axis=1) for mask in chests if mask is not None])
    assert (areas.std(axis=0) / areas.mean(axis=0) > 0.1).all()


def test_grey_values_alone_do_not_tell_the_heart_from_its_surroundings() -> None:
    """Thresholds chosen with the truth in hand still take in much background, area by area."""
    shares = []
    for seed in range(30):
        image, labels = slice_of(seed)
        alike = {}
        for structure in (2, 3):
            low, high = np.percentile(image[labels == structure], [10, 90])
            inside = (image >= low) & (image <= high)
            alike[structure] = (inside & (labels == 0)).sum() / (
                inside & (labels == structure)
            ).sum()
        shares.append([alike[2], alike[3]])
    muscle, blood = np.median(shares, axis=0)
    assert muscle > 2
    assert blood > 0.15
    assert np.mean(np.array(shares)[:, 1] > 0.1) > 0.7


def test_ribs_and_other_bones_look_like_clavicles() -> None:
    shares = []
    for seed in range(20):
        case = make_phantom("chest", (96, 96), seed)
        assert case.label is not None
        clavicles = case.label[:2].any(axis=0)
        low, high = np.percentile(case.image[0][clavicles], [20, 80])
        alike = (case.image[0] >= low) & (case.image[0] <= high)
        shares.append((alike & ~clavicles).sum() / (alike & clavicles).sum())
    assert np.median(shares) > 2


def test_contrast_varies_between_patients() -> None:
    ratios = []
    for seed in range(40):
        image, labels = slice_of(seed)
        ratios.append(image[labels == 3].mean() / image[labels == 2].mean())
    assert min(ratios) > 1.05
    assert max(ratios) / min(ratios) > 1.5


def test_a_smooth_field_is_standard_and_the_same_on_every_grid() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([Field.draw(rng, 5).on(Grid.of((24, 20, 16))) for _ in range(300)])
    np.testing.assert_allclose(values.std(axis=0), 1, atol=0.25)
    assert abs(values.mean()) < 0.05
    field = Field.draw(rng, 5)
    coarse, fine = field.on(Grid.of((11, 11, 1))), field.on(Grid.of((33, 33, 1)))
    np.testing.assert_allclose(coarse, fine[1::3, 1::3], atol=1e-5)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_cardiac_slices_come_back_from_disk(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "c", "cardiac", (40, 36), 2, 7, slices_per_patient=3)
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert len(names) == 12
    assert names[0] == "phantom000_t0_s0.nii.gz"
    assert names == sorted(path.name for path in (folder / "labels").iterdir())
    patients = {re.match(PATIENT_PATTERN, name)[1] for name in names}  # type: ignore[index]
    assert patients == {"phantom000", "phantom001"}
    found = nib.load(folder / "labels" / "phantom001_t1_s1.nii.gz")
    assert found.shape == (40, 36)
    patient = Heart.draw(np.random.default_rng([7, 1]))
    _, expected = patient.image(
        (40, 36, 1), float(patient.levels(3)[1]), True, np.random.default_rng([7, 1, 4])
    )
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected[..., 0])
    assert found.header.get_zooms() == pytest.approx((170 / 40, 170 / 36))


def test_the_reader_of_plain_folders_reads_them(tmp_path: Path) -> None:
    chest, cardiac = label_space("chest"), label_space("cardiac")
    write_phantoms(tmp_path / "chest", "chest", (48, 40), 2, 1)
    write_phantoms(tmp_path / "chest3", "chest", (20, 18, 16), 1, 1)
    write_phantoms(tmp_path / "cardiac", "cardiac", (32, 24), 2, 1, slices_per_patient=2)
    write_phantoms(tmp_path / "cardiac3", "cardiac", (32, 24, 8), 1, 1)
    for name, space, size, count in (
        ("chest", chest, (48, 40), 2),
        ("chest3", chest, (20, 18, 16), 1),
        ("cardiac", cardiac, (32, 24), 8),
        ("cardiac3", cardiac, (32, 24, 8), 2),
    ):
        reader = Folders(tmp_path / name, names=space.names, patient_pattern=PATIENT_PATTERN)
        assert reader.label_space == space
        assert len(reader.sources()) == count
        case = reader.read(reader.sources()[0])
        assert case.patient == "phantom000"
        assert case.image.shape == (1, *size)
        assert case.label is not None
        assert case.label.shape == (space.fields, *size)
        if name.startswith("chest"):
            patient = Chest.draw(np.random.default_rng([1, 0]))
            shape = size if len(size) == 3 else (size[1], 1, size[0])
            grey, mask = patient.image(shape, np.random.default_rng([1, 0, 0]))
            grey = np.rint(np.minimum(grey * 30000, 65535))
            if len(size) == 2:
                grey, mask = grey[::-1, 0, ::-1].T, mask[:, ::-1, 0, ::-1].swapaxes(1, 2)
            np.testing.assert_array_equal(case.label, mask)
            np.testing.assert_array_equal(case.image[0], grey)


def test_chest_pictures_have_sixteen_bits_and_masks_eight(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path, "chest", (32, 32), 1, 0)
    with Image.open(folder / "images" / "phantom000.png") as picture:
        assert np.asarray(picture).dtype == np.uint16
        assert np.asarray(picture).max() > 255
    for name in label_space("chest").structures:
        with Image.open(folder / "masks" / name / "phantom000.png") as picture:
            assert picture.mode == "L"
            assert set(np.unique(np.asarray(picture))) <= {0, 255}


def test_an_interrupted_call_can_be_repeated(tmp_path: Path) -> None:
    def write() -> dict[str, bytes]:
        write_phantoms(tmp_path / "p", "chest", (24, 24), 3, 5)
        return contents(tmp_path / "p")

    whole = write()
    kept = tmp_path / "p" / "images" / "phantom002.png"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "p" / "images" / "phantom001.png").unlink()
    (tmp_path / "p" / "masks" / "heart" / "phantom000.png").unlink()
    assert write() == whole
    assert kept.stat().st_mtime_ns == stamp


def test_a_larger_count_begins_with_the_same_patients(tmp_path: Path) -> None:
    few = contents(write_phantoms(tmp_path / "few", "chest", (24, 24), 1, 5))
    many = contents(write_phantoms(tmp_path / "many", "chest", (24, 24), 2, 5))
    assert {name: many[name] for name in few if name.endswith("png")} == {
        name: data for name, data in few.items() if name.endswith("png")
    }


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "p", "chest", (24, 24), 1, 5)
    with pytest.raises(SegprefError, match="other settings"):
        write_phantoms(tmp_path / "p", "chest", (24, 24), 1, 6)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(SegprefError, match="something else"):
        write_phantoms(tmp_path / "mine", "chest", (24, 24), 1, 5)
    assert json.loads((tmp_path / "p" / "phantoms.json").read_text())["seed"] == 5


@pytest.mark.parametrize(
    ("kind", "size", "seed", "count", "message"),
    [
        ("brain", (32, 32), 0, 1, "brain"),
        ("chest", (32,), 0, 1, "size"),
        ("chest", (8, 32), 0, 1, "size"),
        ("cardiac", (32, 32, 1), 0, 1, "size"),
        ("cardiac", (32, 32), 0, 0, "at least one patient"),
        ("cardiac", (32, 32), -1, 1, "seed"),
    ],
)
def test_what_cannot_be_generated_is_said_in_a_sentence(
    tmp_path: Path, kind: Kind, size: tuple[int, ...], seed: int, count: int, message: str
) -> None:
    with pytest.raises(SegprefError, match=message):
        write_phantoms(tmp_path, kind, size, count, seed)
    if count:
        with pytest.raises(SegprefError, match=message):
            make_phantom(kind, size, seed)
    assert not list(tmp_path.iterdir())
