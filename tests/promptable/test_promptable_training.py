"""Stage 1 of a promptable model, and volumes slice by slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import LESION, SIDE, images_of, lesions

from segpref.data import Cache, Preparation
from segpref.inference import Propagation, mean_iou, propagate, score_model
from segpref.policies import load_model
from segpref.policies.promptable import PromptablePolicy, promptable_card, small_sam
from segpref.prompts import Answer, ExpertPrompts, LabelPrompts, Prompt, Prompts, box_of
from segpref.training import RunFolder, fit_promptable, halved
from segpref.types import LabelSpace, Predictor, SegprefError

PREPARATION = Preparation(dims=2, size=(SIDE, SIDE))


def small() -> Any:
    return small_sam(SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32)


def run(folder: Path, resume: bool = False, **options: Any) -> dict[str, Any]:
    network = options.pop("network", None) or small()
    labelled = options.pop("labelled", lesions(8))
    run_folder = RunFolder(folder)
    run_folder.open({"made": "here"}, resume)
    settings = {"epochs": 2, "batch_size": 4, "guide": LabelPrompts(), **options}
    return fit_promptable(
        labelled,
        lesions(4, first=20),
        network,
        promptable_card(network, LESION, PREPARATION),
        run_folder,
        cache=Cache(folder.parent / "cache"),
        **settings,
    )


def test_a_small_sam_tells_neighbouring_places_from_distant_ones() -> None:
    places = torch.tensor([[0.5, 0.5], [0.5 + 1 / SIDE, 0.5], [0.9, 0.1]])
    encoded = small().sam.shared_image_embedding(places[None, None])[0, 0]
    near, far = torch.nn.functional.cosine_similarity(encoded[:1], encoded[1:])
    assert near > 0.7
    assert far < 0.4


@pytest.mark.slow
def test_a_small_sam_learns_to_follow_prompts(tmp_path: Path) -> None:
    summary = run(
        tmp_path / "run", epochs=6, images_per_epoch=48, learning_rate=2e-3, augment="dihedral",
        halve_every=3,
    )  # fmt: skip
    assert summary["val_iou"] > 0.6
    policy, card = load_model(tmp_path / "run")
    assert card.label_space == LESION
    validation = lesions(4, first=20)
    expert = ExpertPrompts()
    expert.prepare(validation)
    assert isinstance(policy, PromptablePolicy)
    policy.prompter = expert
    assert mean_iou(score_model(policy, validation)) == pytest.approx(summary["val_iou"])
    assert not policy.network.training


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"augment": "dihedral", "learning_rate": 1e-3}
    run(tmp_path / "whole", **options)
    import segpref.training.tasks.promptable as module

    batches, calls = module._batch, 0

    def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return batches(*arguments)

    monkeypatch.setattr(module, "_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", checkpoint_seconds=0.0, **options)
    run(tmp_path / "broken", resume=True, **options)
    one, other = (
        load_model(tmp_path / name / "last.safetensors")[0] for name in ("whole", "broken")
    )
    for (name, a), b in zip(
        one.network.state_dict().items(), other.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.slow
def test_frozen_parts_stay_and_embeddings_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves, counts = [], []
    for kept in (True, False):
        network = small()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        encode, seen = network.encode, [0]

        def counting(pixels: Any, encode: Any = encode, seen: Any = seen) -> Any:
            seen[0] += len(pixels)
            return encode(pixels)

        monkeypatch.setattr(network, "encode", counting)
        if not kept:
            monkeypatch.setattr(
                "segpref.policies.promptable.embeddings.ImageEmbeddings.find", lambda *_: None
            )
        folder = tmp_path / str(kept)
        run(folder / "run", network=network, parts=("decoder",), epochs=3)
        rows = RunFolder(folder / "run").read_metrics()
        curves.append([row["train_loss"] for row in rows[1:]])
        counts.append(seen[0])
        changed = {
            name.split(".")[1] for name, value in network.state_dict().items()
            if not torch.equal(value, before[name])
        }  # fmt: skip
        assert changed == {"mask_decoder"}
    # 8 labelled and 4 validation images once; else once to be kept, and again at every look.
    assert counts == [12, 12 + 3 * 8 + 4 * 4]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_the_learning_rate_is_halved_every_ten_epochs() -> None:
    rate = halved(1e-4, 10, 30)
    found = [rate(epoch / 30) for epoch in (0, 9, 10, 19, 20, 29)]
    assert found == pytest.approx([1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5, 2.5e-5])


def test_what_cannot_be_trained_is_said(tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="has a label"):
        run(tmp_path / "a", labelled=lesions(2).without_labels())
    with pytest.raises(SegprefError, match="name at least one"):
        run(tmp_path / "b", parts=())
    with pytest.raises(SegprefError, match="patient20"):
        run(tmp_path / "c", labelled=lesions(2, first=20))


# Volumes


class Dark:
    """Segments what is dark within the box, and remembers what it was asked."""

    def __init__(self, label_space: LabelSpace = LESION) -> None:
        self.label_space = label_space
        self.asked: list[tuple[float, Prompt]] = []

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.ask(images, self.prompts_for(images)).logits[:, 0]

    def digest(self) -> str:
        return "dark"

    def prompts_for(self, images: torch.Tensor) -> Prompts:
        side = float(images.shape[-1])
        return [[Prompt((-0.5, -0.5, side - 0.5, side - 0.5))] * self.label_space.fields] * len(
            images
        )

    def ask(self, images: torch.Tensor, prompts: Prompts, **_: Any) -> Answer:
        logits, quality = [], []
        for image, row in zip(images, prompts, strict=True):
            dark = (image[0] < 0.5).numpy()
            masks = []
            for prompt in row:
                assert prompt.box is not None
                left, top, right, bottom = (round(v + 0.5) for v in prompt.box)
                inside = np.zeros_like(dark)
                inside[top:bottom, left:right] = True
                masks.append(np.where(dark & inside, 2.0, -2.0))
                self.asked.append((float(image.sum()), prompt))
            logits.append(torch.from_numpy(np.stack(masks)).float())
            quality.append(torch.tensor([float((m > 0).sum()) for m in masks]))
        return Answer(torch.stack(logits)[:, None], torch.stack(quality)[:, None])


def moving_disc() -> tuple[torch.Tensor, np.ndarray]:
    """A disc that moves and shrinks through slices 1 to 6 of 8, and something else far away."""
    rows, columns = np.mgrid[:24, :24]
    masks = np.zeros((8, 24, 24), dtype=bool)
    for number in range(1, 7):
        radius = 5 - abs(number - 3)
        masks[number] = (rows - 8 - number / 2) ** 2 + (columns - 8 - number) ** 2 < radius**2
    images = np.where(masks, 0.0, 1.0)
    images[:, 20:, :3] = 0
    return torch.from_numpy(images)[:, None].float(), masks


def test_a_prompt_on_one_slice_becomes_a_volume() -> None:
    images, masks = moving_disc()
    model = Dark()
    assert isinstance(model, Predictor)
    box = box_of(masks[3])
    found = propagate(model, images, [Prompt(box, text="a disc")], 3, Propagation(points=2))
    assert found.shape == (8, 1, 24, 24)
    assert np.array_equal((found[:, 0] > 0).numpy(), masks)
    assert (found[0] == -6).all()
    carried = model.asked[1][1]
    assert carried.box == box_of(masks[3], 2.0)
    assert len(carried.points) == 2
    assert carried.text == "a disc"
    assert carried.mask is not None
    assert np.array_equal(carried.mask > 0, masks[3])
    # Slice by slice: the start, three upwards and one beyond, two downwards and one beyond.
    assert len(model.asked) == 1 + 4 + 3


def test_without_a_prompt_the_walk_begins_where_the_model_is_surest() -> None:
    images, masks = moving_disc()
    images[:, 0, 20:, :3] = 1
    model = Dark()
    found = propagate(model, images, how=Propagation(carry_mask=False, points=0))
    assert np.array_equal((found[:, 0] > 0).numpy(), masks)
    assert model.asked[8][0] == float(images[3].sum())
    nothing = propagate(model, torch.ones(3, 1, 8, 8))
    assert (nothing == -6).all()


def test_walks_end_where_the_model_is_unsure() -> None:
    images, masks = moving_disc()
    found = propagate(Dark(), images, [Prompt(box_of(masks[3]))], 3, Propagation(least_pixels=30))
    reached = [number for number in range(8) if (found[number] > -6).any()]
    assert reached == [n for n in range(8) if masks[n].sum() >= 30]


def test_structures_walk_by_themselves() -> None:
    images, masks = moving_disc()
    space = LabelSpace("multi-label", ("disc", "corner"))
    corner = (-0.5, 19.5, 2.5, 23.5)
    found = propagate(Dark(space), images, [Prompt(box_of(masks[3])), Prompt(corner)], 3)
    assert np.array_equal((found[:, 0] > 0).numpy(), masks)
    assert (found[:, 1, 20:, :3] > 0).all()
    assert int((found[:, 1] > 0).sum()) == 8 * 12


def test_volumes_that_cannot_be_walked_are_refused() -> None:
    images, _ = moving_disc()
    box = Prompt((0.0, 0.0, 5.0, 5.0))
    with pytest.raises(SegprefError, match="need the slice"):
        propagate(Dark(), images, [box])
    with pytest.raises(SegprefError, match="no slice 8"):
        propagate(Dark(), images, [box], 8)
    with pytest.raises(SegprefError, match="as many prompts"):
        propagate(Dark(), images, [box, box], 2)
    with pytest.raises(SegprefError, match="least_pixels must be at least 1"):
        Propagation(least_pixels=0)


def test_a_real_one_takes_volumes() -> None:
    policy = PromptablePolicy(small(), LESION)
    slices = images_of(lesions(3))
    found = propagate(policy, slices, [Prompt((4.0, 4.0, 20.0, 20.0))], 1)
    assert found.shape == (3, 1, SIDE, SIDE)
    assert found.isfinite().all()
