from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from counting_backend import Counting
from segpref.data import (
    Cache,
    Dataset,
    Folders,
    LabelPlaces,
    PatchDraw,
    PredictionStore,
    Preparation,
    foreground_places,
    prepare,
)
from segpref.inference import WholeImages, mean_iou, score_model, whole_images
from segpref.judges import OracleJudge
from segpref.objectives import DPO
from segpref.policies import ModelCard, NetworkSpec, Segmenter, load_model, save_model
from segpref.preferences import Extremes, RoundPatches
from segpref.proposals import DropoutRates, SlateProposals, full_slates
from segpref.training import (
    AnchoredSignal,
    PreferenceRounds,
    PreferenceSignal,
    RunFolder,
    align,
    fit,
)
from segpref.types import IGNORE, Case, LabelSpace, SegprefError, Slate, Window

BALLS = ("background", "rind", "core")
SPACE = LabelSpace("multi-class", BALLS)
INPUT = Preparation(dims=3, normalise="z-score", patch=(16, 16, 8))
SPACING = (1.0, 1.0, 2.0)


def test_a_window_within_its_image_and_around_it() -> None:
    image = np.arange(12.0).reshape(1, 3, 4)
    inner = Window((1, 1), (2, 3), (3, 4))
    np.testing.assert_array_equal(inner.cut(image, -1), [[[5, 6, 7], [9, 10, 11]]])
    around = Window((-1, 0), (5, 4), (3, 4))
    assert around.inside == (slice(1, 4), slice(0, 4))
    cut = around.cut(image, -1)
    np.testing.assert_array_equal(cut[0, 1:4], image[0])
    assert (cut[0, [0, 4]] == -1).all()


@given(
    start=st.tuples(st.integers(-2, 3), st.integers(-2, 3), st.integers(-2, 3)),
    mirrored=st.sets(st.integers(0, 2)),
    lead=st.sampled_from([(), (2,), (2, 1)]),
)
def test_a_window_in_a_mirror(
    start: tuple[int, ...], mirrored: set[int], lead: tuple[int, ...]
) -> None:
    grid = (5, 4, 6)
    image = np.random.default_rng(0).permutation(np.prod((*lead, *grid))).reshape(*lead, *grid)
    plain = Window(start, (4, 5, 3), grid)
    window = replace(plain, mirrored=tuple(mirrored))
    cut = window.cut(image, -1)
    axes = [len(lead) + axis for axis in mirrored]
    np.testing.assert_array_equal(cut, np.flip(plain.cut(image, -1), axes))
    beyond = np.ones(window.size, bool)
    beyond[window.inside] = False
    np.testing.assert_array_equal(np.broadcast_to(beyond, cut.shape), cut == -1)


def test_places_are_shared_by_the_structures() -> None:
    mask = np.zeros((1, 6, 6, 6), np.uint8)
    mask[0, 1:5, 1:5, 1:5] = 1
    mask[0, 2, 3, 4] = 2  # one voxel of 64
    places = foreground_places(mask, SPACE)
    values = mask[0][tuple(places.T)]
    assert (values == 2).sum() == (values == 1).sum() == len(places) / 2
    assert (foreground_places(np.zeros((1, 4, 4), np.uint8), SPACE) == -1).all()
    whole = LabelSpace("multi-label", ("a", "b"))
    both = np.stack([mask[0] > 0, np.zeros_like(mask[0])]).astype(np.uint8)
    assert mask[0][tuple(foreground_places(both, whole).T)].min() == 1


def made_case(shape: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(1, *shape)).astype(np.float32)
    label = np.zeros((1, *shape), np.uint8)
    label[0, 0, 0, 0] = 1
    return Case(id="a", patient="a", volume="a", image=image, label=label)


def test_patches_lie_in_the_image_and_often_on_foreground() -> None:
    case = made_case((40, 30, 20))
    draw = PatchDraw(INPUT, LabelPlaces(SPACE), 2 / 3)
    patches = draw([case] * 300, range(300), 5)
    for patch in patches:
        assert patch.window is not None
        start = patch.window.start
        assert all(
            0 <= at <= full - n
            for at, n, full in zip(start, INPUT.patch or (), (40, 30, 20), strict=True)
        )
        box = tuple(slice(at, at + n) for at, n in zip(start, INPUT.patch or (), strict=True))
        np.testing.assert_array_equal(patch.image, case.image[(slice(None), *box)])
    corner = np.mean(
        [patch.window == Window((0, 0, 0), (16, 16, 8), (40, 30, 20)) for patch in patches]
    )
    assert corner == pytest.approx(2 / 3, abs=0.1)  # its place is the image's very corner
    again = draw([case] * 300, range(300), 5)
    assert [patch.window for patch in patches] == [patch.window for patch in again]
    assert [patch.window for patch in draw([case] * 9, range(9), 6)] != [
        patch.window for patch in patches[:9]
    ]


def test_what_is_beyond_the_image_is_its_lowest_intensity_and_has_no_label() -> None:
    case = made_case((10, 20, 8))
    draw = PatchDraw(INPUT, LabelPlaces(SPACE))
    (patch,) = draw([case], [0], 0)
    assert patch.label is not None
    assert patch.window is not None
    outside = np.ones(patch.image.shape[1:], bool)
    outside[patch.window.inside] = False
    assert outside.sum() == 6 * 16 * 8
    assert (patch.image[0][outside] == case.image.min()).all()
    np.testing.assert_array_equal(patch.label[0] == IGNORE, outside)


def test_every_second_patch_is_mirrored_where_the_model_is_used_in_a_mirror() -> None:
    case = replace(made_case((40, 30, 6)), raters=np.arange(2 * 7200).reshape(2, 1, 40, 30, 6))
    draw = PatchDraw(INPUT, LabelPlaces(SPACE))
    plain = draw([case] * 200, range(200), 5)
    patches = replace(draw, mirroring=(0, 2))([case] * 200, range(200), 5)
    seen = []
    for patch, before in zip(patches, plain, strict=True):
        assert patch.window is not None
        assert replace(patch.window, mirrored=()) == before.window
        axes = patch.window.mirrored
        seen.append(axes)
        for name in ("image", "label", "raters"):
            own, other = getattr(patch, name), getattr(before, name)
            turned = np.flip(other, [own.ndim - 3 + axis for axis in axes])
            np.testing.assert_array_equal(own, turned)
    for axes in ((), (0,), (2,), (0, 2)):
        assert np.mean([one == axes for one in seen]) == pytest.approx(0.25, abs=0.1)


def test_a_patch_excludes_a_fixed_size() -> None:
    with pytest.raises(SegprefError, match="a patch, or a size or crop, not both"):
        Preparation(dims=2, size=(8, 8), patch=(8, 8))
    with pytest.raises(SegprefError, match="patch needs 3 positive numbers"):
        Preparation(dims=3, patch=(8, 8))


# Volumes of sizes of their own, larger and smaller than the patch ----------------------------


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory, store: Cache) -> Dataset:
    root = tmp_path_factory.mktemp("balls")
    rng = np.random.default_rng(0)
    for number in range(9):
        shape = np.array([(26, 22, 12), (20, 24, 10), (14, 20, 12)][number % 3])
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * SPACING
        distance = np.linalg.norm(grid - shape * SPACING / 2 - rng.uniform(-2, 2, 3), axis=-1)
        label = ((distance < 7).astype(np.uint8) + (distance < 4)).astype(np.uint8)
        image = (1.0 * label + rng.normal(0, 0.7, shape)).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            (root / name).mkdir(exist_ok=True)
            made = nib.Nifti1Image(array, np.diag([*SPACING, 1]))
            made.header.set_xyzt_units("mm")
            nib.save(made, root / name / f"b{number}.nii.gz")
    return prepare(Folders(root, names=BALLS), INPUT, store)


def network(**changes: Any) -> NetworkSpec:
    settings = {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [6, 12], "strides": [2],
        "num_res_units": 1, "norm": "batch", **changes,
    }  # fmt: skip
    return NetworkSpec("monai.networks.nets.UNet", settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, balls: Dataset) -> Path:
    """Trained on two volumes, and then made to draw the core too small."""
    folder = RunFolder(tmp_path_factory.mktemp("base"))
    card = ModelCard(network(), SPACE, INPUT, labelled=("b0", "b1"))
    validation = balls.of_patients(["b6"])
    fit(
        balls.of_patients(["b0", "b1"]), validation, card, folder,
        epochs=60, images_per_epoch=4, batch_size=2, learning_rate=5e-3, seed=1,
    )  # fmt: skip
    model, card = load_model(folder.best)
    biases = [weight for weight in model.network.parameters() if weight.shape == (3,)]
    with torch.no_grad():
        biases[-1][2] -= 2.0
    path = folder.path / "biased.safetensors"
    save_model(path, model.network, card)
    return path


@pytest.mark.slow
def test_alignment_on_patches_fixes_what_is_wrong(
    base: Path, balls: Dataset, tmp_path: Path, store: Cache
) -> None:
    model, card = load_model(base)
    pool, validation = balls.of_patients(["b3", "b4", "b5"]), balls.of_patients(["b6", "b7", "b8"])
    expected = mean_iou(score_model(whole_images([model], card.preparation), validation))
    folder = RunFolder(tmp_path / "run")
    folder.open({}, resume=False)
    summary = align(
        base, pool, validation, OracleJudge(SPACE), PreferenceSignal(SPACE), folder,
        proposals=SlateProposals(12), epochs=5, images_per_epoch=12, batch_size=3,
        learning_rate=3e-4, cache=store,
    )  # fmt: skip
    first, *rows = folder.read_metrics()
    assert summary["val_iou_base"] == first["val_iou"] == pytest.approx(expected)
    assert summary["val_iou_peak"] > expected + 0.05
    assert all(row["pairs_per_image"] > 0.5 and row["pair_flip"] == 0 for row in rows)
    assert rows[-1]["volume_ratio_core"] > 1.2


@pytest.mark.slow
def test_compiled_patches_give_the_same(
    base: Path, balls: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpref.networks.compiled.BACKEND", backend := Counting())
    card = load_model(base)[1]
    pool, validation = balls.of_patients(["b3", "b4", "b5"]), balls.of_patients(["b8"])
    options = {"epochs": 1, "images_per_epoch": 6, "batch_size": 3, "learning_rate": 1e-3}
    made = []
    for compile in (False, True):
        folders = [RunFolder(tmp_path / f"{stage} {compile}") for stage in ("fit", "align")]
        for folder in folders:
            folder.open({}, resume=False)
        fit(
            balls.of_patients(["b0", "b1"]),
            validation,
            card,
            folders[0],
            compile=compile,
            **options,
        )
        assert (backend.runs > 0) == compile
        before = backend.runs
        align(
            base, pool, validation, OracleJudge(SPACE), PreferenceSignal(SPACE), folders[1],
            proposals=SlateProposals(8), compile=compile, **options,
        )  # fmt: skip
        assert (backend.runs > before) == compile
        made.append([load_file(folder.last) for folder in folders])
    for one, other in zip(*made, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_model_that_is_used_in_a_mirror_learns_in_it(
    base: Path, balls: Dataset, tmp_path: Path, store: Cache
) -> None:
    class Watched(OracleJudge):
        def score(self, case: Case, slate: Slate) -> np.ndarray:
            assert case.window is not None
            seen.append(case.window.mirrored)
            whole = next(one for one in pool if one.id == case.id)
            np.testing.assert_array_equal(
                case.window.cut(whole.image, case.image.min()), case.image
            )
            return super().score(case, slate)

    seen: list[tuple[int, ...]] = []
    pool = balls.of_patients(["b3", "b4"])
    model, card = load_model(base)
    for name, mirroring in (("plain", ()), ("mirrored", (1,))):
        path = tmp_path / f"{name}.safetensors"
        save_model(path, model.network, replace(card, mirroring=mirroring))
        folder = RunFolder(tmp_path / name)
        folder.open({}, resume=False)
        seen.clear()
        align(
            path, pool, balls.of_patients(["b6"]), Watched(SPACE), PreferenceSignal(SPACE), folder,
            proposals=SlateProposals(6), epochs=1, images_per_epoch=8, batch_size=2, cache=store,
        )  # fmt: skip
        assert set(seen) == {(), mirroring}
        assert load_model(folder.best)[1].mirroring == mirroring


def test_whole_images_are_those_of_windows(balls: Dataset) -> None:
    torch.manual_seed(0)
    model = Segmenter(network().build(), SPACE)
    whole = whole_images([model], INPUT)
    assert isinstance(whole, WholeImages)
    image = torch.from_numpy(np.array(balls[0].image))[None]
    logits = whole.logits(image)
    assert logits.shape == (1, 3, 26, 22, 12)
    assert whole_images([model], Preparation(dims=3, size=(16, 16, 8))) is model
    before = whole.digest()
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.mul_(1.5)
    assert whole.digest() != before  # it follows the policy
    assert not torch.equal(whole.logits(image), logits)


@pytest.mark.parametrize("mirroring", [(), (0, 1, 2)])
def test_a_judges_masks_of_a_patch_are_cut_from_those_of_its_image(
    mirroring: tuple[int, ...], balls: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = whole_images([Segmenter(network().build(), SPACE)], INPUT)
    masks = PredictionStore(whole, "masks", Cache(tmp_path))
    masks.prepare(balls)
    small = next(case for case in balls if case.image.shape[1] == 14)
    draw = PatchDraw(INPUT, LabelPlaces(SPACE), mirroring=mirroring)
    (patch,) = draw([small], [3], 0)
    assert patch.window is not None
    assert bool(patch.window.mirrored) == bool(mirroring)
    found = masks[patch]
    assert found.shape == (1, 16, 16, 8)
    np.testing.assert_array_equal(found, patch.window.cut(masks[small], IGNORE))
    assert (found == IGNORE).sum() == 2 * 16 * 8


def test_patches_that_stand_for_a_round(balls: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = Segmenter(network().build(), SPACE)
    policy.network.eval()
    # Of one size, so that they can be a batch; the second kind is smaller than the patch.
    pool = balls.take([0, 2])
    draw = PatchDraw(INPUT, LabelPlaces(SPACE), mirroring=(0, 2))
    patches = RoundPatches(draw, len(pool), every=6, seed=3)
    made = PreferenceRounds(
        policy, lambda _, images: policy.logits(images), pool, OracleJudge(SPACE), SlateProposals(6),
        tmp_path, every=6, seed=3, batch_size=3, patches=patches,
    )  # fmt: skip

    def cut(indices: list[int], epoch: int, step: int = 0) -> list[Case]:
        return patches([pool[i] for i in indices], indices, epoch, step)

    windows = [[case.window for case in cut([0, 1], epoch)] for epoch in range(12)]
    # Four of every image, in turn, at every step of an epoch; others in the next round.
    assert windows[0] == [case.window for case in cut([0, 1], 0, step=5)] == windows[4]
    assert windows[5] == windows[1] != windows[0]
    assert len({row[0] for row in windows[:6]}) == 4
    assert windows[6] != windows[0]
    for epoch in (0, 1, 6, 9):
        indices = [1, 0]
        cases = cut(indices, epoch)
        images = torch.from_numpy(np.stack([case.image for case in cases]))
        state = policy.forward(images)
        found = made(indices, cases, images, state, epoch, 0)
        for row, case in enumerate(cases):
            assert case.window is not None
            beyond = np.ones(case.image.shape[1:], bool)
            beyond[case.window.inside] = False
            slate = found.slates[row]
            assert (slate.masks[:, 0][:, beyond] == IGNORE).all()
            # Nothing was learned, so the anchor of the set is the policy's prediction of this patch.
            predicted = SPACE.decode(state.logits[row : row + 1].detach())[0].numpy()
            predicted[:, beyond] = IGNORE
            np.testing.assert_array_equal(slate.masks[0], predicted)
            np.testing.assert_array_equal(found.scores[row], OracleJudge(SPACE).score(case, slate))


@pytest.mark.slow
def test_rounds_of_mapo_on_patches_go_on_where_they_were_killed(
    base: Path, balls: Dataset, tmp_path: Path, store: Cache
) -> None:
    class Killed(OracleJudge):
        calls = 0

        def score(self, case: Case, slate: Slate) -> np.ndarray:
            Killed.calls += 1
            if Killed.calls == 8:  # in the second round's set
                raise KeyboardInterrupt
            return super().score(case, slate)

    def run(name: str, judge: OracleJudge, resume: bool = False) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        folder.open({}, resume)
        signal = AnchoredSignal(SPACE, PreferenceSignal(SPACE, Extremes(1e-3), DPO(0.1), "image"))
        align(
            base, balls.of_patients(["b0", "b2"]), balls.of_patients(["b6"]), judge, signal, folder,
            proposals=full_slates(DropoutRates((0.0, 0.3, 0.6))), epochs=4, batch_size=2, refresh=2,
            learning_rate=1e-3, checkpoint_seconds=0, cache=store,
        )  # fmt: skip
        return folder

    whole = run("whole", OracleJudge(SPACE, "dice"))
    shares = [row["images_with_pair"] for row in whole.read_metrics()[1:]]
    assert max(shares) > 0
    with pytest.raises(KeyboardInterrupt):
        run("part", Killed(SPACE, "dice"))
    part = run("part", OracleJudge(SPACE, "dice"), resume=True)
    assert part.read_metrics() == whole.read_metrics()
    first, second = load_file(whole.last), load_file(part.last)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
