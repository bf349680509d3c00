"""Prompts from another segmenter: the box around what it finds, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import LESION, SIDE, images_of, lesions

from segpref.data import Preparation
from segpref.policies import ModelCard, NetworkSpec, save_model
from segpref.policies.promptable import (
    SegmenterPrompts,
    load_promptable,
    promptable_card,
    small_sam,
)
from segpref.prompts import Prompt, box_iou, box_of
from segpref.types import LabelSpace, SegprefError

PREPARATION = Preparation(dims=2, size=(SIDE, SIDE), normalise="min-max")


def dark(
    path: Path,
    structures: Sequence[str] = ("lesion",),
    below: float = 0.5,
    kind: str = "multi-label",
) -> Path:
    """A model file whose structures are what is darker than ``below``, ``below / 2`` and so on."""
    names = ("background", *structures) if kind == "multi-class" else tuple(structures)
    network = torch.nn.Conv2d(1, len(names), 1)
    with torch.no_grad():
        network.weight.fill_(-20.0)
        network.bias.copy_(20 * below / torch.arange(1, len(names) + 1))
        if kind == "multi-class":
            # Less than zero is background.
            network.weight[0], network.bias[0] = 0, 0
            network.bias[1:] = 20 * below
    spec = NetworkSpec(
        "torch.nn.Conv2d", {"in_channels": 1, "out_channels": len(names), "kernel_size": 1}
    )
    save_model(path, network, ModelCard(spec, LabelSpace(kind, names), PREPARATION))
    return path


def sam(path: Path, prompter: dict[str, object], **changes: object) -> Path:
    network = small_sam(side=SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32)
    card = promptable_card(network, LESION, PREPARATION)
    policy = replace(card.policy, init_args={"prompter": prompter})
    save_model(path, network, replace(card, policy=policy, **changes))
    return path


def asked(model: Path, **given: object) -> dict[str, object]:
    inside = {
        "class_path": "segpref.policies.promptable.SegmenterPrompts",
        "init_args": {"model": str(model), **given},
    }
    return {"class_path": "segpref.prompts.KeptPrompts", "init_args": {"prompter": inside}}


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
def test_the_box_lies_around_what_the_segmenter_finds(kind: str, tmp_path: Path) -> None:
    cases = lesions(4)
    images = images_of(cases)
    prompter = SegmenterPrompts(dark(tmp_path / "dark.safetensors", kind=kind))
    wider = SegmenterPrompts(tmp_path / "dark.safetensors", margin=2, points=3)
    for case, image, (prompt,), (more,) in zip(
        cases, images, prompter(images), wider(images), strict=True
    ):
        assert prompt.box == box_of(image[0].numpy() < 0.5)
        truth = box_of(case.label[0] == 1)
        assert truth is not None
        assert box_iou(prompt.box, truth) > 0.8
        assert prompt.points == ()
        sides = np.add(prompt.box, (-2, -2, 2, 2))
        assert more.box == tuple(np.clip(sides, -0.5, SIDE - 0.5))
        assert len(more.points) == 3
        assert all(image[0, int(y), int(x)] < 0.5 for x, y, _ in more.points)
    # An image alone has the same points.
    assert wider(images[2:3])[0] == wider(images)[2]


def test_the_largest_components_count(tmp_path: Path) -> None:
    image = torch.ones(1, 1, SIDE, SIDE)
    image[..., 2:8, 3:9] = 0
    image[..., 20:23, 20:23] = 0
    model = dark(tmp_path / "dark.safetensors")
    assert SegmenterPrompts(model)(image) == [[Prompt((2.5, 1.5, 8.5, 7.5))]]
    assert SegmenterPrompts(model, components=2)(image) == [[Prompt((2.5, 1.5, 22.5, 22.5))]]


def test_where_nothing_is_found_the_box_is_the_image(tmp_path: Path) -> None:
    prompter = SegmenterPrompts(dark(tmp_path / "dark.safetensors"), points=2)
    whole = (-0.5, -0.5, SIDE - 0.5, SIDE - 0.5)
    assert prompter(torch.ones(1, 1, SIDE, SIDE)) == [[Prompt(whole)]]


def test_structures_are_chosen_by_name(tmp_path: Path) -> None:
    model = dark(tmp_path / "dark.safetensors", ("grey", "black"))
    image = torch.ones(1, 1, SIDE, SIDE)
    image[..., 2:20, 2:20] = 0.4
    image[..., 4:8, 4:8] = 0.1
    black, grey = SegmenterPrompts(model, structures=("black", "grey"))(image)[0]
    assert black.box == (3.5, 3.5, 7.5, 7.5)
    assert grey.box == (1.5, 1.5, 19.5, 19.5)
    assert SegmenterPrompts(model)(image)[0] == [grey, black]
    with pytest.raises(
        SegprefError, match="segments grey, black, not lesion: correct the structures"
    ):
        SegmenterPrompts(model, structures=("lesion",))


def test_prompts_are_kept_by_the_weights_and_settings(tmp_path: Path) -> None:
    model = dark(tmp_path / "dark.safetensors")
    keys = [
        SegmenterPrompts(model).key(),
        SegmenterPrompts(model, margin=1).key(),
        SegmenterPrompts(dark(tmp_path / "other.safetensors", below=0.4)).key(),
    ]
    assert keys[0] not in keys[1:]
    assert SegmenterPrompts(str(model)).key() == keys[0]


def test_a_model_file_names_its_segmenter(tmp_path: Path) -> None:
    policy, card = load_promptable(
        sam(tmp_path / "sam.safetensors", asked(dark(tmp_path / "dark.safetensors")))
    )
    images = images_of(lesions(2))
    assert policy.prompts_for(images) == SegmenterPrompts(tmp_path / "dark.safetensors")(images)
    assert policy.digest() == load_promptable(tmp_path / "sam.safetensors")[0].digest()
    assert card.preparation == PREPARATION


def test_a_segmenter_of_other_images_is_refused(tmp_path: Path) -> None:
    model = dark(tmp_path / "dark.safetensors")
    other = replace(PREPARATION, normalise="percentile", size=(64, 64))
    path = sam(tmp_path / "sam.safetensors", asked(model), preparation=other)
    with pytest.raises(
        SegprefError, match=r"sees other images .* \(size, normalise\): train it with"
    ):
        load_promptable(path)


def test_a_segmenter_of_other_structures_is_refused(tmp_path: Path) -> None:
    model = dark(tmp_path / "dark.safetensors", ("grey", "black"))
    path = sam(tmp_path / "sam.safetensors", asked(model))
    with pytest.raises(
        SegprefError, match=r"prompts for grey, black, and .* draws lesion: name its"
    ):
        load_promptable(path)


def test_a_model_that_needs_prompts_prompts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    # A file that names itself is refused, too, and does not open itself for ever.
    path.write_bytes(dark(tmp_path / "dark.safetensors").read_bytes())
    policy, _ = load_promptable(sam(path, asked(path)))
    with pytest.raises(
        SegprefError, match="needs prompts itself: name a segmenter that needs none"
    ):
        policy.prompts_for(torch.ones(1, 1, SIDE, SIDE))


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SegprefError, match="pipe is no file"):
        SegmenterPrompts(tmp_path / "pipe")
    with pytest.raises(SegprefError, match="no model at"):
        SegmenterPrompts(tmp_path / "nowhere")
