"""Passes that only propose candidates, in bfloat16: slates hardly change, and the update not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_align import run
from torch import Tensor

from segpref.data import Cache, Dataset
from segpref.judges import ModelJudge
from segpref.policies import Segmenter, load_model
from segpref.preferences import Candidates
from segpref.proposals import IntensityTTA, MirroredViews, MonteCarloDropout, SlateProposals
from segpref.runtime import emulates_bfloat16, proposal_precision
from segpref.training import AlignConfig
from segpref.types import SegprefError

FAMILIES = (IntensityTTA(), MirroredViews(), MonteCarloDropout(2, rate=0.1))


def test_candidates_differ_in_few_pixels(heart_base: Path, hearts: Dataset) -> None:
    policy, cases = load_model(heart_base)[0], [hearts[i] for i in range(8)]
    full, low = (
        Candidates(policy, SlateProposals(9, FAMILIES), precision).drafts(cases, 0)
        for precision in ("no", "bf16")
    )
    apart = 0.0
    for one, other in zip(full, low, strict=True):
        # What edits begin with is the policy's own.
        np.testing.assert_array_equal(one.anchor, other.anchor)
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.logits.dtype == other.logits.dtype == np.float32
        assert {"tta", "mirrored", "dropout"} <= one.predictions.keys() == other.predictions.keys()
        shares = [
            (one.predictions[name] != other.predictions[name]).mean() for name in one.predictions
        ]
        assert max(shares) < 0.05
        apart += sum(shares)
    assert apart > 0


def test_reruns_of_the_last_stage_are_in_it_too(heart_base: Path, hearts: Dataset) -> None:
    policy, cases = load_model(heart_base)[0], [hearts[i] for i in range(2)]
    families = (MonteCarloDropout(2, rate=0.1),)
    seen: dict[str, set[torch.dtype]] = {"no": set(), "bf16": set()}
    for precision, kinds in seen.items():
        hooks = [
            layer.register_forward_hook(lambda _, __, given, kinds=kinds: kinds.add(given.dtype))
            for layer in policy.network.modules()
            if isinstance(layer, torch.nn.Conv2d)
        ]
        passed = Candidates(policy, SlateProposals(3, families), precision).forward(cases)
        kinds.clear()
        Candidates(policy, SlateProposals(3, families), precision).drafts(cases, 0, passed=passed)
        for hook in hooks:
            hook.remove()
    assert seen == {"no": {torch.float32}, "bf16": {torch.bfloat16}}


@pytest.mark.parametrize("refresh", [None, 1])
def test_the_update_keeps_its_precision(
    refresh: int | None, heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: set[tuple[bool, torch.dtype]] = set()
    passed = Segmenter.logits_of

    def watched(self: Segmenter, output: Any) -> Any:
        logits: Tensor = passed(self, output)
        seen.add((torch.is_grad_enabled(), logits.dtype))
        return logits

    monkeypatch.setattr(Segmenter, "logits_of", watched)
    options = {"epochs": 1, "refresh": refresh, "images_per_epoch": 4}
    for asked, own in (("no", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        found = run(
            tmp_path / asked, heart_base, hearts, model_judge, store, proposal_precision=asked,
            **options,
        )  # fmt: skip
        assert (True, torch.float32) in seen
        assert (True, torch.bfloat16) not in seen
        assert (False, own) in seen
        weights = load_model(found.last)[0].network.parameters()
        assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.parametrize("setting", ["precision", "proposal_precision"])
def test_emulated_bfloat16_is_said_to_be_slow(
    setting: str, heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    said = f"emulates bfloat16, which takes several times longer than float32: use --{setting} no."
    for emulated in (True, False):
        monkeypatch.setattr(
            "segpref.training.trainer.emulates_bfloat16", lambda told=emulated: told
        )
        for asked in ("bf16", "no"):
            run(
                tmp_path / f"{emulated} {asked}", heart_base, hearts, model_judge, store,
                epochs=1, images_per_epoch=2, batch_size=2, **{setting: asked},
            )  # fmt: skip
            assert (said in " ".join(capsys.readouterr().err.split())) == (
                emulated and asked == "bf16"
            )


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU decides")
def test_a_cpu_without_it_emulates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for here in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=here: {"amx_bf16": told})
        assert emulates_bfloat16() == (not here)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU decides")
@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"avx512_f": True}, "no"),
        (None, "no"),
    ],
)
def test_the_hardware_decides_unless_it_is_said(
    capabilities: dict[str, bool] | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if capabilities is None:  # as in earlier versions of torch
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert proposal_precision("auto", "no") == chosen
    assert proposal_precision("no", "no") == "no"
    assert proposal_precision("bf16", "no") == "bf16"
    for run_s in ("bf16", "fp16"):
        assert proposal_precision("auto", run_s) == "no"


def test_a_machine_of_another_precision_does_not_go_on(
    heart_base: Path, hearts: Dataset, model_judge: ModelJudge, store: Cache, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    options = {"epochs": 1, "images_per_epoch": 4}
    chosen = "segpref.training.stages.proposal_precision"
    monkeypatch.setattr(chosen, lambda *_: "no")
    run(tmp_path, heart_base, hearts, model_judge, store, **options)
    run(tmp_path, heart_base, hearts, model_judge, store, resume=True, **options)
    monkeypatch.setattr(chosen, lambda *_: "bf16")
    with pytest.raises(
        SegprefError, match=r"precision of .* than bf16.*auto is here: set it to no"
    ):
        run(tmp_path, heart_base, hearts, model_judge, store, resume=True, **options)


def test_a_precision_without_effect_is_refused() -> None:
    with pytest.raises(SegprefError, match="proposal_precision has no effect with precision fp16"):
        AlignConfig(proposal_precision="bf16", precision="fp16")
