"""Prompts without an expert, from the image to box, points and text, and named in YAML."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dark_probe import Probe
from tiny_models import SIDE, images_of, lesions

from segpref.prompts import (
    Descriptions,
    Endpoint,
    GradCAM,
    Prompt,
    SaliencyPrompts,
    Target,
    box_iou,
    box_of,
)
from segpref.types import SegprefError


def test_box_and_points_are_found_without_an_expert() -> None:
    dataset = lesions(4)
    images = images_of(dataset)
    descriptions = Descriptions()
    prompter = SaliencyPrompts(
        Probe(), [Target("breast lesion")], GradCAM(), points=3, descriptions=descriptions
    )
    prompts = prompter(images)
    for case, (prompt,) in zip(dataset, prompts, strict=True):
        truth = case.label[0] == 1
        assert prompt.box is not None
        box = box_of(truth)
        assert box is not None
        assert box_iou(prompt.box, box) > 0.7
        assert len(prompt.points) == 3
        assert sum(truth[int(y), int(x)] for x, y, _ in prompt.points) >= 2
        assert prompt.text == descriptions("breast lesion")
    # The same for an image alone, and again; other images have other points.
    assert prompter(images[2:3])[0] == prompts[2]
    assert len({row[0].points for row in prompts}) == 4


def test_parts_of_the_prompt_can_be_left_out() -> None:
    image = images_of(lesions(1))
    (text_only,) = SaliencyPrompts(
        Probe(), [Target("lungs")], GradCAM(), points=0, use_box=False, descriptions=Descriptions()
    )(image)[0]
    assert text_only.box is None
    assert text_only.points == ()
    assert text_only.text
    (no_text,) = SaliencyPrompts(Probe(), [Target("lungs")], GradCAM(), points=1)(image)[0]
    assert no_text.text is None
    with pytest.raises(SegprefError, match="needs a box, points or a text"):
        SaliencyPrompts(Probe(), [Target("lungs")], points=0, use_box=False)
    with pytest.raises(SegprefError, match="no target"):
        SaliencyPrompts(Probe(), [])


def test_two_components_share_a_box() -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    lungs = ((rows - 16) ** 2 + (columns - 7) ** 2 < 20) | (
        (rows - 14) ** 2 + (columns - 24) ** 2 < 24
    )
    image = torch.from_numpy(np.where(lungs, 0.1, 1.0).astype(np.float32))[None]
    one = SaliencyPrompts(Probe(), [Target("lungs", 1)], GradCAM())
    two = SaliencyPrompts(Probe(), [Target("lungs", 2)], GradCAM())
    assert two.coarse_mask(image, 0).sum() > 1.5 * one.coarse_mask(image, 0).sum()
    box, truth = two(image[None])[0][0].box, box_of(lungs)
    assert box is not None
    assert truth is not None
    assert box_iou(box, truth) > 0.8


def test_where_nothing_is_salient_the_box_is_the_image() -> None:
    prompter = SaliencyPrompts(Probe(), [Target("lesion")], GradCAM())
    assert prompter(torch.ones(1, 1, 8, 10)) == [[Prompt((-0.5, -0.5, 9.5, 7.5))]]


def test_all_of_it_can_be_named_in_yaml(tmp_path: Path, clip_folder: Path) -> None:
    from jsonargparse import ArgumentParser

    from segpref.prompts import Prompter

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--prompter", type=Prompter)
    file = tmp_path / "prompter.yaml"
    file.write_text(
        f"""
        prompter:
          class_path: segpref.prompts.SaliencyPrompts
          init_args:
            clip:
              class_path: segpref.prompts.TransformersClip
              init_args: {{name: {clip_folder}, device: cpu}}
            targets: [{{text: lungs, components: 2}}]
            saliency: {{class_path: segpref.prompts.GScoreCAM, init_args: {{channels: 3}}}}
            crf: {{class_path: segpref.prompts.DenseCRF, init_args: {{size: 32}}}}
            descriptions: {{class_path: segpref.prompts.Descriptions}}
            answerer:
              class_path: segpref.prompts.Endpoint
              init_args: {{url: "http://localhost:1/v1", model: any}}
        """
    )
    made = parser.instantiate_classes(parser.parse_args([f"--config={file}"])).prompter
    assert isinstance(made, SaliencyPrompts)
    assert made.targets == (Target("lungs", 2),)
    assert isinstance(made.answerer, Endpoint)
    assert not made.answerer.send_images
    json.dumps(made.key())
