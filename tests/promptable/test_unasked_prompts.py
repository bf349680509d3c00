"""Prompts without an expert: saliency, dense CRF, components, points, texts, answers."""

from __future__ import annotations

import base64
import io
import json
import math
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_models import SIDE, images_of, lesions, write_vqa
from torch import Tensor, nn
from torch.nn import functional

from segpref.data import Preparation
from segpref.prompts import (
    DenseCRF,
    Descriptions,
    Endpoint,
    ExpertPrompts,
    FixedPrompts,
    GradCAM,
    GScoreCAM,
    LabelPrompts,
    LocalVQA,
    OpenClip,
    Prompt,
    SaliencyPrompts,
    Target,
    TransformersClip,
    WholeImage,
    box_iou,
    box_of,
    in_prepared,
    jittered,
    largest_components,
    mask_logits,
    points_in,
)
from segpref.types import Case, SegprefError


class Probe:
    """Compares images with "dark": the mean darkness of its one feature channel that knows it."""

    def text_embeddings(self, texts: Any) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(texts), 2)

    def image_embeddings(self, images: Tensor) -> tuple[Tensor, Tensor]:
        grey = images.mean(1, keepdim=True)
        # Bright ground is what an empty image is not: darkness counts only where light is near.
        dark = functional.avg_pool2d((0.5 - grey).clamp(min=0), 4)
        features = torch.cat([dark, functional.avg_pool2d(grey, 4)], dim=1)
        if torch.is_grad_enabled():
            features.requires_grad_()
        pooled = features.mean(dim=(2, 3))
        return functional.normalize(pooled, dim=1), features

    def feature_map(self, activations: Tensor) -> Tensor:
        return activations

    def key(self) -> dict[str, object]:
        return {"probe": 1}


# Masks


def test_the_box_of_a_mask_lies_on_its_pixels_edges() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    assert box_of(mask) is None
    mask[2, 3] = True
    assert box_of(mask) == (2.5, 1.5, 3.5, 2.5)
    mask[4, 7] = True
    assert box_of(mask) == (2.5, 1.5, 7.5, 4.5)
    assert box_of(mask, margin=3) == (-0.5, -0.5, 7.5, 5.5)


def test_points_are_different_pixels_of_the_mask() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[2:4, 3:6] = True
    points = points_in(mask, 4, np.random.default_rng(0))
    assert len(set(points)) == 4
    assert all(mask[int(y), int(x)] and label == 1 for x, y, label in points)
    assert len(points_in(mask, 99, np.random.default_rng(0))) == 6
    assert points_in(np.zeros((2, 2), dtype=bool), 3, np.random.default_rng(0)) == ()


def test_the_largest_components_are_kept() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[0:3, 0:3] = True  # 9
    mask[5:9, 5:9] = True  # 16
    mask[9, 0] = True  # 1
    mask[3, 3] = True  # touches the first at a corner: 10
    assert largest_components(mask, 1).sum() == 16
    assert largest_components(mask, 2).sum() == 26
    assert largest_components(mask, 9).sum() == 27
    assert largest_components(mask, 9, least_share=0.05).sum() == 26
    assert largest_components(np.zeros((4, 4), dtype=bool), 1).sum() == 0


def test_mask_logits_are_sure() -> None:
    found = mask_logits(np.array([[True, False]]))
    assert found.tolist() == [[6.0, -6.0]]


@given(seed=st.integers(0, 10**6), shift=st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_jittered_prompts_are_valid_and_in_the_image(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 9)) < 0.2
    mask[4, 4] = True
    prompt = Prompt(box_of(mask), (*points_in(mask, 2, rng), (0.0, 0.0, 0)), text="x")
    other = jittered(prompt, mask.shape, rng, shift, mask)
    assert other.box is not None
    assert other.box[0] >= -0.5
    assert other.box[1] >= -0.5
    assert other.box[2] <= 8.5
    assert other.box[3] <= 11.5
    assert other.points[-1] == (0.0, 0.0, 0)
    assert all(mask[int(y), int(x)] for x, y, label in other.points if label)
    assert other.text == "x"
    if shift == 0:
        assert other.box == prompt.box


def test_box_iou_by_hand() -> None:
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def test_prompts_drawn_from_labels() -> None:
    label = np.zeros((2, 10, 10), np.uint8)
    label[0, 3:6, 2:8] = 1
    rng = np.random.default_rng(0)
    one, absent = LabelPrompts(points=2, shift=0)(label, rng, ("a", None))
    assert one.box == (1.5, 2.5, 7.5, 5.5)
    assert len(one.points) == 2
    assert one.text == "a"
    assert absent == Prompt((-0.5, -0.5, 9.5, 9.5))
    drawn = [LabelPrompts(box_rate=0.5, point_rate=0.5)(label, rng)[0] for _ in range(60)]
    assert {(p.box is not None, bool(p.points)) for p in drawn} == {
        (True, True), (True, False), (False, True)
    }  # fmt: skip
    assert len({p.box for p in drawn if p.box}) > 10

    dataset = lesions(2)
    expert = ExpertPrompts(texts_of=WholeImage(1, ["a lesion"]))
    expert.prepare(dataset)
    found = expert(images_of(dataset))
    for case, (prompt,) in zip(dataset, found, strict=True):
        assert prompt.box == box_of(case.label[0] == 1)
        assert prompt.text == "a lesion"
    with pytest.raises(SegprefError, match="no expert prompts"):
        expert(images_of(lesions(1, first=9)))


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(dims=2),
        Preparation(dims=2, size=(32, 48)),
        Preparation(dims=2, crop=(40, 90), normalise="z-score"),
        Preparation(dims=2, spacing_mm=(0.75, 0.5), crop=(60, 64), size=(30, 32)),
    ],
)
@pytest.mark.parametrize("volume", [False, True])
def test_prompts_go_with_the_image_through_its_preparation(
    preparation: Preparation, volume: bool
) -> None:
    """The box of a drawn rectangle, moved, is the box of the prepared rectangle."""
    image = np.zeros((1, 60, 80), np.float32)
    image[:, 20:36, 30:46] = 1
    if volume:
        image = np.repeat(image[..., None], 2, axis=-1)
    spacing = (0.5, 0.5, 3.0) if volume else (0.5, 0.5)
    case = Case(id="c", patient="p", volume="c", image=image, spacing_mm=spacing)
    given = Prompt((29.5, 19.5, 45.5, 35.5), ((37.0, 27.0, 1), (-0.4, -0.4, 0)), text="x")
    if preparation.crop is not None:
        given = Prompt(given.box, given.points[:1], text="x")
    (moved,) = in_prepared([given], case, preparation)
    picture = preparation.apply(case).images[0, 0]
    bright = picture > (picture.min() + picture.max()) / 2
    expected = box_of(bright)
    assert moved.box is not None
    assert expected is not None
    assert moved.box == pytest.approx(expected, abs=0.6)
    x, y, label = moved.points[0]
    assert label == 1
    rows, columns = np.nonzero(bright)
    assert (x, y) == pytest.approx((columns.mean(), rows.mean()), abs=1.0)
    assert moved.text == "x"
    fixed = FixedPrompts([moved])
    assert fixed(torch.zeros(2, 1, 4, 4)) == [(moved,), (moved,)]
    assert fixed.key() != FixedPrompts([given]).key() or moved == given


def test_prompts_beyond_the_crop_are_refused() -> None:
    case = Case(id="c", patient="p", volume="c", image=np.zeros((1, 60, 80), np.float32))
    small = Preparation(dims=2, crop=(20, 20))
    for prompt, says in (
        (Prompt((0, 0, 10, 10)), "lies beyond the part"),
        (Prompt(points=((2.0, 2.0, 1),)), "all point prompts lie beyond"),
        (Prompt(mask=np.zeros((60, 80), np.float32)), "a mask prompt can't be moved"),
        (Prompt((0, 0, 100, 10)), "reaches out of an image of 80 x 60"),
    ):
        with pytest.raises(SegprefError, match=says):
            in_prepared([prompt], case, small)
    (cut,) = in_prepared([Prompt((0, 0, 40, 30))], case, small)
    assert cut.box == pytest.approx((-0.5, -0.5, 10, 10))


# Dense CRF


def brute_force(crf: DenseCRF, image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Mean field with one loop per pair of pixels, from the formulas alone."""
    _, height, width = image.shape
    places = [(r, c) for r in range(height) for c in range(width)]
    side = max(height, width)

    def pair(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
        apart = ((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) / side**2
        unlike = sum((image[k][one] - image[k][other]) ** 2 for k in range(len(image)))
        alike = math.exp(
            -apart / (2 * crf.appearance_sigma**2) - unlike / (2 * crf.intensity_sigma**2)
        )
        return alike, math.exp(-apart / (2 * crf.smoothness_sigma**2))

    sums = {p: [sum(pair(p, o)[k] for o in places if o != p) for k in range(2)] for p in places}
    odds = {p: math.log(probability[p] / (1 - probability[p])) for p in places}
    q = {p: 1 / (1 + math.exp(-odds[p])) for p in places}
    for _ in range(crf.steps):
        fresh = {}
        for p in places:
            z = odds[p]
            for o in places:
                if o == p:
                    continue
                alike, near = pair(p, o)
                z += (
                    crf.appearance_weight
                    * alike
                    / math.sqrt(sums[p][0] * sums[o][0])
                    * (2 * q[o] - 1)
                )
                z += (
                    crf.smoothness_weight
                    * near
                    / math.sqrt(sums[p][1] * sums[o][1])
                    * (2 * q[o] - 1)
                )
            fresh[p] = 1 / (1 + math.exp(-z))
        q = fresh
    return np.array([q[p] for p in places]).reshape(height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_field_against_brute_force(channels: int) -> None:
    rng = np.random.default_rng(channels)
    image = rng.random((channels, 6, 5))
    image.flat[0], image.flat[-1] = 0, 1  # so that scaling to 0..1 changes nothing
    probability = rng.uniform(0.05, 0.95, (6, 5))
    crf = DenseCRF(steps=3, smoothness_sigma=0.3)
    found = crf(torch.from_numpy(image), torch.from_numpy(probability))
    np.testing.assert_allclose(found.numpy(), brute_force(crf, image, probability), atol=1e-5)


def test_a_crf_moves_a_blurred_map_to_the_edges_of_its_image() -> None:
    rows, columns = np.mgrid[:48, :40]
    disc = (rows - 20) ** 2 + (columns - 22) ** 2 < 81
    rng = np.random.default_rng(0)
    image = torch.from_numpy(np.where(disc, 0.2, 0.8) + 0.03 * rng.standard_normal(disc.shape))
    shifted = np.exp(-((rows - 22) ** 2 + (columns - 20) ** 2) / (2 * 9.0**2))
    before = torch.from_numpy(shifted)
    after = DenseCRF()(image[None].float(), before.float())
    assert after.shape == disc.shape

    def iou(mask: np.ndarray) -> float:
        return float((mask & disc).sum() / (mask | disc).sum())

    assert iou(before.numpy() > 0.5) < 0.75
    assert iou(after.numpy() > 0.5) > 0.95
    with pytest.raises(SegprefError, match="size from 2 to 96"):
        DenseCRF(size=500)


# Saliency


def dark_disc() -> tuple[Tensor, np.ndarray]:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = (rows - 12) ** 2 + (columns - 18) ** 2 < 36
    return torch.from_numpy(np.where(disc, 0.1, 1.0).astype(np.float32))[None], disc


@pytest.mark.parametrize("saliency", [GradCAM(), GScoreCAM(channels=1)])
def test_saliency_finds_what_the_model_looks_at(saliency: Any) -> None:
    image, disc = dark_disc()
    found = saliency(Probe(), image, "dark").numpy()
    assert found.shape == disc.shape
    assert found.min() == 0
    assert found.max() == 1
    assert found[disc].mean() > 5 * found[~disc].mean()


def test_grad_cam_is_its_formula() -> None:
    """A model whose gradient is known by hand."""

    class Linear(Probe):
        weight = torch.tensor([0.7, -0.3])

        def image_embeddings(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features = torch.stack([images[:, 0, ::4, ::4], images[:, 0, 1::4, 1::4] ** 2], dim=1)
            features.requires_grad_()
            score = (features.mean(dim=(2, 3)) * self.weight).sum(1, keepdim=True)
            return torch.cat([score, torch.zeros_like(score)], 1), features

    image, _ = dark_disc()
    maps = Linear().image_embeddings((image[None] - 0.1) / 0.9)[1].detach()[0]
    # d score / d A_k is weight_k / 64 at every place.
    expected = (0.7 * maps[0] - 0.3 * maps[1]).clamp(min=0)[None, None]
    expected = functional.interpolate(expected, (SIDE, SIDE), mode="bilinear")[0, 0]
    low, high = expected.min(), expected.max()
    found = GradCAM()(Linear(), image, "x")
    torch.testing.assert_close(found, (expected - low) / (high - low), rtol=1e-4, atol=1e-5)


def test_gscorecam_tries_the_channels_of_the_highest_gradient(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = TransformersClip(str(clip_folder), device="cpu")
    image, _ = dark_disc()
    passes: list[int] = []
    inner = clip.image_embeddings

    def watched(images: Tensor) -> Any:
        passes.append(len(images))
        return inner(images)

    monkeypatch.setattr(clip, "image_embeddings", watched)
    found = GScoreCAM(channels=5, batch_size=2)(clip, image, "a dark lesion")
    # One with gradients, the empty image, then five masked ones by twos.
    assert passes == [1, 1, 2, 2, 1]
    assert found.isfinite().all()
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)
    again = GScoreCAM(channels=5)(clip, image, "a dark lesion")
    torch.testing.assert_close(found, again)


def test_the_gradient_in_a_transformer_is_that_of_its_cosine(clip_folder: Path) -> None:
    """Tokens of the last block's input are changed by hand, and the cosine follows the gradient."""
    clip = TransformersClip(str(clip_folder), device="cpu")
    image = torch.rand(1, 3, 32, 32)
    target = clip.text_embeddings(["a dark lesion"])[0]
    embedding, tokens = clip.image_embeddings(image)
    (slope,) = torch.autograd.grad((embedding @ target).sum(), tokens)
    assert clip.feature_map(slope).shape == (1, 24, 8, 8)
    # Patch 5 of the grid's row 2 is token 1 + 2 x 8 + 5, for a class token comes first.
    assert torch.equal(clip.feature_map(tokens)[0, :, 2, 5], tokens[0, 22])
    last = clip._model.vision_model.encoder.layers[-1]

    def score(step: Tensor) -> float:
        hook = last.register_forward_pre_hook(lambda m, args: (args[0] + step, *args[1:]))
        try:
            with torch.no_grad():
                return float((clip.image_embeddings(image)[0] @ target).sum())
        finally:
            hook.remove()

    step = torch.zeros_like(tokens)
    step[0, 22] = 0.05 * torch.sign(slope[0, 22])
    rise = (score(step) - score(-step)) / 2
    assert rise > 0
    assert rise == pytest.approx(float((slope * step).sum()), rel=0.05)


def test_a_clip_of_transformers_compares_images_with_texts(clip_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    clip = TransformersClip(str(clip_folder), device="cpu")
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        embedding, features = clip.image_embeddings(image)
    texts = clip.text_embeddings(["a dark lesion", "the breast"])
    model = CLIPModel.from_pretrained(clip_folder)
    tokens = AutoTokenizer.from_pretrained(clip_folder)(
        ["a dark lesion", "the breast"], padding=True, return_tensors="pt"
    )
    tokens.pop("token_type_ids", None)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        output = model(**tokens, pixel_values=(image - mean) / std)
    torch.testing.assert_close(embedding, output.image_embeds)
    torch.testing.assert_close(texts, output.text_embeds)
    assert clip.feature_map(features).shape == (2, 24, 8, 8)
    with pytest.raises(SegprefError, match=r"tokens and .* reads 24: shorten it"):
        clip.text_embeddings(["lesion " * 40])
    with pytest.raises(SegprefError, match="can't be loaded"):
        TransformersClip(str(clip_folder / "nothing"))


def test_open_clip_is_read_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package needs torchvision, so a stand-in with its interface is asked."""

    class Block(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return tokens * 2

    class Visual(nn.Module):
        image_size = (8, 8)
        image_mean = (0.0, 0.0, 0.0)
        image_std = (1.0, 1.0, 1.0)

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Module()
            self.trunk.blocks = nn.ModuleList([Block(), Block(), Block()])

        def forward(self, images: Tensor) -> Tensor:
            patches = functional.avg_pool2d(images, 2).flatten(2).transpose(1, 2)
            tokens = torch.cat([patches.mean(1, keepdim=True), patches], dim=1)
            for block in self.trunk.blocks:
                tokens = block(tokens)
            return tokens.mean(1)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = Visual()

        def encode_image(self, images: Tensor) -> Tensor:
            return self.visual(images)

        def encode_text(self, tokens: Tensor) -> Tensor:
            return tokens.float()

    stand_in = SimpleNamespace(
        create_model_from_pretrained=lambda name, return_transform: Model(),
        get_tokenizer=lambda name: lambda texts: torch.tensor([[3, 0, 4]] * len(texts)),
    )
    monkeypatch.setitem(sys.modules, "open_clip", stand_in)  # type: ignore[arg-type]
    clip = OpenClip("hf-hub:any", device="cpu")
    assert clip.text_embeddings(["x"]).tolist() == [pytest.approx([0.6, 0.0, 0.8])]
    image = torch.rand(1, 3, 8, 8)
    features = clip.feature_map(clip.image_embeddings(image)[1])
    torch.testing.assert_close(features, 4 * functional.avg_pool2d(image, 2))
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(SegprefError, match="pip install open_clip_torch"):
        OpenClip("hf-hub:any")


# All together


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
    with pytest.raises(SegprefError, match="nothing to say"):
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


# Texts


def test_descriptions_are_shipped_and_short() -> None:
    shipped = Descriptions()
    for structure in (
        "benign breast lesion", "malignant breast lesion", "left ventricle", "right ventricle",
        "myocardium", "hippocampus", "lung nodule", "lungs", "clavicles",
    ):  # fmt: skip
        assert structure in shipped.names()
    for name in shipped.names():
        # CLIP reads 77 tokens, and a word is rarely more than two.
        assert 10 < len(shipped(name).split()) <= 36
        assert shipped(name).endswith(".")
    assert shipped("Lungs") == shipped("lungs")
    with pytest.raises(SegprefError, match="know no 'gizzard'") as caught:
        shipped("gizzard")
    assert "\n" not in str(caught.value)


def test_own_descriptions(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"Gizzard": "A muscular stomach."}))
    assert Descriptions(file)("gizzard") == "A muscular stomach."
    for bad in ("[1]", '{"a": 3}', '{"a": " "}', "{"):
        file.write_text(bad)
        with pytest.raises(SegprefError, match=r"own\.json"):
            Descriptions(file)
    with pytest.raises(SegprefError, match="can't be read"):
        Descriptions(tmp_path / "missing.json")


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """A chat server on this machine that remembers what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, dict(self.headers), body))
            said: Any = {"choices": [{"message": {"content": " round, upper left \n"}}]}
            if body["model"] == "odd":
                said = {"nothing": 1}
            self.send_response(404 if body["model"] == "missing" else 200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1", asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_endpoint_is_asked_and_images_stay_here(
    server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server
    monkeypatch.setenv("MY_KEY", "secret")
    image = images_of(lesions(1))[0]
    ask = Endpoint(url + "/", "any", key_variable="MY_KEY")
    assert ask(image, "What is the shape of the lesion?") == "round, upper left"
    path, headers, body = asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "What is the shape of the lesion?"}]}
    ]
    assert "image" not in json.dumps(body)

    Endpoint(url, "any", send_images=True, key_variable="NO_KEY")(image, "?")
    _, headers, body = asked[1]
    assert "Authorization" not in headers
    sent = body["messages"][0]["content"][1]["image_url"]["url"]
    picture = Image.open(io.BytesIO(base64.b64decode(sent.partition(",")[2])))
    assert picture.size == (SIDE, SIDE)
    for model, says in (("odd", "another form"), ("missing", "does not answer")):
        with pytest.raises(SegprefError, match=says):
            Endpoint(url, model)(image, "?")
    with pytest.raises(SegprefError, match="no address of a server"):
        Endpoint("localhost", "any")


def test_answer_and_description_are_one_text(server: tuple[str, list[Any]]) -> None:
    url, asked = server
    prompter = SaliencyPrompts(
        Probe(), [Target("heart")], GradCAM(), descriptions=Descriptions(),
        answerer=Endpoint(url, "any"),
    )  # fmt: skip
    (prompt,) = prompter(images_of(lesions(1)))[0]
    assert prompt.text == "round, upper left " + Descriptions()("heart")
    question = asked[0][2]["messages"][0]["content"][0]["text"]
    assert question == "What is the shape of the heart and where is it located?"


def test_a_local_model_answers(tmp_path: Path) -> None:
    write_vqa(tmp_path)
    image = images_of(lesions(1))[0]
    vqa = LocalVQA(str(tmp_path), max_new_tokens=4, device="cpu")
    said = vqa(image, "what is the shape of the lesion ?")
    assert isinstance(said, str)
    assert vqa(image, "what is the shape of the lesion ?") == said
    assert vqa.key() == LocalVQA(str(tmp_path), max_new_tokens=4, device="cpu").key()
    with pytest.raises(SegprefError, match="can't be loaded"):
        LocalVQA(str(tmp_path / "nothing"))


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
