"""Candidates, ratings, rankings and the margin of four: Konwer et al. (2025), Sec. 3.2."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import LESION, SIDE, images_of, lesions
from torch import Tensor

from segpref.contrib.judges import PredictedIoU
from segpref.judges import NoisyJudge, OracleJudge, VirtualAnnotator, quartiles, rated
from segpref.metrics import slate_iou
from segpref.objectives import (
    DPO,
    BestOnly,
    FocalDiceLoss,
    disagreement,
    grouped,
    margins,
    quality_loss,
    winner_log_likelihood,
)
from segpref.policies.promptable import PromptablePolicy, load_sam
from segpref.preferences import NestedPairs
from segpref.prompts import Prompt, WholeImage, mask_logits
from segpref.proposals import MultimaskOutput, OtherPrompts, SlateProposals, Thresholds, full_slates
from segpref.types import IGNORE, Candidate, Case, Margins, Pairs, SegprefError, Slate

RNG = np.random.default_rng(0)


def slate_of(masks: Any) -> Slate:
    array = np.array(masks, np.uint8)
    return Slate(array, tuple(Candidate(str(k)) for k in range(len(array))))


def case_of(label: Any) -> Case:
    label = np.array(label, np.uint8)
    image = np.zeros((1, *label.shape[1:]), np.float32)
    return Case(id="c", patient="p", volume="c", image=image, label=label)


# Candidates


@pytest.fixture
def policy(sam_folder: Path) -> PromptablePolicy:
    return PromptablePolicy(load_sam(str(sam_folder)), LESION)


def test_the_four_candidates_are_nested_thresholds(policy: PromptablePolicy) -> None:
    dataset = lesions(2)
    images = images_of(dataset)
    state = policy.forward(images)
    slates = full_slates(Thresholds((0.3, 0.4, 0.6)))(policy, state, images, list(dataset), 0)
    for slate, logits in zip(slates, state.logits.detach(), strict=True):
        levels = [0.5] + [float(c.settings["threshold"]) for c in slate.candidates[1:]]
        assert levels == [0.5, 0.3, 0.4, 0.6]
        for mask, level in zip(slate.masks, levels, strict=True):
            assert np.array_equal(mask, (logits.sigmoid() > level).numpy())
        assert (slate.masks[1] >= slate.masks[2]).all()
        assert (slate.masks[0] >= slate.masks[3]).all()


def test_multimask_candidates_are_ranked_by_predicted_iou(policy: PromptablePolicy) -> None:
    dataset = lesions(2)
    images = images_of(dataset)
    state = policy.forward(images)
    (slate, other) = SlateProposals(4, [MultimaskOutput()])(policy, state, images, list(dataset), 0)
    answer = policy.ask(images, state.prompts, multimask=True)
    for number, made in enumerate((slate, other)):
        order = answer.quality[number, :, 0].argsort(descending=True)
        found = {mask.tobytes() for mask in made.masks[1:]}
        wanted = [(answer.logits[number, k] > 0).numpy().astype(np.uint8) for k in order]
        assert found <= {mask.tobytes() for mask in (*wanted, made.masks[0])}
        assert np.array_equal(made.masks[1], wanted[0])
        assert made.candidates[1] == Candidate("multimask", {"rank": 1})


def test_other_prompts_give_other_masks_and_the_same_for_the_same_seed(
    policy: PromptablePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = lesions(2)
    images = images_of(dataset)
    state = policy.forward(images, [[Prompt((4, 5, 20, 24), ((9.0, 8.0, 1),))]] * 2)
    encode = policy.inner.encode
    calls: list[int] = []

    def counting(pixels: Tensor) -> Any:
        calls.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(policy.inner, "encode", counting)
    family = OtherPrompts(samples=3, shift=0.3)

    def masks(seed: int) -> Tensor:
        found = family.predict(policy, state, images, [seed, seed + 10])
        assert found is not None
        return found["prompt"]

    first = masks(1)
    assert first.shape == (2, 3, 1, SIDE, SIDE)
    assert torch.equal(first, masks(1))
    assert not torch.equal(first, masks(2))
    assert not torch.equal(first[:, 0], first[:, 1])
    # The state brings the embeddings: further prompts cost no pass of the encoder.
    assert calls == []
    still = OtherPrompts(samples=1, shift=0.0, points=False).predict(policy, state, images, [0, 1])
    assert still is not None
    assert torch.equal(still["prompt"][:, 0], (state.logits > 0).to(torch.uint8))


def test_other_texts_are_tried_in_turn(sam_folder: Path, clip_folder: Path) -> None:
    network = load_sam(str(sam_folder), text_encoder=str(clip_folder))
    policy = PromptablePolicy(network, LESION, WholeImage(1, ["a lesion"]))
    images = images_of(lesions(1))
    state = policy.forward(images)
    texts = ("a dark lesion", "the breast")
    family = OtherPrompts(samples=2, shift=0.0, points=False, texts=texts)
    found = family.predict(policy, state, images, [0])
    assert found is not None
    for number, text in enumerate(texts):
        box = state.prompts[0][0].box
        wanted = policy.logits(images, [[Prompt(box, text=text)]]) > 0
        assert torch.equal(found["prompt"][:, number].bool(), wanted)


def test_a_policy_without_prompts_has_no_such_candidates() -> None:
    class Plain:
        label_space = LESION

    for family in (MultimaskOutput(), OtherPrompts()):
        assert family.predict(Plain(), None, torch.zeros(1, 1, 4, 4), [0]) is None  # type: ignore[arg-type]


# What the annotator says

# A row of ten pixels; the structure is pixels 0 to 3. Dice: 1, 2/3 (2 of 4), 8/9 (5 for 4), 0.
TRUTH = [[[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]]
MASKS = [
    [[[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]],
    [[[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]]],
    [[[1, 1, 1, 1, 1, 0, 0, 0, 0, 0]]],
    [[[0, 0, 0, 0, 0, 0, 0, 0, 1, 1]]],
]


def test_dice_ratings_and_ranks_by_hand() -> None:
    case, slate = case_of(TRUTH), slate_of(MASKS)
    dice = OracleJudge(LESION, measure="dice")
    assert dice.score(case, slate)[:, 0] == pytest.approx([1, 2 / 3, 8 / 9, 0])
    assert VirtualAnnotator(dice).score(case, slate)[:, 0].tolist() == [4, 2, 3, 1]
    ratings = VirtualAnnotator(dice, says="rating").score(case, slate)
    assert ratings[:, 0].tolist() == [4, 3, 4, 1]
    tied = slate_of([MASKS[0], MASKS[0], MASKS[3]])
    assert VirtualAnnotator(dice).score(case, tied)[:, 0].tolist() == [2.5, 2.5, 1]
    assert dice.needs_label
    assert VirtualAnnotator(dice).needs_label


def test_ratings_begin_at_their_cut_and_quartiles_share_the_scores() -> None:
    assert rated(np.array([0.0, 0.25, 0.4, 0.5, 0.75, 1.0]), (0.25, 0.5, 0.75)).tolist() == [
        1, 2, 2, 3, 4, 4
    ]  # fmt: skip
    scores = RNG.random(4000)
    found = rated(scores, quartiles(np.append(scores, np.nan)))
    assert np.bincount(found.astype(int))[1:].tolist() == pytest.approx([1000] * 4, abs=2)
    with pytest.raises(SegprefError, match="no score"):
        quartiles(np.array([np.nan]))


class ImagePrompts:
    """Scores that are told."""

    needs_label = False

    def __init__(self, *scores: float) -> None:
        self.scores = np.array(scores)[:, None]

    def score(self, case: Any, slate: Any) -> Any:
        return self.scores


def test_abstaining_stays_abstaining() -> None:
    case, slate = case_of(TRUTH), slate_of(MASKS)
    said = VirtualAnnotator(ImagePrompts(0.3, np.nan, 0.9, 0.1)).score(case, slate)[:, 0]
    assert said[[0, 2, 3]].tolist() == [2, 3, 1]
    assert math.isnan(said[1])


def test_flips_exchange_neighbours_and_nobody_twice() -> None:
    case, slate = case_of(TRUTH), slate_of(MASKS)
    always = VirtualAnnotator(ImagePrompts(0.9, 0.8, 0.5, 0.45), flip_rate=1.0)
    assert always.score(case, slate)[:, 0].tolist() == [3, 4, 1, 2]
    close = VirtualAnnotator(ImagePrompts(0.9, 0.8, 0.5, 0.45), flip_rate=1.0, flip_within=0.06)
    assert close.score(case, slate)[:, 0].tolist() == [4, 3, 1, 2]
    # A tie in what is said has nothing to exchange; the next pair is looked at.
    ratings = VirtualAnnotator(ImagePrompts(0.9, 0.8, 0.5, 0.1), says="rating", flip_rate=1.0)
    assert ratings.score(case, slate)[:, 0].tolist() == [4, 3, 4, 1]


def test_a_reversal_turns_the_whole_order_round() -> None:
    case, slate = case_of(TRUTH), slate_of(MASKS)
    ranks = VirtualAnnotator(ImagePrompts(0.9, 0.8, 0.5, 0.45), reverse_rate=1.0)
    assert ranks.score(case, slate)[:, 0].tolist() == [1, 2, 3, 4]
    ratings = VirtualAnnotator(ImagePrompts(0.9, 0.8, 0.5, np.nan), says="rating", reverse_rate=1.0)
    assert ratings.score(case, slate)[:3, 0].tolist() == [3, 3, 4]
    turned = 0
    for number in range(400):
        one = Case(id=f"c{number}", patient="p", volume="c", image=case.image)
        annotator = VirtualAnnotator(ImagePrompts(0.9, 0.8, 0.5, 0.45), reverse_rate=0.5, seed=1)
        said = annotator.score(one, slate)
        assert np.array_equal(said, annotator.score(one, slate))
        turned += said[0, 0] == 1
    assert turned / 400 == pytest.approx(0.5, abs=0.08)


def test_the_rate_of_flips_is_what_was_asked_for_and_repeats_itself() -> None:
    slate, changed = slate_of(MASKS), 0
    for number in range(400):
        label = case_of(TRUTH)
        case = Case(id=f"c{number}", patient="p", volume="c", image=label.image)
        annotator = VirtualAnnotator(ImagePrompts(0.9, 0.1, 0.1, 0.1), flip_rate=0.3, seed=1)
        said = annotator.score(case, slate)
        assert np.array_equal(said, annotator.score(case, slate))
        changed += said[0, 0] != 4
    assert changed / 400 == pytest.approx(0.3, abs=0.07)


def test_bad_annotators_are_refused() -> None:
    for options in (
        {"says": "shouting"}, {"flip_rate": 2.0}, {"flip_within": -1.0}, {"cuts": (0.5, 0.2)},
        {"reverse_rate": -0.1},
    ):  # fmt: skip
        with pytest.raises(SegprefError):
            VirtualAnnotator(ImagePrompts(1.0), **options)


def test_predicted_iou_is_that_of_the_candidate_as_a_prompt(policy: PromptablePolicy) -> None:
    (case,) = lesions(1)
    truth = case.label
    shifted = np.roll(truth, 3, axis=2)
    slate = slate_of([truth, shifted, np.zeros_like(truth)])
    image = torch.from_numpy(case.image)[None]
    judge = PredictedIoU(policy, agreement=False)
    assert not judge.needs_label
    scores = judge.score(case, slate)
    rows, columns = np.nonzero(shifted[0])
    box = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
    answer = policy.ask(image, [[Prompt(box, mask=mask_logits(shifted[0] == 1))]])
    assert scores[1, 0] == pytest.approx(float(answer.quality[0, 0, 0]), rel=1e-4)
    assert scores[2, 0] == 0
    drawn = (answer.logits[0, :, 0] > 0).numpy().astype(np.uint8)
    agreed = slate_iou(drawn[None], shifted, LESION)[0, 0]
    both = PredictedIoU(policy).score(case, slate)
    assert both[1, 0] == pytest.approx(scores[1, 0] * agreed, rel=1e-4)
    # Told apart by weights and prompts, also within another judge.
    assert judge.digest() == policy.digest() == NoisyJudge(judge).digest()
    with pytest.raises(SegprefError, match="name a promptable model"):
        PredictedIoU(OracleJudge(LESION))  # type: ignore[arg-type]


# One margin made of two pairs


def test_nested_pairs_by_hand() -> None:
    mined = NestedPairs((1.0, 0.5))(np.array([3.0, 1.0, 4.0, 2.0]), RNG)
    assert mined.rows.tolist() == [[2, 1], [0, 3]]
    assert mined.weight.tolist() == [1.0, 0.5]
    assert mined.group.tolist() == [0, 0]
    # Ratings that tie say nothing: the inner pair goes.
    assert NestedPairs()(np.array([4.0, 3.0, 3.0, 1.0]), RNG).rows.tolist() == [[0, 3]]
    assert len(NestedPairs()(np.array([2.0, 2.0, 2.0]), RNG)) == 0
    assert NestedPairs()(np.array([np.nan, 1.0, 2.0]), RNG).rows.tolist() == [[2, 1]]
    assert NestedPairs((1.0,))(np.arange(8.0), RNG).rows.tolist() == [[7, 0]]
    for weights in ((), (0.5, 1.0), (1.0, 0.0)):
        with pytest.raises(SegprefError, match="nested pairs have weights"):
            NestedPairs(weights)


@pytest.mark.parametrize("reduction", ["image", "region"])
def test_eq_5_is_one_objective_on_the_grouped_margins(reduction: Any) -> None:
    """Against Eq. 5 as it is printed, from log-likelihoods of whole masks."""
    beta1, beta2 = 1.3, 0.6
    slate = slate_of(MASKS)
    scores = OracleJudge(LESION, "dice").score(case_of(TRUTH), slate)[:, 0]
    mined = NestedPairs((beta1, beta2))(scores, RNG)
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 1, 1, 1, 10, generator=generator, dtype=torch.float64)
    policy.requires_grad_()
    pairs = Pairs(
        case=np.zeros(2, np.int64),
        field=np.zeros(2, np.int64),
        winner=mined.rows[:, 0],
        loser=mined.rows[:, 1],
        gap=scores[mined.rows[:, 0]] - scores[mined.rows[:, 1]],
    )
    region = disagreement([slate], pairs, LESION)
    plain = margins(policy, reference, region, reduction)
    joined = Margins(
        policy=plain.policy,
        reference=plain.reference,
        gap=plain.gap,
        weight=torch.from_numpy(mined.weight),
        group=torch.from_numpy(mined.group),
    )
    (loss,) = DPO(beta=1.0)(grouped(joined))

    def log_p(logits: Tensor, mask: int) -> Tensor:
        y = torch.tensor(MASKS[mask][0][0], dtype=torch.float64)
        z = logits.reshape(-1)
        return y * torch.nn.functional.logsigmoid(z) + (1 - y) * torch.nn.functional.logsigmoid(-z)

    def ratio(better: int, worse: int) -> Tensor:
        difference = sum(
            sign * (log_p(policy, k) - log_p(reference, k))
            for sign, k in ((1, better), (-1, worse))
        )
        assert isinstance(difference, Tensor)
        pixels = np.array(MASKS[better]) != np.array(MASKS[worse])
        return difference.sum() / (10 if reduction == "image" else int(pixels.sum()))

    # From best to worst: 0 (Dice 1), 2 (8/9), 1 (2/3), 3 (0).
    expected = -torch.nn.functional.logsigmoid(beta1 * ratio(0, 3) + beta2 * ratio(2, 1))
    torch.testing.assert_close(loss, expected)
    (slope,) = torch.autograd.grad(loss, policy, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, policy)
    torch.testing.assert_close(slope, wanted)


def test_best_only_is_the_first_term_of_eq_5() -> None:
    slate = slate_of(MASKS)
    generator = torch.Generator().manual_seed(1)
    policy, reference = torch.randn(2, 1, 1, 1, 10, generator=generator, dtype=torch.float64)
    policy.requires_grad_()
    pairs = Pairs(*(np.array([v]) for v in (0, 0, 0, 3)), np.array([1.0]))
    region = disagreement([slate], pairs, LESION)
    winner = winner_log_likelihood(policy, [slate], region, LESION, "image")
    before = winner_log_likelihood(reference, [slate], region, LESION, "image")
    zero = torch.zeros(1, dtype=torch.float64)
    (loss,) = BestOnly(beta=2.0)(Margins(zero, zero, zero, winner=winner, reference_winner=before))
    y = torch.tensor(TRUTH, dtype=torch.float64)[None]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    ratio = entropy(reference, y) - entropy(policy, y)
    torch.testing.assert_close(loss, -torch.nn.functional.logsigmoid(2.0 * ratio))
    # Nothing cancels: pixels on which all candidates agree learn, too.
    (slope,) = torch.autograd.grad(loss, policy)
    assert (slope[..., 5:8] != 0).all()
    with pytest.raises(SegprefError, match="reference_winner"):
        BestOnly()(Margins(zero, zero, zero, winner=winner))
    with pytest.raises(SegprefError, match="beta"):
        BestOnly(beta=0)


# Stage 1's loss


def test_focal_and_dice_by_hand() -> None:
    # p = .5 on the structure, p = .75 beside it: odds 3.
    logits = torch.tensor([[[[0.0, math.log(3)]]]])
    target = torch.tensor([[[[1, 0]]]], dtype=torch.uint8)
    focal = (0.25 * 0.5**2 * math.log(2) + 0.75 * 0.75**2 * math.log(4)) / 2
    dice = 1 - (2 * 0.5 + 1) / (1.25 + 1 + 1)
    assert float(FocalDiceLoss()(logits, target)) == pytest.approx(20 * focal + dice, rel=1e-5)
    ignored = torch.tensor([[[[1, IGNORE]]]], dtype=torch.uint8)
    alone = FocalDiceLoss()(logits[..., :1], target[..., :1])
    torch.testing.assert_close(FocalDiceLoss()(logits, ignored), alone)
    nothing = torch.full((1, 1, 1, 2), IGNORE, dtype=torch.uint8)
    assert float(FocalDiceLoss()(logits, nothing)) == 0
    with pytest.raises(SegprefError, match="do not fit"):
        FocalDiceLoss()(logits, target[..., :1])
    with pytest.raises(SegprefError, match="weights and a gamma"):
        FocalDiceLoss(alpha=1.5)


def test_focal_and_dice_against_monai() -> None:
    from monai.losses import DiceLoss, FocalLoss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 9, 8, generator=generator)
    target = (torch.rand(3, 2, 9, 8, generator=generator) < 0.3).to(torch.uint8)
    focal = FocalLoss(gamma=2.0, alpha=0.25, reduction="none")(logits, target.float())
    # MONAI's smoothing stands beside twice the overlap and the sum, as ours.
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")
    expected = 20 * focal.mean((2, 3)) + dice(logits, target.float())[..., 0, 0]
    torch.testing.assert_close(FocalDiceLoss()(logits, target), expected, rtol=1e-4, atol=1e-5)


def test_the_quality_loss_by_hand() -> None:
    logits = torch.tensor([[[[1.0, 1.0, -1.0, 2.0]], [[-1.0, -1.0, -1.0, -1.0]]]])
    target = torch.tensor([[[[1, 0, 1, IGNORE]], [[0, 0, 0, 0]]]], dtype=torch.uint8)
    quality = torch.tensor([[0.5, 0.8]], requires_grad=True)
    found = quality_loss(quality, logits, target)
    # One pixel in common of three; empty against empty is 1.
    assert found[0].tolist() == pytest.approx([(0.5 - 1 / 3) ** 2, 0.04])
    found.sum().backward()
    assert quality.grad is not None
