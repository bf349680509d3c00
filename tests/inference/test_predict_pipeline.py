"""Images in batches, read and written while the network is busy: the masks of one after another."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from test_predict import CLASSES, STRUCTURES, card_of, folder, noise, save_nifti

from segpref.data import Images, Preparation
from segpref.data import volumes as data_volumes
from segpref.data.phantoms import write_phantoms
from segpref.inference import (
    WindowedNetwork,
    mask_formats,
    mask_maker,
    pipeline,
    predict,
    predict_folder,
    sliding,
)
from segpref.policies import ModelCard, NetworkSpec, OpenModel, Segmenter
from segpref.studies import default_network
from segpref.types import Case, LabelSpace, SegprefError

Watch = Callable[[torch.Tensor], None]


class Watched(Segmenter):
    """Tells of every batch before it is passed on."""

    def __init__(self, network: torch.nn.Module, space: LabelSpace, watch: Watch) -> None:
        super().__init__(network, space)
        self._watch = watch

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        self._watch(images)
        return super().logits(images)


def opened(card: ModelCard, watch: Watch = lambda _: None) -> OpenModel:
    torch.manual_seed(0)
    policy = Watched(card.network.build(), card.label_space, watch)
    return OpenModel(Path("model"), card, {"model": lambda: policy}, None)


def exact(model: OpenModel) -> OpenModel:
    """The same in double precision, so that passes of batches differ too little to turn a pixel.

    In single precision logits of an untrained network differ by 1e-6 of their size, and now and then
    one of 10,000 pixels is a tie.
    """
    policy = model.policies()[0]
    policy.network.double()
    logits = policy.logits
    policy.logits = lambda images: logits(images.double())
    return model


def one_by_one(model: OpenModel, images: Path, output: Path, **options: Any) -> list[Path]:
    """What a worker of a pool does: no batches and no threads."""
    make = mask_maker.MaskMaker(model, mask_maker.MaskOptions(**options))
    reader = Images(images, channels=model.card.channels)
    todo = [(one, output / one.images[0].name) for one in reader.sources()]
    return predict.each_image(reader, todo, make, output, {})


def grey(path: Path, shape: tuple[int, int], seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def pictures(place: Path, count: int, shape: tuple[int, int] = (6, 8)) -> Path:
    for number in range(count):
        grey(folder(place) / f"{number:02d}.png", shape, number)
    return place


def unet(space: LabelSpace, preparation: Preparation) -> ModelCard:
    spec = default_network(preparation.dims).for_data(1, space.channels)
    return ModelCard(spec, space, preparation)


def same_bytes(ours: Sequence[Path], theirs: Sequence[Path]) -> bool:
    names = [path.name for path in ours] == [path.name for path in theirs]
    return names and same_masks(ours, theirs)


def same_masks(ours: Sequence[Path], theirs: Sequence[Path]) -> bool:
    return all(a.read_bytes() == b.read_bytes() for a, b in zip(ours, theirs, strict=True))


# The same masks


@pytest.mark.parametrize("space", [CLASSES, STRUCTURES], ids=["classes", "structures"])
@pytest.mark.parametrize("size", [None, (48, 40)], ids=["own size", "resized"])
def test_masks_are_those_of_one_image_after_another(
    tmp_path: Path, space: LabelSpace, size: tuple[int, int] | None
) -> None:
    data = write_phantoms(tmp_path / "data", "cardiac", (64, 48), 4, seed=0, slices_per_patient=3)
    images = folder(tmp_path / "images")
    for path in sorted((data / "images").iterdir())[:12]:
        # Uncompressed, for the header of gzip names the unfinished file.
        nib.save(nib.load(path), images / path.name.removesuffix(".gz"))
    for seed, name in enumerate(("m0", "m1", "q0")):
        grey(images / f"{name}.png", (40, 56), seed)
    seen: list[int] = []
    card = unet(space, Preparation(size=size))
    model = exact(opened(card, lambda batch: seen.append(len(batch))))
    ours = predict_folder(model, images, tmp_path / "ours", batch_size=4)
    assert max(seen) == 4
    theirs = one_by_one(model, images, tmp_path / "theirs")
    assert same_bytes(ours, theirs)
    assert len({path.read_bytes() for path in ours}) == 15 * space.fields


@pytest.mark.slow
def test_masks_of_small_volumes_are_those_of_one_after_another(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    for seed, depth in enumerate((20, 24, 20, 18)):
        save_nifti(images / f"{seed}.nii", noise((20, 24, depth), seed))
    seen: list[int] = []
    card = unet(CLASSES, Preparation(dims=3, crop=(16, 32, 16), orientation="LPS"))
    model = exact(opened(card, lambda batch: seen.append(len(batch))))
    ours = predict_folder(model, images, tmp_path / "ours")
    assert seen == [4]
    assert same_bytes(ours, one_by_one(model, images, tmp_path / "theirs"))


# Batches


def batches_of(images: Path, output: Path, preparation: Preparation, **options: Any) -> list[int]:
    seen: list[int] = []
    card = card_of(preparation)
    predict_folder(opened(card, lambda batch: seen.append(len(batch))), images, output, **options)
    return seen


def test_images_of_one_size_that_follow_one_another_go_together(tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 10)
    for number in (5, 6):
        grey(images / f"{number:02d}.png", (8, 6))
    kept = Preparation(normalise="min-max")
    assert batches_of(images, tmp_path / "a", kept, batch_size=4) == [4, 1, 2, 3]
    resized = Preparation(normalise="min-max", size=(8, 8))
    assert batches_of(images, tmp_path / "b", resized, batch_size=4) == [4, 4, 2]
    assert batches_of(images, tmp_path / "c", resized, batch_size=1) == [1] * 10


def test_large_images_go_together_as_far_as_two_batches_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(tmp_path / "images", 7)
    kept = Preparation(normalise="min-max")
    # An image and its network input have 48 numbers each.
    monkeypatch.setattr(pipeline, "_NUMBERS", 3 * 96)
    assert batches_of(images, tmp_path / "a", kept) == [3, 3, 1]
    monkeypatch.setattr(pipeline, "_NUMBERS", 95)
    assert batches_of(images, tmp_path / "b", kept) == [1] * 7


def test_windows_and_slices_go_as_before(tmp_path: Path) -> None:
    images = folder(tmp_path / "images")
    for seed in range(3):
        save_nifti(images / f"{seed}.nii", noise((6, 8, 5), seed))
    flat = Preparation(normalise="none")
    assert batches_of(images, tmp_path / "a", flat, batch_size=4) == [4, 1] * 3
    deep = Preparation(dims=3, normalise="none", patch=(6, 8, 4))
    assert batches_of(images, tmp_path / "b", deep, overlap=0.0, batch_size=1) == [1, 1] * 3


# What goes wrong


def test_a_batch_that_does_not_fit_goes_one_by_one(tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 5)
    seen: list[int] = []

    def full(batch: torch.Tensor) -> None:
        seen.append(len(batch))
        if len(batch) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model = opened(card_of(Preparation(normalise="min-max")), full)
    written = predict_folder(model, images, tmp_path / "out", batch_size=4)
    assert [path.stem for path in written] == ["00", "01", "02", "03", "04"]
    assert seen == [4, 1, 1, 1, 1, 1]


def test_an_image_that_fails_in_a_batch_is_the_only_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pictures(tmp_path / "images", 6)
    (images / "04.png").write_bytes(b"no picture")
    grey(images / "01.png", (6, 8), 99)
    bad = np.asarray(Image.open(images / "01.png")) / np.float32(255)

    class Poisoned(Watched):
        def logits_of(self, output: torch.Tensor) -> torch.Tensor:
            wrong = (self.images[:, 0] - torch.from_numpy(bad)).abs().amax((1, 2)) < 0.01
            return torch.where(wrong[:, None, None, None], torch.nan, super().logits_of(output))

        def logits(self, images: torch.Tensor) -> torch.Tensor:
            self.images = images
            return super().logits(images)

    card = card_of(Preparation(normalise="window", window=(0, 255)))
    policy = Poisoned(card.network.build(), CLASSES, lambda _: None)
    model = OpenModel(Path("model"), card, {"model": lambda: policy}, None)
    with pytest.raises(SegprefError, match=r"^4 of 6 .* 2 failed: .*01\.png is NaN .*04\.png is "):
        predict_folder(model, images, tmp_path / "out")
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["00", "02", "03", "05"]
    assert len(capsys.readouterr().err.splitlines()) == 2


def threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name.startswith(("reading", "writing"))}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["network", "reader", "writer"])
def test_an_interruption_leaves_no_thread_and_no_part_of_a_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], place: str
) -> None:
    images = pictures(tmp_path / "images", 20)
    calls: Counter[str] = Counter()

    def third(what: str) -> None:
        calls[what] += 1
        if what == place and calls[what] == 3:
            raise error

    read, write = Images.read, Image.Image.save

    def reading(self: Images, source: Any) -> Case:
        third("reader")
        return read(self, source)

    def saving(self: Image.Image, part: Path) -> None:
        Path(part).write_bytes(b"half")
        third("writer")
        write(self, part)

    monkeypatch.setattr(Images, "read", reading)
    monkeypatch.setattr(Image.Image, "save", saving)
    model = opened(card_of(Preparation(normalise="min-max")), lambda _: third("network"))
    with pytest.raises(error):
        predict_folder(model, images, tmp_path / "out", batch_size=2)
    assert not threads()
    masks = sorted((tmp_path / "out").iterdir())
    assert len(masks) < 20
    for path in masks:
        assert path.suffix == ".png"
        Image.open(path).load()
    assert calls["reader"] < 20


def test_an_end_while_results_are_shown_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(tmp_path / "images", 9)
    (images / "03.png").write_bytes(b"no picture")

    def broken(*_: Any, **__: Any) -> None:
        raise SystemExit(141)

    monkeypatch.setattr(predict.console, "print", broken)
    model = opened(card_of(Preparation(normalise="min-max")))
    with pytest.raises(SystemExit):
        predict_folder(model, images, tmp_path / "out", batch_size=2)
    assert not threads()


# What is read and kept


def test_no_image_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = folder(tmp_path / "images")
    for seed in range(5):
        save_nifti(images / f"{seed}.nii.gz", noise((6, 8, 4), seed))
    voxels: Counter[str] = Counter()
    whole = data_volumes._whole_array

    def counted(path: Path, image: Any) -> np.ndarray:
        voxels[path.name] += 1
        return whole(path, image)

    monkeypatch.setattr(data_volumes, "_whole_array", counted)
    predict_folder(opened(card_of()), images, tmp_path / "out", batch_size=2)
    assert voxels == Counter({f"{number}.nii.gz": 1 for number in range(5)})


def test_no_picture_is_read_twice_to_see_whether_it_is_grey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(tmp_path / "images", 3)
    for number in range(3):
        picture = Image.open(images / f"{number:02d}.png").convert("RGB")
        picture.save(images / f"c{number}.png")
    read: Counter[str] = Counter()
    whole = data_volumes.read_picture

    def counted(path: Path, colours: Any) -> np.ndarray:
        read[path.name] += 1
        return whole(path, colours)

    monkeypatch.setattr(data_volumes, "read_picture", counted)
    model = opened(card_of(Preparation(normalise="min-max")))
    written = predict_folder(model, images, tmp_path / "out")
    assert set(read.values()) == {1}
    assert same_masks(written[:3], written[3:])


def test_two_batches_are_in_memory_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, size = 20, 3
    images = pictures(tmp_path / "images", count)
    images_read: list[weakref.ref[np.ndarray]] = []
    most, waits = [0], threading.Event()
    read, write, enter = Images.read, mask_formats.write_mask, pipeline._Room.enter

    def reading(self: Images, source: Any) -> Case:
        case = read(self, source)
        images_read.append(weakref.ref(case.image))
        gc.collect()
        most[0] = max(most[0], sum(one() is not None for one in images_read))
        if len(images_read) == count:
            waits.set()
        return case

    def entering(self: Any) -> bool:
        if not self._free():
            waits.set()
        return enter(self)

    def writing(*args: Any) -> Any:
        waits.wait()  # until there is no room for more, or nothing left to read
        return write(*args)

    monkeypatch.setattr(Images, "read", reading)
    monkeypatch.setattr(pipeline._Room, "enter", entering)
    monkeypatch.setattr(mask_formats, "write_mask", writing)
    model = opened(card_of(Preparation(normalise="min-max")))
    assert len(predict_folder(model, images, tmp_path / "out", batch_size=size)) == count
    assert size < most[0] <= 2 * size


# Windows on the device


class Device:
    """A runtime whose device holds so many numbers."""

    device = torch.device("cuda")

    def __init__(self, most: int) -> None:
        self.most, self.moves = most, 0

    def move(self, batch: torch.Tensor) -> torch.Tensor:
        self.moves += 1
        if batch.numel() > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return batch


@pytest.mark.parametrize("most", [10**6, 10], ids=["fits", "too large"])
def test_windows_are_joined_on_the_device_if_they_fit(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    card = ModelCard(
        NetworkSpec("torch.nn.Conv2d", {"in_channels": 1, "out_channels": 2, "kernel_size": 1}),
        CLASSES,
        Preparation(patch=(8, 8)),
    )
    network = WindowedNetwork(Segmenter(card.network.build(), CLASSES), card.preparation)
    images = torch.from_numpy(noise((2, 1, 20, 16)))
    expected = network(images)
    device = Device(most)
    monkeypatch.setattr(sliding, "runtime", lambda: device)
    assert torch.equal(network(images), expected)
    assert device.moves == 2


def test_other_errors_of_windows_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Device):
        def move(self, batch: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("device-side assert")

    monkeypatch.setattr(sliding, "runtime", lambda: Broken(0))
    card = card_of(Preparation(patch=(8, 8)))
    network = WindowedNetwork(Segmenter(card.network.build(), CLASSES), card.preparation)
    with pytest.raises(RuntimeError, match="device-side"):
        network(torch.zeros(1, 1, 20, 16))
