"""Every command on an accelerator: nothing runs on the host, no devices mix, results are equal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import records
import runs
import torch
from accelerator import DEVICE, Accelerator, MixedDevices, counted_steps
from tests.machine_records import on_record
from torch import nn

from segpref.cli.main import main
from segpref.data import Cache
from segpref.judges import RegressorJudge
from segpref.policies import load_model
from segpref.proposals import DropoutRates, InputNoise, MirroredViews, SlateProposals
from segpref.runtime import Runtime, runtime
from segpref.training import EpochFigures
from segpref.types import LabelSpace, Slate

pytestmark = pytest.mark.slow

RECORD, SAME = on_record(runs.RECORD)
INEXACT = {"align-promptable"}
"""Attention is computed by another kernel for a device that torch does not know."""


class TestTheAcceleratorItself:
    """What is refused, and what is not: as a GPU does it."""

    def test_tensors_of_both_sides_are_refused(self, there: Accelerator) -> None:
        far = torch.ones(2, 3).to(DEVICE)
        for operation in (
            lambda: far + torch.ones(2, 3),
            lambda: torch.cat([far, torch.ones(2, 3)]),
            lambda: torch.where(torch.ones(2, 3) > 0, far, far),
            lambda: far.mul_(torch.ones(3)),
            lambda: nn.functional.linear(torch.ones(1, 3), far),
        ):
            with pytest.raises(MixedDevices):
                operation()

    def test_a_network_on_the_host_is_refused(self, there: Accelerator) -> None:
        network = nn.Linear(3, 2)
        with pytest.raises(MixedDevices, match="a Linear runs on the host"):
            network(torch.ones(1, 3))
        assert Runtime().place(network)(torch.ones(1, 3).to(DEVICE)).device == DEVICE

    def test_its_numbers_are_read_on_the_host_alone(self, there: Accelerator) -> None:
        far = torch.tensor([1.0, 2.0], device=DEVICE)
        with pytest.raises((TypeError, RuntimeError), match="numpy"):
            far.numpy()
        assert far.cpu().numpy().tolist() == [1.0, 2.0]
        assert float(far.sum()) == 3.0

    def test_numbers_and_indices_of_the_host_are_taken(self, there: Accelerator) -> None:
        far = torch.arange(6.0).reshape(2, 3).to(DEVICE)
        assert (far * torch.tensor(2.0)).sum().item() == 30
        assert far[torch.tensor([1])].cpu().tolist() == [[3.0, 4.0, 5.0]]

    def test_gradients_stay_there(self, there: Accelerator) -> None:
        far = torch.ones(3).to(DEVICE).requires_grad_()
        (far * 2).sum().backward()
        assert far.grad is not None
        assert far.grad.device == DEVICE
        assert far.grad.cpu().tolist() == [2.0, 2.0, 2.0]


# The study has a test of its own; the base and the judge of the rest are trained on the host.
ELSEWHERE = {"study", "fit-2d", "fit-judge"}


DRAFTS = "copy from it in proposals/slate.py drafts"
"""What edits begin with, copied side by side: a step waits once."""

ONCE = {
    "number in networks/tail.py _same",  # of a network, in its first step
    "copy from it in data/predictions.py _compute",  # of an image, when it is first drawn
    "copy from it in inference/sliding.py _slide",
    "number in inference/sliding.py _joined",
}

WAITS: dict[str, Counter[str]] = {
    "align-refresh": Counter({DRAFTS: 10, "copy from it in training/rounds.py _made": 10}),
    "align-diffusion": Counter({
        "copy from it in policies/diffusion/sampling.py _batch": 3,
        "copy to it in policies/diffusion/sampling.py _batch": 9,
    }),
    # Once for each of the six images, when their samples are drawn.
    "align-latent": Counter({"copy from it in inference/mask_samplers.py soft": 6}),
    # transformers has the places of its attention on the host, in passes of the image encoder.
    "align-promptable": Counter({
        DRAFTS: 4,
        "copy to it in policies/promptable/network.py encode": 8,
        "copy to it in runtime.py backward": 8,
    }),
}  # fmt: skip
"""Over the whole run, of those with slates of a round, or with another package's model."""

STEPS = 4
"""Of every alignment."""


def waited_for(name: str) -> Counter[str]:
    """What all steps of a training wait for: of ``fit`` nothing, of ``align`` drafts once per step."""
    return WAITS.get(name, Counter({DRAFTS: STEPS}) if name.startswith("align") else Counter())


@pytest.fixture(scope="module")
def host(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another place with the same base and judge."""
    return copytree(place, tmp_path_factory.mktemp("host"), dirs_exist_ok=True)


@pytest.fixture
def on_host(name: str, host: Path) -> dict[str, Any]:
    """What a training gives on the host: what is on record, or where nobody recorded any, run now."""
    return RECORD[name] if SAME else records.result(runs.RUNS[name](host))


@pytest.mark.parametrize("name", [name for name in runs.RUNS if name not in ELSEWHERE])
def test_a_training_gives_what_it_gives_on_the_host_and_does_not_wait_for_it(
    name: str,
    place: Path,
    on_host: dict[str, Any],  # before what stands in for torch
    there: Accelerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, reads = counted_steps(monkeypatch, there), list[int]()
    read = EpochFigures.read

    def counted(figures: EpochFigures, *args: Any) -> None:
        there.waits = Counter()
        with there.counting():
            read(figures, *args)
        reads.append(sum(there.waits.values()))

    monkeypatch.setattr(EpochFigures, "read", counted)
    found = records.result(runs.RUNS[name](place))
    assert sum(there.ran.values())
    total = sum(steps, Counter[str]())
    assert Counter({why: n for why, n in total.items() if why not in ONCE}) == waited_for(name)
    assert max(step[DRAFTS] for step in steps) <= (5 if name == "align-refresh" else 1)
    # The figures of an epoch are one copy, however many steps it has.
    assert set(reads) == {1}
    same = name not in INEXACT
    tolerance = {"rel": 0, "abs": 0} if same else {"rel": 0.05, "abs": 0.05}
    for now, before in zip(found["epochs"], on_host["epochs"], strict=True):
        for figure, value in before.items():
            assert now[figure] == pytest.approx(value, **tolerance, nan_ok=True), figure
    if same:
        assert found["weights"] == on_host["weights"]


def command(place: Path, name: str, *options: str) -> None:
    assert main([name, *options, "--cache", str(place / "cache")]) == 0


def test_a_model_is_evaluated_there(place: Path, there: Accelerator) -> None:
    base = runs.fit_2d(place)
    there.ran.clear()
    out = place / "scores.csv"
    command(place, "evaluate", "--model", str(base), *runs.hearts(place), "--out", str(out))
    assert there.ran["Conv2d"]
    assert len(out.read_text().splitlines()) > 3


def test_judge_and_slates_are_audited_there(place: Path, there: Accelerator) -> None:
    base, judge = runs.fit_2d(place), runs.fit_judge(place)
    there.ran.clear()
    command(
        place, "audit", "--model", str(base), "--judge", str(judge), *runs.hearts(place),
        "--candidates", "10", "--out", str(place / "audit.json"),
    )  # fmt: skip
    assert there.ran["Conv2d"]
    assert json.loads((place / "audit.json").read_text())


@pytest.mark.parametrize(
    ("base", "data"), [(runs.fit_2d, runs.hearts), (runs.fit_3d_patch, runs.balls)]
)
def test_masks_are_predicted_there(
    base: Callable[[Path], Path], data: Callable[[Path], list[str]], place: Path, there: Accelerator
) -> None:
    model, images = base(place), Path(data(place)[1])
    images = images / "images" if (images / "images").is_dir() else images
    there.ran.clear()
    out = place / f"masks of {base.__name__}"
    given = [
        "--model",
        str(model),
        "--input",
        str(images),
        "--output",
        str(out),
        "--batch_size",
        "2",
    ]
    with there.counting():
        assert main(["predict", *given]) == 0
    assert sum(there.ran.values())
    assert any(out.iterdir())
    copies = {why: n for why, n in there.waits.items() if why.startswith("copy from it")}
    if base is runs.fit_3d_patch:
        # Many windows of each of 8 volumes are added up there, and one copy is what they come to.
        assert there.ran["Conv3d"] > 4 * 8
        assert copies == {"copy from it in inference/sliding.py _slide": 8}
    else:
        assert copies == {"copy from it in inference/case_masks.py logits": 24}  # batches


def test_samples_are_drawn_there(place: Path, there: Accelerator) -> None:
    from segpref.inference import open_image_sampler
    from segpref.policies.diffusion import Sampler

    model = runs.align_diffusion(place)
    there.ran.clear()
    for mixed in ("weights", "predictions"):
        image_sampler = open_image_sampler(
            model, Sampler("ddim", 4, eta=0.5), place / "diffusion-base", 0.5, mixed=mixed
        )
        assert image_sampler.model.device == DEVICE
        masks = image_sampler(runs.squares(range(1))[0], 2)
        assert masks.shape[0] == 2
    assert there.ran["Conv2d"]


def test_further_proposals_are_made_there(place: Path, there: Accelerator) -> None:
    policy, _ = load_model(runs.align_region(place))
    dataset = hearts_of(place)
    cases = [dataset[0], dataset[1]]
    images = torch.from_numpy(np.stack([case.image for case in cases]))
    families = (DropoutRates((0.1, 0.2)), InputNoise((0.02,)), MirroredViews())
    with torch.no_grad():
        slates = SlateProposals(12, families)(policy, policy.forward(images), images, cases, 0)
    assert {one.family for slate in slates for one in slate.candidates} >= {
        "dropout-rate", "mirrored",
    }  # fmt: skip


def hearts_of(place: Path):
    from segpref.data import Preparation, open_dataset, prepare

    reader = open_dataset(Path(runs.hearts(place)[1]), patient_pattern=r"(phantom\d+)")
    return prepare(reader, Preparation(dims=2, size=(32, 32)), Cache(place / "cache"))


def test_a_regressor_is_trained_and_judges_there(place: Path, there: Accelerator) -> None:
    from segpref.training import RunFolder, fit_regressor, load_regressor

    dataset, folder = hearts_of(place), RunFolder(place / "regressor")
    folder.open({}, resume=False)
    fit_regressor(
        runs.fit_2d(place), dataset.of_patients(dataset.patients[:2]),
        dataset.of_patients(dataset.patients[2:3]), folder, width=4, epochs=1, images_per_epoch=4,
        batch_size=2, proposals=SlateProposals(6),
    )  # fmt: skip
    judge = load_regressor(folder.path)
    assert next(judge.network.parameters()).device == DEVICE
    masks = np.zeros((2, 1, 32, 32), np.uint8)
    masks[1, :, 4:9, 4:9] = 1
    assert np.isfinite(judge.score(dataset[0], Slate(masks, ()))).all()


@pytest.mark.long
def test_a_small_study_runs_there(
    place: Path, there: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segpref.cli.study as study
    from segpref.studies.engine import InProcess

    # A worker would be another process, without the accelerator.
    monkeypatch.setattr(study, "Processes", lambda *_: InProcess())
    folder = runs.study(place)
    assert there.ran["Conv2d"]
    found, expected = records.result(folder), RECORD["study"]
    if SAME:
        assert found["weights"] == expected["weights"]


def test_what_stays_on_the_host_is_found(place: Path, there: Accelerator) -> None:
    """The mistake of earlier versions: a judge that nobody had placed."""
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    judge = RegressorJudge(network, LabelSpace("multi-class", ("background", "a", "b", "c")))
    case = hearts_of(place)[0]
    case = replace(case, image=np.array(case.image)[:, :8, :8], label=None)
    slate = Slate(np.zeros((2, 1, 8, 8), np.uint8), ())
    assert np.isfinite(judge.score(case, slate)).all()
    judge.network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    with pytest.raises(MixedDevices, match="runs on the host"):
        judge.score(case, slate)
    assert runtime().device == DEVICE


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import write_clip

    folder = tmp_path_factory.mktemp("checkpoints") / "clip"
    write_clip(folder)
    return folder


def test_texts_are_read_and_looked_for_there(clip_folder: Path, there: Accelerator) -> None:
    from segpref.policies.diffusion import TextEncoder
    from segpref.policies.promptable import SentenceEncoder
    from segpref.prompts import GradCAM, GScoreCAM, TransformersClip

    embedded, known = TextEncoder(str(clip_folder))(["a dark lesion", None])
    assert embedded.device == known.device == torch.device("cpu")
    assert SentenceEncoder(str(clip_folder))(["a dark lesion"]).device == torch.device("cpu")
    clip = TransformersClip(str(clip_folder))
    assert clip.text_embeddings(["a dark lesion"]).device == DEVICE
    for saliency in (GradCAM(), GScoreCAM(4)):
        found = saliency(clip, torch.rand(1, 32, 32), "a dark lesion")
        assert found.device == torch.device("cpu")
        assert found.shape == (32, 32)
    assert there.ran["Embedding"]
