from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segpref.data import Dataset
from segpref.inference import mean_iou, score_masks, score_model
from segpref.judges import ModelJudge, NoisyJudge, OracleJudge
from segpref.metrics import slate_iou
from segpref.objectives import DPO, CalibratedDPO
from segpref.policies import Segmenter
from segpref.preferences import TopVsRandom
from segpref.proposals import SlateProposals
from segpref.report import Comparison
from segpref.studies import (
    audit,
    audit_page,
    audit_verdict,
    labels_advice,
    measured_flip_rates,
    own_masks_verdict,
    read_flip_rates,
    scored_slates,
    select_best,
)
from segpref.training import AlignConfig, with_flip_rates
from segpref.types import Case, SegprefError, Slate


class Contrary(OracleJudge):
    """Always wrong."""

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        return 1 - super().score(case, slate)


class Blind:
    """Notes what it is shown and has no score."""

    needs_label = False

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        self.cases.append(case)
        return np.full((len(slate), 1), np.nan)


def test_the_oracle_passes_its_own_audit(policy: Segmenter, unseen: Dataset) -> None:
    oracle = OracleJudge(unseen.label_space)
    found = audit(policy, unseen, oracle, TopVsRandom(), SlateProposals(8, "paper"))
    assert found.judge.harm_top == 0
    assert found.judge.harm_mag == 0
    assert found.judge.regret == 0
    assert found.judge.pair_flip == 0
    assert found.judge.kendall == pytest.approx(1)
    assert found.judge.headroom == pytest.approx(found.best_quality - found.base_quality, abs=0.05)
    assert found.best_quality > found.base_quality
    assert 0.5 < found.distinct <= 1
    turned = Contrary(unseen.label_space)
    contrary = audit(policy, unseen, turned, TopVsRandom(), SlateProposals(8, "paper"))
    assert contrary.judge.pair_flip == 1
    assert (found.flips.flip_rate, contrary.flips.flip_rate) == (0, 1)
    assert found.flips.pairs == contrary.flips.pairs > 100
    assert contrary.judge.kendall == pytest.approx(-1)
    assert contrary.base_quality == found.base_quality


class Drawing(OracleJudge):
    """Has masks of its own: the labels, but of some patients none."""

    needs_label = True

    def __init__(self, unseen: Dataset, silent: str) -> None:
        super().__init__(unseen.label_space)
        self.silent = silent

    def own_mask(self, case: Case) -> np.ndarray | None:
        return None if case.patient == self.silent else np.asarray(case.label)


def test_masks_of_the_judge_stand_beside_those_of_the_model(
    policy: Segmenter, unseen: Dataset
) -> None:
    proposals = SlateProposals(8, "paper")
    silent, *others = unseen.patients
    found = audit(policy, unseen, Drawing(unseen, silent), TopVsRandom(), proposals)
    own = found.own
    assert own is not None
    assert own.patients == len(others)
    # Of what the model makes of the others, slice by slice.
    missing: dict[str, list[float]] = {name: [] for name in others}
    for case in unseen:
        if case.patient != silent:
            (mask,) = policy.label_space.decode(policy.logits(torch.tensor(case.image)[None]))
            pair = np.stack([mask.numpy(), case.label])
            quality = slate_iou(pair, case.label, unseen.label_space)
            missing[case.patient].append(1 - float(quality[0].mean()))
    assert own.mean == pytest.approx(np.mean([np.mean(one) for one in missing.values()]))
    assert found.as_dict()["own"] == own.as_dict()

    same = audit(policy, unseen, ModelJudge(policy), TopVsRandom(), proposals).own
    assert same is not None
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    none = audit(policy, unseen, OracleJudge(unseen.label_space), TopVsRandom(), proposals)
    assert none.own is None
    assert none.as_dict()["own"] is None


def test_the_verdict_is_paired_over_patients(policy: Segmenter, unseen: Dataset) -> None:
    oracle, contrary = OracleJudge(unseen.label_space), Contrary(unseen.label_space)
    proposals = SlateProposals(8, "paper")
    good, bad = (audit(policy, unseen, one, TopVsRandom(), proposals) for one in (oracle, contrary))
    assert good.worth is not None
    assert good.worth.patients == len(unseen.patients)
    assert good.worth.mean > 0
    assert good.as_dict()["worth"] == good.worth.as_dict()
    for found, word in ((good, "worth using"), (bad, "harm")):
        assert found.worth is not None
        sure = replace(found, worth=replace(found.worth, patients=6, p_value=0.03))
        assert audit_verdict(sure)[0] == (word == "worth using")
        assert word in audit_verdict(sure)[1]
        few = replace(found, worth=replace(found.worth, patients=5))
        assert audit_verdict(few)[1].startswith("The judge is not shown to be worth using")
        assert "with fewer than 6 patients nothing is shown" in audit_verdict(few)[1]
    nothing = audit(policy, unseen, Blind(), TopVsRandom(), proposals)
    assert audit_verdict(nothing) == (
        False,
        "Not known whether the judge is worth using: it can order the candidates of no labelled image.",
    )
    page = audit_page(nothing)
    assert page.sections[0].table is not None
    assert {row[1] for row in page.sections[0].table.rows} == {"–"}


def test_shares_of_families_add_up(policy: Segmenter, unseen: Dataset) -> None:
    oracle = OracleJudge(unseen.label_space)
    found = audit(policy, unseen, oracle, TopVsRandom(), SlateProposals(8))
    for name in ("share", "top", "chosen"):
        assert sum(getattr(family, name) for family in found.families) == pytest.approx(1)
    anchor = found.families[0]
    assert anchor.family == "anchor"
    assert (anchor.gain, anchor.better) == (0, 0)
    assert anchor.share >= 1 / 8
    assert [family.top for family in found.families] == [f.chosen for f in found.families]
    assert found.as_dict()["judge"]["regret"] == 0


def test_an_audit_repeats(policy: Segmenter, unseen: Dataset) -> None:
    oracle = OracleJudge(unseen.label_space)
    first, again, other = (
        audit(policy, unseen, oracle, TopVsRandom(), SlateProposals(8), seed).as_dict()
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_flips_are_those_that_were_put_in(policy: Segmenter, unseen: Dataset) -> None:
    oracle = OracleJudge(unseen.label_space)
    noisy = NoisyJudge(oracle, flip_rate=0.4)
    found = audit(policy, unseen, noisy, TopVsRandom(), SlateProposals(8))
    scored = list(scored_slates(policy, unseen, noisy, SlateProposals(8), seed=0))
    reversed_, pairs = 0, 0
    for one in scored:
        true = slate_iou(one.slate.masks, np.asarray(one.case.label), unseen.label_space)[:, 0]
        told = np.abs(true[:, None] - true) >= 1e-4
        count = int(np.triu(told).sum())
        pairs += count
        reversed_ += count * (int(one.scores[:, 0].argmax()) != int(true.argmax()))
    assert found.flips.pairs == pairs
    assert found.flips.flip_rate == pytest.approx(reversed_ / pairs)
    assert 0.1 < found.flips.flip_rate < 0.8
    plain = found.as_dict()["flips"]
    assert plain["flip_rate"] == found.flips.flip_rate
    assert sum(part["count"] for part in plain["by_gap"]) == pairs
    assert set(plain["by_disagreement"][0]) == {"low", "high", "count", "flip_rate", "true_gap"}
    assert all(0 < part["low"] <= part["high"] <= 1 for part in plain["by_disagreement"])
    json.dumps(found.as_dict(), allow_nan=False)


def test_an_audit_needs_labels(policy: Segmenter, unseen: Dataset) -> None:
    with pytest.raises(SegprefError, match="has a label"):
        audit(policy, unseen.without_labels(), Blind(), TopVsRandom(), SlateProposals(8))


def test_slates_come_with_their_whole_case_but_judges_are_shown_less(
    policy: Segmenter, unseen: Dataset
) -> None:
    judge = Blind()
    slates = list(scored_slates(policy, unseen, judge, SlateProposals(8), seed=0, batch_size=3))
    assert [one.case.id for one in slates] == [one.id for one in unseen]
    assert all(one.case.label is not None for one in slates)
    assert {one.id for one in judge.cases} == {one.id for one in unseen}
    assert all(one.label is None for one in judge.cases)


def test_selecting_with_the_oracle_is_never_worse(policy: Segmenter, unseen: Dataset) -> None:
    oracle = OracleJudge(unseen.label_space)
    slates = list(scored_slates(policy, unseen, oracle, SlateProposals(12), seed=0))
    chosen = select_best(iter(slates), unseen)
    for one, (volume, items, mask) in zip(slates, chosen, strict=True):
        assert volume.source.id == one.case.volume
        assert items == [0]
        both = np.concatenate([one.slate.masks, mask])
        quality = slate_iou(both, np.asarray(one.case.label), unseen.label_space)[:, 0]
        assert quality[-1] == quality[:-1].max() >= quality[0]
    assert mean_iou(score_masks(chosen, unseen.label_space)) > mean_iou(score_model(policy, unseen))


def test_without_an_opinion_the_anchor_stays(policy: Segmenter, unseen: Dataset) -> None:
    slates = scored_slates(policy, unseen, Blind(), SlateProposals(8), seed=0)
    kept = score_masks(select_best(slates, unseen), unseen.label_space)
    assert str(kept) == str(score_model(policy, unseen))


def test_flip_rates_are_measured_once_and_taken_by_the_loss(
    policy: Segmenter, unseen: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "audit.json"
    contrary = Contrary(unseen.label_space)
    flips = measured_flip_rates(file, policy, unseen, contrary, TopVsRandom(), SlateProposals(8), 0)
    assert all(one.flip_rate == 1 for one in flips)
    # What is on disk counts: the judge is not asked again.
    blind = Blind()
    assert (
        measured_flip_rates(file, policy, unseen, blind, TopVsRandom(), SlateProposals(8), 0)
        == flips
    )
    content = file.read_bytes()
    # One bit: a 0 for a 1.
    file.write_bytes(content.replace(b'"flip_rate": 1.0', b'"flip_rate": 0.0', 1))
    with pytest.raises(SegprefError, match=r"audit.json is not what was written"):
        read_flip_rates(file)
    assert not blind.cases
    waiting = AlignConfig(objective=CalibratedDPO(0.5))
    assert waiting.needs_flips
    assert not AlignConfig(objective=DPO()).needs_flips
    known = with_flip_rates(waiting, flips)
    assert not known.needs_flips
    taught = known.objective
    assert isinstance(taught, CalibratedDPO)
    assert taught.beta == 0.5
    assert taught.flip_rates == (1.0,) * len(flips)
    assert list(taught.gaps) == sorted(one.middle for one in flips)
    # Of pairs that are turned round besides, as many are wrong as chance makes them.
    control = with_flip_rates(replace(waiting, control=True), flips).objective
    assert isinstance(control, CalibratedDPO)
    assert control.flip_rates == (0.5,) * len(flips)


def test_a_judge_without_pairs_calibrates_nothing(
    policy: Segmenter, unseen: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(SegprefError, match=r"audit.json holds no flip rates.*gives no pairs"):
        measured_flip_rates(
            tmp_path / "audit.json", policy, unseen, Blind(), TopVsRandom(), SlateProposals(8), 0
        )


def test_every_structure_has_a_row(policy: Segmenter, unseen: Dataset) -> None:
    oracle = OracleJudge(unseen.label_space)
    found = audit(policy, unseen, oracle, TopVsRandom(), SlateProposals(8))
    assert [row.structure for row in found.structures] == list(unseen.label_space.structures)
    assert sum(row.pairs for row in found.structures) == found.judge.pairs
    for row in found.structures:
        assert row.pair_flip == 0 or not row.pairs
        assert row.abstained == 0
        assert 0 <= row.empty <= 1
    assert found.abstains_on == ()
    contrary = audit(policy, unseen, Contrary(unseen.label_space), TopVsRandom(), SlateProposals(8))
    assert all(row.pair_flip == 1 for row in contrary.structures if row.pairs)
    blind = audit(policy, unseen, Blind(), TopVsRandom(), SlateProposals(8))
    for row in blind.structures:
        assert row.slates == row.pairs == 0
        assert row.abstained > 0
    json.dumps(blind.as_dict()["structures"], allow_nan=False)


def test_whether_the_judge_is_the_better_segmenter(policy: Segmenter, unseen: Dataset) -> None:
    found = audit(policy, unseen, Drawing(unseen, ""), TopVsRandom(), SlateProposals(8, "paper"))
    own = Comparison(0.05, 0.02, 0.08, 0.01, 10)
    for said, beginning in (
        (own, "The judge's own masks are better than the model's: IoU +0.050 per patient"),
        (replace(own, mean=-0.05, low=-0.08, high=-0.02), "The judge's own masks are worse than"),
        (replace(own, low=-0.01), "The judge's own masks are not shown to be better than"),
    ):
        told = replace(found, own=said)
        sentence, advice = own_masks_verdict(told), labels_advice(told)
        assert sentence is not None
        assert sentence.startswith(beginning)
        assert sentence in audit_page(told).evidence
        assert (advice is None) == (said is not own)
        assert advice is None or advice.startswith("Use the judge in the model's place")
        assert (advice in audit_page(told).evidence) == (advice is not None)
    assert own_masks_verdict(replace(found, own=None)) is None
    assert len(audit_page(replace(found, own=None)).evidence) == 1


@pytest.mark.parametrize(("unused", "who"), [(1, "1 patient that"), (6, "6 patients that")])
def test_labels_that_only_the_judge_has_seen_are_told_of(
    unused: int, who: str, policy: Segmenter, unseen: Dataset
) -> None:
    oracle = OracleJudge(unseen.label_space)
    found = audit(policy, unseen, oracle, TopVsRandom(), SlateProposals(8, "paper"))
    assert labels_advice(found) is None
    advice = labels_advice(replace(found, unused=unused))
    assert advice is not None
    assert who in advice
    assert advice in audit_page(replace(found, unused=unused)).evidence
    assert labels_advice(replace(found, unused=0)) is None
