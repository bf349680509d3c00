"""A promptable model is opened, aligned and saved as any other."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import LESION, SIDE, images_of, lesions

from own_process import own_processes
from segpref.data import Cache, Preparation
from segpref.judges import OracleJudge, VirtualAnnotator
from segpref.policies import TunablePolicy, load_model, save_model
from segpref.policies.promptable import PromptablePolicy, part_of, promptable_card, small_sam
from segpref.preferences import NestedPairs
from segpref.prompts import Prompt
from segpref.proposals import SlateProposals, Thresholds
from segpref.runtime import end_in_launch
from segpref.training import PreferenceSignal, RunFolder, StrongAugmentation, align
from segpref.types import SegprefError
from waiting import FAILED_S

PROMPTER: dict[str, Any] = {
    "class_path": "segpref.prompts.FixedPrompts",
    "init_args": {"prompts": [{"box": [2.5, 2.5, 28.5, 28.5]}]},
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return made(tmp_path)


def made(folder: Path) -> Path:
    network = small_sam(SIDE, patch=4, width=32, layers=2, heads=2, prompt_width=32)
    preparation = Preparation(dims=2, size=(SIDE, SIDE))
    card = promptable_card(network, LESION, preparation, prompter=PROMPTER)
    save_model(folder / "base.safetensors", network, card)
    return folder / "base.safetensors"


def aligned(base: Path, out: Path, **options: Any) -> dict[str, Any]:
    folder = RunFolder(out)
    folder.open({}, resume=False)
    return align(
        base,
        lesions(6),
        lesions(3, first=20),
        VirtualAnnotator(OracleJudge(LESION, measure="dice")),
        PreferenceSignal(LESION, NestedPairs((1.0, 0.5))),
        folder,
        proposals=SlateProposals(4, [Thresholds((0.3, 0.4, 0.6))]),
        **{
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "cache": Cache(out.parent / "cache"),
            **options,
        },
    )


def changed_parts(base: Path, out: Path) -> set[str | None]:
    before, after = load_file(base), load_file(out / "last.safetensors")
    return {part_of(name) for name in before if not torch.equal(before[name], after[name])}


def test_it_comes_back_as_what_it_is(base: Path) -> None:
    policy, card = load_model(base)
    assert isinstance(policy, PromptablePolicy)
    assert isinstance(policy, TunablePolicy)
    assert (
        policy.prompts_for(torch.zeros(2, 1, SIDE, SIDE)) == [(Prompt((2.5, 2.5, 28.5, 28.5)),)] * 2
    )
    assert card.policy.init_args == {"prompter": PROMPTER}


@pytest.mark.parametrize(
    ("prompter", "said"),
    [
        ({"class_path": "segpref.prompts.Nothing"}, "Nothing"),
        ({"class_path": "segpref.prompts.WholeImage", "init_args": {"sides": 3}}, "sides"),
        ({"class_path": "segpref.judges.OracleJudge"}, "OracleJudge"),
    ],
)
def test_a_prompter_that_is_none(base: Path, prompter: dict[str, Any], said: str) -> None:
    policy, card = load_model(base)
    assert isinstance(policy, PromptablePolicy)
    again = promptable_card(policy.inner, LESION, card.preparation, prompter=prompter)
    with pytest.raises(SegprefError, match=said) as caught:
        again.policy_of(policy.network)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"average": 0.9}, {"refresh": 1}])
def test_the_decoder_learns(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    summary = aligned(base, tmp_path / "run", **options)
    assert changed_parts(base, tmp_path / "run") == {"decoder"}
    policy, card = load_model(tmp_path / "run")
    assert card == load_model(base)[1]
    assert isinstance(policy, PromptablePolicy)
    assert summary["pool_cases"] == 6


@pytest.mark.slow
def test_other_parts_learn_if_told_so(base: Path, tmp_path: Path) -> None:
    aligned(base, tmp_path / "run", parts=("prompts", "encoder"), epochs=1)
    assert changed_parts(base, tmp_path / "run") == {"prompts", "encoder"}
    with pytest.raises(SegprefError, match="encoder, prompts, decoder"):
        aligned(base, tmp_path / "other", parts=("head",))


@pytest.mark.slow
def test_the_encoder_sees_the_images_once(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    encode = PromptablePolicy._encoded

    def counting(self: PromptablePolicy, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        passes.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(PromptablePolicy, "_encoded", counting)
    aligned(base, tmp_path / "run", epochs=3)
    assert sum(passes) == 6 + 3


@pytest.mark.slow
def test_a_view_is_asked_what_the_image_was_asked(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, _ = load_model(base)
    assert isinstance(policy, PromptablePolicy)
    images = images_of(lesions(2))
    monkeypatch.setattr(
        policy,
        "prompter",
        lambda batch: [[Prompt((0, 0, float(i.sum()) % 9 + 2, 9))] for i in batch],
    )
    state = policy.forward(images)
    assert policy.viewed(images * 0.9, state).prompts == state.prompts
    assert policy.forward(images * 0.9).prompts != state.prompts
    aligned(base, tmp_path / "run", view=StrongAugmentation(), epochs=1)
    assert changed_parts(base, tmp_path / "run") == {"decoder"}


def test_only_the_last_iteration_has_a_graph(base: Path) -> None:
    policy, _ = load_model(base)
    assert isinstance(policy, PromptablePolicy)
    images = images_of(lesions(2))
    lean, full = policy.forward(images), policy.forward(images, every=True)
    assert [logits.requires_grad for logits in lean.iterations] == [False, True]
    assert all(logits.requires_grad for logits in (*full.iterations, *full.qualities))
    gradients = []
    for state in (lean, full):
        policy.network.zero_grad()
        state.logits.square().sum().backward()
        gradients.append([w.grad for w in policy.inner.sam.mask_decoder.transformer.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


PARTS = {"decoder": ("decoder",), "all": ("encoder", "prompts", "decoder")}


def joined(base: Path, out: Path, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    for name, parts in PARTS.items():
        aligned(base, out / name / "run", parts=parts, batch_size=2)
    end_in_launch(0)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and runs of two processes."""
    out = tmp_path_factory.mktemp("together")
    base = made(out)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    started = []
    for rank in range(2):
        environment = {
            "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        process = own_processes().Process(target=joined, args=(base, out, environment))
        process.start()
        started.append(process)
    for process in started:
        process.join(timeout=FAILED_S)
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in started] == [0, 0]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_two_processes_align_as_one(tmp_path: Path, together: Path, name: str) -> None:
    base = together / "base.safetensors"
    aligned(base, tmp_path / "run", parts=PARTS[name], batch_size=2)
    alone = load_file(tmp_path / "run" / "last.safetensors")
    shared = load_file(together / name / "run" / "last.safetensors")
    before = load_file(base)
    assert any((alone[key] - before[key]).abs().max() > 1e-3 for key in before)
    for key, value in alone.items():
        torch.testing.assert_close(shared[key], value, rtol=1e-3, atol=2e-4)
