"""SAM as a policy: the same masks as transformers gives, one pass of the encoder, files out and in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import LESION, SIDE, images_of, lesions, write_sam, write_sam2
from torch.nn import functional
from transformers import Sam2Model, SamModel

from segpref.data import Cache, Preparation
from segpref.policies import load_model, save_model
from segpref.policies.promptable import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PARTS,
    Frame,
    Lora,
    PromptablePolicy,
    coloured,
    load_sam,
    part_of,
    promptable_card,
    save_sam,
    set_trainable,
)
from segpref.prompts import KeptPrompts, Prompt, Promptable, WholeImage, turned, turned_prompt
from segpref.types import LabelSpace, Policy, SegprefError, State

PROMPTS = [
    [Prompt((4.0, 5.0, 20.0, 24.0), ((9.0, 8.0, 1), (2.0, 3.0, 0)))],
    [Prompt((1.0, 2.0, 12.0, 30.0), ((5.0, 20.0, 1), (30.0, 3.0, 0)))],
]


def policy_of(folder: Path, **options: Any) -> PromptablePolicy:
    return PromptablePolicy(load_sam(str(folder), **options), LESION)


def stock(
    model: Any, images: torch.Tensor, boxes: bool = True, masks: Any = None, multimask: bool = False
) -> Any:
    """The masks of transformers' own class, enlarged to the image."""
    with torch.no_grad():
        output = model(
            pixel_values=coloured(images, IMAGENET_MEAN, IMAGENET_STD),
            input_boxes=torch.tensor([[p.box] for (p,) in PROMPTS]) if boxes else None,
            input_points=torch.tensor([[[q[:2] for q in p.points]] for (p,) in PROMPTS]),
            input_labels=torch.tensor([[[q[2] for q in p.points]] for (p,) in PROMPTS]),
            input_masks=masks,
            multimask_output=multimask,
        )
    side = images.shape[-1]
    return functional.interpolate(output.pred_masks[:, 0], (side, side), mode="bilinear"), output


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("multimask", [True, False])
def test_sam_answers_as_the_class_of_transformers(
    sam_folder: Path, boxes: bool, multimask: bool
) -> None:
    images = images_of(lesions(2))
    prompts = [[Prompt(p.box if boxes else None, p.points)] for (p,) in PROMPTS]
    answer = policy_of(sam_folder, iterations=1).ask(images, prompts, multimask=multimask)
    masks, output = stock(SamModel.from_pretrained(sam_folder), images, boxes, None, multimask)
    assert answer.logits.shape == (2, 3 if multimask else 1, 1, SIDE, SIDE)
    torch.testing.assert_close(answer.logits[:, :, 0], masks, rtol=0, atol=1e-5)
    torch.testing.assert_close(answer.quality[:, :, 0], output.iou_scores[:, 0])


def test_the_second_iteration_is_given_the_first_ones_mask(sam_folder: Path) -> None:
    images = images_of(lesions(2))
    model = SamModel.from_pretrained(sam_folder)
    first = stock(model, images)[1].pred_masks[:, 0]
    expected, _ = stock(model, images, masks=first)
    found = policy_of(sam_folder, iterations=2).logits(images, PROMPTS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    once = policy_of(sam_folder, iterations=1).logits(images, PROMPTS)
    assert not torch.allclose(found, once, atol=1e-3)


@pytest.mark.parametrize("multimask", [True, False])
def test_sam_hq_answers_as_the_class_of_transformers(tmp_path: Path, multimask: bool) -> None:
    model = write_sam(tmp_path, hq=True)
    images = images_of(lesions(2))
    policy = policy_of(tmp_path, iterations=1)
    assert policy.inner.family == "sam_hq"
    answer = policy.ask(images, PROMPTS, multimask=multimask)
    expected, output = stock(model, images, multimask=multimask)
    torch.testing.assert_close(answer.logits[:, :, 0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(answer.quality[:, :, 0], output.iou_scores[:, 0])
    # One image at a time, and through a model file, with embeddings that are kept.
    alone = torch.cat([policy.logits(images[n : n + 1], PROMPTS[n : n + 1]) for n in range(2)])
    torch.testing.assert_close(policy.logits(images, PROMPTS), alone, rtol=1e-3, atol=1e-4)
    card = promptable_card(policy.inner, LESION, Preparation(dims=2, size=(SIDE, SIDE)))
    save_model(tmp_path / "best.safetensors", policy.inner, card)
    again, _ = load_model(tmp_path / "best.safetensors")
    assert again.digest() == policy.digest()
    set_trainable(policy.inner, ("decoder",))
    data = lesions(2)
    policy.prepare(data, Cache(tmp_path / "cache"))
    torch.testing.assert_close(policy.logits(images, PROMPTS), alone, rtol=1e-3, atol=1e-4)
    smaller = policy_of(tmp_path, size=16)
    assert smaller.logits(images[..., ::2, ::2]).shape == (2, 1, SIDE // 2, SIDE // 2)


@pytest.mark.parametrize("kind", ["sam3", "sam3_video", "sam3_tracker", "edgetam", "clip"])
def test_another_kind_of_checkpoint_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(SegprefError, match=f"of the kind {kind}: name one of SAM, SAM-HQ or SAM 2"):
        load_sam(str(tmp_path))


@pytest.mark.slow
def test_sam2_answers_as_the_class_of_transformers(tmp_path: Path) -> None:
    write_sam2(tmp_path)
    images = images_of(lesions(2, side=64))
    policy = policy_of(tmp_path, iterations=1)
    model = Sam2Model.from_pretrained(tmp_path)
    model.mask_decoder.dynamic_multimask_via_stability = False
    expected, _ = stock(model, images)
    torch.testing.assert_close(policy.logits(images, PROMPTS), expected, rtol=0, atol=1e-5)
    set_trainable(policy.inner, ("decoder",))
    assert policy.encoder_frozen
    assert policy.logits(images, [[Prompt()]] * 2).isfinite().all()
    smaller = policy_of(tmp_path, size=32)
    assert smaller.inner.side == 32
    assert smaller.logits(images).shape == images.shape


def test_it_is_a_policy(sam_folder: Path) -> None:
    policy = policy_of(sam_folder)
    state = policy.forward(images_of(lesions(2)))
    assert isinstance(policy, Policy)
    assert isinstance(policy, Promptable)
    assert isinstance(state, State)
    assert state.logits.requires_grad
    assert not state.quality.requires_grad
    assert policy.dropout_logits(state, 2, None, [0]) is None
    with pytest.raises(SegprefError, match="one binary mask per prompt"):
        PromptablePolicy(policy.network, LabelSpace("multi-class", ("background", "lesion")))


def test_a_batch_of_unlike_prompts_is_as_one_image_at_a_time(sam_folder: Path) -> None:
    policy = policy_of(sam_folder)
    images = images_of(lesions(4))
    guess = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    prompts = [[Prompt()], PROMPTS[0], [Prompt(PROMPTS[1][0].box)], [Prompt(mask=guess)]]
    together = policy.logits(images, prompts)
    for number in range(4):
        alone = policy.logits(images[number : number + 1], prompts[number : number + 1])
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-4, atol=1e-5)


def test_structures_have_prompts_of_their_own(sam_folder: Path) -> None:
    policy = policy_of(sam_folder)
    space = LabelSpace("multi-label", ("left", "right"))
    both = PromptablePolicy(policy.network, space)
    images = images_of(lesions(2))
    pairs = [[PROMPTS[0][0], PROMPTS[1][0]], [PROMPTS[1][0], PROMPTS[0][0]]]
    found = both.logits(images, pairs)
    for field in range(2):
        single = policy.logits(images, [[row[field]] for row in pairs])
        torch.testing.assert_close(found[:, field : field + 1], single, rtol=1e-4, atol=1e-5)


def test_one_image_may_be_asked_several_times(sam_folder: Path) -> None:
    policy = policy_of(sam_folder)
    image = images_of(lesions(1))
    many = policy.ask(image, PROMPTS).logits
    each = policy.ask(image.expand(2, -1, -1, -1), PROMPTS).logits
    torch.testing.assert_close(many, each, rtol=1e-4, atol=1e-5)


class Counted:
    """Counts the images that pass the encoder."""

    def __init__(self, policy: PromptablePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = 0
        encode = policy.inner.encode

        def counting(pixels: torch.Tensor) -> Any:
            self.images += len(pixels)
            return encode(pixels)

        monkeypatch.setattr(policy.inner, "encode", counting)


def test_a_frozen_encoder_sees_every_image_once(
    sam_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, store = lesions(4), Cache(tmp_path)
    images = images_of(dataset)
    losses: list[list[float]] = []
    for kept in (True, False):
        network = load_sam(str(sam_folder))
        set_trainable(network, ("decoder",))
        policy = PromptablePolicy(network, LESION)
        counted = Counted(policy, monkeypatch)
        if kept:
            policy.prepare(dataset, store)
        optimizer = torch.optim.SGD((w for w in network.parameters() if w.requires_grad), 1e-2)
        losses.append([])
        for _ in range(3):
            loss = policy.forward(images).logits.sigmoid().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(float(loss.detach()))
        policy.logits(images[2:])
        assert counted.images == (4 if kept else 14)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][0] != losses[0][1]

    # A second policy with the same encoder finds them on disk; an unknown image is encoded.
    other = PromptablePolicy(load_sam(str(sam_folder)), LESION)
    set_trainable(other.inner, ("decoder",))
    counted = Counted(other, monkeypatch)
    other.prepare(dataset, store)
    other.logits(images)
    assert counted.images == 0
    other.logits(images + 0.01)
    assert counted.images == 4


def test_an_encoder_that_learns_is_never_looked_up(
    sam_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = lesions(2)
    policy = PromptablePolicy(load_sam(str(sam_folder)), LESION)
    set_trainable(policy.inner, ("decoder",))
    policy.prepare(dataset, Cache(tmp_path))
    set_trainable(policy.inner, PARTS)
    counted = Counted(policy, monkeypatch)
    policy.forward(images_of(dataset)).logits.sum().backward()
    assert counted.images == 2
    assert policy.inner.sam.vision_encoder.patch_embed.projection.weight.grad.abs().sum() > 0


def test_parts_learn_or_do_not(sam_folder: Path, clip_folder: Path) -> None:
    network = load_sam(str(sam_folder), text_encoder=str(clip_folder))
    parts = {name: part_of(name) for name, _ in network.named_parameters()}
    assert set(parts.values()) == {*PARTS, None}
    assert parts["text_projection.weight"] == "prompts"
    for chosen in (("encoder",), ("prompts", "decoder")):
        set_trainable(network, chosen)
        learning = {parts[name] for name, w in network.named_parameters() if w.requires_grad}
        assert learning == set(chosen)
    with pytest.raises(SegprefError, match="name at least one"):
        set_trainable(network, ())


@pytest.mark.slow
def test_lora_starts_at_the_same_masks_and_goes_out_without_peft(
    sam_folder: Path, tmp_path: Path
) -> None:
    images = images_of(lesions(2))
    plain = policy_of(sam_folder)
    tuned = policy_of(sam_folder, lora=Lora(rank=2, parts=("encoder", "decoder")))
    torch.testing.assert_close(tuned.logits(images), plain.logits(images))
    set_trainable(tuned.inner, ("encoder",))
    named = dict(tuned.inner.named_parameters())
    learning = [name for name, weight in named.items() if weight.requires_grad]
    assert learning
    assert all("lora_" in name and part_of(name) == "encoder" for name in learning)
    with torch.no_grad():
        for name in learning:
            named[name].normal_(std=0.3)
    changed = tuned.logits(images)
    assert not torch.allclose(changed, plain.logits(images), atol=1e-3)

    save_sam(tuned.inner, tmp_path / "out")
    assert isinstance(SamModel.from_pretrained(tmp_path / "out"), SamModel)
    plain_again = policy_of(tmp_path / "out").logits(images)
    torch.testing.assert_close(plain_again, changed, rtol=1e-4, atol=1e-4)

    card = promptable_card(tuned.inner, LESION, Preparation(dims=2, size=(SIDE, SIDE)))
    save_model(tmp_path / "model.safetensors", tuned.inner, card)
    back, found = load_model(tmp_path / "model.safetensors")
    torch.testing.assert_close(back.logits(images), changed)
    assert found.label_space == LESION
    assert back.digest() == tuned.digest()
    assert back.digest() != plain.digest()


def test_the_digest_knows_the_prompter(sam_folder: Path) -> None:
    network = load_sam(str(sam_folder))
    one = PromptablePolicy(network, LESION)
    other = PromptablePolicy(network, LESION, WholeImage(1, ["a lesion"]))
    assert one.digest() == PromptablePolicy(network, LESION, WholeImage()).digest()
    assert one.digest() != other.digest()


def test_another_input_size_interpolates_the_positions(tmp_path: Path) -> None:
    model = write_sam(tmp_path, side=64)
    network = load_sam(str(tmp_path), size=32)
    assert (network.side, network.mask_side) == (32, 32)
    old = model.vision_encoder
    new = network.sam.vision_encoder
    expected = functional.interpolate(
        old.pos_embed.movedim(-1, 1), (8, 8), mode="bilinear", antialias=True
    ).movedim(1, -1)
    torch.testing.assert_close(new.pos_embed, expected)
    # What a layer looks up for its size is what SAM itself would interpolate from the old weights.
    for axis in ("rel_pos_h", "rel_pos_w"):
        wide, narrow = getattr(old.layers[1].attn, axis), getattr(new.layers[1].attn, axis)
        torch.testing.assert_close(
            new.layers[1].attn.get_rel_pos(8, 8, wide), new.layers[1].attn.get_rel_pos(8, 8, narrow)
        )
    for (name, one), other in zip(model.named_parameters(), network.sam.parameters(), strict=True):
        if "pos" not in name:
            assert torch.equal(one, other)
    with pytest.raises(SegprefError, match="multiple of 4"):
        load_sam(str(tmp_path), size=30)


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (32, 32), (50, 64)])
def test_the_frame_puts_pixels_and_prompts_on_each_other(shape: tuple[int, int]) -> None:
    """A bright pixel's centre of mass in the network's square is where its point is put."""
    y, x = shape[0] // 2, shape[1] // 3
    image = torch.zeros(1, 3, *shape)
    image[..., y, x] = 1
    for fit in ("pad", "stretch"):
        frame = Frame(shape, 32, fit)  # type: ignore[arg-type]
        square = frame.pixels(image)[0, 0]
        assert square.shape == (32, 32)
        rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
        mass = square.sum()
        centre = [float((columns * square).sum() / mass), float((rows * square).sum() / mass)]
        assert frame.points([(x, y, 1)])[0] == pytest.approx(centre, abs=0.15)
        left, top, right, bottom = frame.box((-0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5))
        assert (left, top) == (-0.5, -0.5)
        assert (right, bottom) == pytest.approx((frame.inner[1] - 0.5, frame.inner[0] - 0.5))
        smooth = torch.linspace(0, 1, shape[1]).expand(1, 1, *shape)
        again = frame.restored(frame.mask(smooth, 32))
        torch.testing.assert_close(again, smooth, rtol=0, atol=0.06)


def test_prompts_turn_with_their_image() -> None:
    mask = np.zeros((6, 9), dtype=bool)
    mask[1:3, 4:8] = True
    marked = np.zeros((6, 9))
    marked[2, 7] = 1
    prompt = Prompt((3.5, 0.5, 7.5, 2.5), ((7.0, 2.0, 1),), mask=marked)
    for quarters in range(4):
        for flip in (False, True):
            moved = turned_prompt(prompt, (6, 9), quarters, flip)
            turned_mask = turned(mask, quarters, flip)
            rows, columns = np.nonzero(turned_mask)
            edges = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
            assert moved.box == edges
            ((x, y, _),) = moved.points
            assert turned(marked, quarters, flip)[int(y), int(x)] == 1
            assert moved.mask is not None
            assert moved.mask.shape == turned_mask.shape


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Prompt((5, 5, 5, 9)), "has no area"),
        (lambda: Prompt((9, 5, 5, 9)), "has no area"),
        (lambda: Prompt((float("nan"), 0, 5, 9)), "four finite numbers"),
        (lambda: Prompt(points=((1.0, float("inf"), 1),)), "a point prompt is x, y and a label"),
        (lambda: Prompt(points=((1.0, 1.0, 2),)), "a point prompt is x, y and a label"),
        (lambda: Prompt(text="  "), "text prompt is empty"),
        (lambda: Prompt(mask=np.full((4, 4), np.nan)), "not finite"),
    ],
)
def test_bad_prompts_are_refused_in_one_sentence(make: Any, says: str) -> None:
    with pytest.raises(SegprefError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (Prompt((5, 5, 200, 20)), r"reaches beyond an image of 32 x 32 pixels"),
        (Prompt((-9, 5, 20, 20)), r"the box \(-9, 5, 20, 20\) reaches beyond"),
        (Prompt(points=((40.0, 3.0, 1),)), r"the point \(40, 3\) is outside"),
        (Prompt(mask=np.zeros((8, 8), np.float32)), "in the image's own pixels"),
        (Prompt(text="a lesion"), "made without a text encoder"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(sam_folder: Path, prompt: Prompt, says: str) -> None:
    policy = policy_of(sam_folder)
    with pytest.raises(SegprefError, match=says):
        policy.logits(images_of(lesions(1)), [[prompt]])
    with pytest.raises(SegprefError, match="need one prompt each"):
        policy.logits(images_of(lesions(2)), [[Prompt()]])
    with pytest.raises(SegprefError, match="1 or 3 channels"):
        policy.logits(torch.zeros(1, 2, SIDE, SIDE))


def test_texts_change_the_mask_and_too_long_ones_are_refused(
    sam_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    policy = policy_of(sam_folder, text_encoder=str(clip_folder))
    images = images_of(lesions(1))
    found = [policy.logits(images, [[Prompt(text=text)]]) for text in (None, "a dark lesion")]
    found.append(policy.logits(images, [[Prompt(text="a bright lesion")]]))
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    assert not torch.allclose(found[1], found[2], atol=1e-4)
    state = policy.forward(images, [[Prompt(text="a dark lesion")]])
    state.logits.sum().backward()
    assert policy.inner.text_projection is not None
    assert policy.inner.text_projection.weight.grad is not None
    with pytest.raises(SegprefError, match=r"has 32 tokens and .* reads 24: shorten it"):
        policy.logits(images, [[Prompt(text="lesion " * 30)]])
    save_sam(policy.inner, tmp_path)
    again = policy_of(tmp_path, text_encoder=str(clip_folder), seed=5)
    torch.testing.assert_close(again.logits(images, [[Prompt(text="a bright lesion")]]), found[2])


def test_what_is_no_checkpoint_is_said(sam_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SegprefError, match="can't be loaded from"):
        load_sam(str(tmp_path / "nothing"))
    with pytest.raises(SegprefError, match="a checkpoint of the kind clip"):
        load_sam(str(clip_folder))
    with pytest.raises(SegprefError, match="there is no model at"):
        load_model(tmp_path)
    network = load_sam(str(sam_folder))
    with pytest.raises(SegprefError, match="images from 0 to 1"):
        promptable_card(network, LESION, Preparation(dims=2, normalise="z-score"))


def test_a_missing_package_is_said_in_one_sentence(
    sam_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SegprefError, match=r"pip install 'segpref\[promptable\]'") as caught:
        load_sam(str(sam_folder), lora=Lora())
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SegprefError, match="transformers is needed here"):
        load_sam(str(sam_folder))


def test_kept_prompts_are_made_once_and_found_again(tmp_path: Path) -> None:
    class Slow:
        calls = 0

        def __call__(self, images: torch.Tensor) -> list[list[Prompt]]:
            self.calls += len(images)
            return [
                [Prompt((0, 0, 4, float(image.mean()) + 3), ((1.0, 2.0, 1),), text="a lesion")]
                for image in images
            ]

        def key(self) -> dict[str, object]:
            return {"slow": 1}

    dataset, slow = lesions(3), Slow()
    images = images_of(dataset)
    kept = KeptPrompts(slow)
    kept.prepare(dataset, Cache(tmp_path))
    assert slow.calls == 3
    found = kept(images)
    assert slow.calls == 3
    assert found == slow(images)
    again = KeptPrompts(Slow())
    again.prepare(dataset, Cache(tmp_path))
    assert again(images) == found
    assert again.prompter.calls == 0  # type: ignore[attr-defined]
    assert again(images + 0.1) == slow(images + 0.1)
