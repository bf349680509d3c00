"""Peers in a study of ambiguous segmentations: their jobs, tables, files and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from small_studies import SQUARES

from segpref.cli.main import main
from segpref.data import Cache, open_dataset
from segpref.inference import DropoutSampler, EnsembleSampler, LatentSampler
from segpref.studies.ambiguity import (
    AmbiguityWorkspace,
    Peer,
    SampleSet,
    ambiguity_jobs,
    load_ambiguity_recipe,
)
from segpref.trust import check
from segpref.types import SegprefError

pytest.importorskip("diffusers")
SHORT: dict[str, Any] = {
    "epochs": 1, "images_per_epoch": 8, "batch_size": 4, "network": {"channels": [4, 8], "features": 4},
}  # fmt: skip
PEERS: dict[str, Any] = {
    "Probabilistic U-Net": {"kind": "probabilistic-unet", **SHORT},
    "Ensemble": {"kind": "ensemble", "members": 3, **SHORT},
    "Dropout": {"kind": "dropout", "dropout": 0.3, **SHORT},
}
ALIGNED: dict[str, Any] = {
    name: {
        "of": "Probabilistic U-Net", "epochs": 1, "images_per_epoch": 8, "batch_size": 4,
        "reduction": "region", "beta": 2, **own,
    }
    for name, own in {"Aligned": {}, "Aligned, random": {"control": True}}.items()
}  # fmt: skip
RECIPE: dict[str, Any] = {
    **SQUARES, "methods": {}, "knob": {}, "control": {}, "variants": {}, "speed": [{"steps": 2}],
    "numbers": [1], "pictures": 1, "peers": PEERS,
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number in range(10):
        rng = np.random.default_rng(number)
        folder = tmp_path / "data" / f"LIDC-IDRI-{number:04d}" / "nodule-0"
        y, x = rng.integers(3, 8, 2)
        for rater in range(2):
            mask = np.zeros((16, 16), np.uint8)
            mask[y - rater : y + 5 + rater, x - rater : x + 5 + rater] = 255
            _write(folder / f"mask-{rater}" / "slice-0.png", mask)
        _write(folder / "images" / "slice-0.png", mask // 2 + rng.integers(0, 9, mask.shape))
    recipe(tmp_path)
    return tmp_path


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def recipe(place: Path, **peers: Mapping[str, Any]) -> None:
    """Write the recipe, with some of its peers' settings changed."""
    changed = {name: {**one, **peers.get(one["kind"], {})} for name, one in PEERS.items()}
    (place / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, "peers": changed}, sort_keys=False))


@pytest.fixture
def another_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what this process has built itself, as another one that goes on would not know it."""

    def begins() -> None:
        for name in ("_vouched", "_named", "_local"):
            monkeypatch.setattr(check, name, set())

    return begins


def study(place: Path, *options: str) -> int:
    given = ["--recipe", place / "tiny.yaml", "--data", place / "data", "--out", place / "out"]
    return main(["ambiguity", *map(str, given), *options])


def workspace(place: Path) -> AmbiguityWorkspace:
    reader = open_dataset(place / "data")
    chosen = load_ambiguity_recipe(place / "tiny.yaml")
    return AmbiguityWorkspace(chosen, reader, place / "out", Cache(place / "out" / "cache"))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, in one line; paths may be broken anywhere."""
    return "".join("".join(capsys.readouterr()).split("\n"))


@pytest.mark.slow
def test_peers_stand_beside_ambiseg(
    place: Path, capsys: pytest.CaptureFixture[str], another_process: Callable[[], None]
) -> None:
    assert study(place, "--only", '["fit"]') == 0
    # Their files are opened by who has not built such a network.
    another_process()
    assert study(place) == 0
    tables = (place / "out" / "tables.md").read_text()
    table = tables[tables.index("Peers, N = 4") :]
    header, _, *rows = [line for line in table.splitlines() if line.startswith("|")][:6]
    columns = [cell.strip() for cell in header.split("|")]
    for name in ("GED", "CI", "D_max", "Avg. Dice", "Different", "Passes", "Milliseconds"):
        assert any(name in cell for cell in columns)
    found = {row.split("|")[1].strip(): [c.strip() for c in row.split("|")] for row in rows}
    assert list(found) == ["AmbiSeg", *PEERS]
    place_of = {
        name: next(i for i, c in enumerate(columns) if name in c)
        for name in ("Passes", "Milliseconds")
    }
    passes = [float(found[name][place_of["Passes"]].strip("* ").split()[0]) for name in found]
    assert passes == pytest.approx([2, 1 / 4, 3 / 4, 1], abs=0.01)
    for name in found:
        assert float(found[name][place_of["Milliseconds"]].strip("* ").split()[0]) >= 0
    for name in PEERS:
        assert f"{name} against AmbiSeg: Avg. Dice" in tables
    # Two seeds: three members each, and one training of the other two.
    runs = sorted((place / "out" / "runs").rglob("summary.json"))
    assert len(runs) == 2 * (1 + 1 + 3 + 1)
    seeds = {json.loads(run.read_text())["seed"] for run in runs if "ensemble" in str(run)}
    assert len(seeds) == 6
    # Of each model and seed a line for each of four images.
    assert len((place / "out" / "images.csv").read_text().splitlines()) == 1 + 4 * 2 * 4
    ours = workspace(place)
    masks = ours.samples(SampleSet("Ensemble", 1))
    assert masks.shape == (4, 4, 16, 16)
    assert np.array_equal(masks[:, 3], masks[:, 0])
    # What is there is not made again, and what was lost is, to the last bit.
    drawn = ours.sample_files(SampleSet("Dropout", 0))[0]
    kept = ours.sample_files(SampleSet("Probabilistic U-Net", 0))[0]
    content, untouched = drawn.read_bytes(), kept.stat().st_mtime_ns
    drawn.unlink()
    assert study(place) == 0
    assert drawn.read_bytes() == content
    assert kept.stat().st_mtime_ns == untouched
    capsys.readouterr()
    # A changed setting is not a finished part under an old name.
    for kind, change, told in (
        ("probabilistic-unet", {"kl_weight": 10}, "probabilistic-u-net/seed-0 was begun"),
        ("dropout", {"dropout": 0.4}, "dropout/seed-0 was begun"),
        ("ensemble", {"augment": False}, "ensemble/seed-0/member-0 was begun"),
    ):
        recipe(place, **{kind: change})
        assert study(place) == 1
        assert told in said(capsys)
    # Another member needs no other training, but other samples.
    recipe(place, ensemble={"members": 4})
    assert study(place, "--only", "Ensemble") == 1
    assert "ensemble/seed-0/w-1 was begun with other settings (models, sampler)" in said(capsys)
    assert len(list((place / "out" / "runs" / "ensemble" / "seed-0").glob("*/summary.json"))) == 4


@pytest.mark.slow
def test_a_peer_is_aligned_on_its_own_samples(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = {"images_per_epoch": 1600, "learning_rate": 0.01, "average": 0.0}
    latent = {"Probabilistic U-Net": {**PEERS["Probabilistic U-Net"], **longer}}
    settings = {**RECIPE, "peers": latent, "methods": ALIGNED, "seeds": [0]}
    (place / "tiny.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    assert study(place, "--only", '["draw Probabilistic", Aligned]') == 0
    tables = (place / "out" / "tables.md").read_text()
    # It waits for its peer, and for nothing of AmbiSeg.
    assert "| AmbiSeg" not in tables
    for claim in (
        "Aligned against Probabilistic U-Net: Avg. Dice",
        "Aligned, random against Probabilistic U-Net: Avg. Dice",
        "Aligned, random against Aligned: Avg. Dice",
    ):
        assert claim in tables
    rows = [line.split("|")[1].strip() for line in tables.splitlines() if line.startswith("| ")]
    told = [name for name in rows if name in (*latent, *ALIGNED)]
    assert told == [*latent, *ALIGNED] * 2
    ours = workspace(place)
    drawn = [ours.samples(SampleSet(name, 0)) for name in ("Probabilistic U-Net", "Aligned")]
    assert drawn[0].any()
    assert not np.array_equal(*drawn)
    # Another peer is another start.
    latent["Probabilistic U-Net"] = {**latent["Probabilistic U-Net"], "kl_weight": 2}
    (place / "tiny.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    capsys.readouterr()
    assert study(place, "--only", "Aligned, random") == 1
    assert "probabilistic-u-net/seed-0 was begun" in said(capsys)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"of": "Nobody"}, "Aligned is of Nobody, which is not a peer of kind probabilistic-unet"),
        ({"of": "Ensemble"}, "is of Ensemble, which is not a peer of kind probabilistic-unet"),
        ({"safeguard": 0.5}, "safeguard is for diffusion models, and this method is of"),
        ({"refresh": 1}, "refresh is for diffusion models"),
        ({"convention": "sum"}, "convention is for diffusion models"),
        ({"beta": 5000}, "beta 5000 is for the errors of a diffusion model"),
    ],
)
def test_an_alignment_of_a_peer_that_does_not_fit(
    place: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], told: str
) -> None:
    methods = {"Aligned": {**ALIGNED["Aligned"], **change}}
    (place / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, "methods": methods}))
    assert study(place) == 1
    assert told in " ".join("".join(capsys.readouterr()).split())


def test_a_peer_has_no_knob(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"methods": ALIGNED, "knob": {"Aligned": [0.5]}}
    (place / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, **changes}))
    assert study(place) == 1
    assert "knob names Aligned, and only diffusion models have one" in " ".join(
        "".join(capsys.readouterr()).split()
    )


def test_jobs_of_peers_are_of_the_recipes_seeds(place: Path) -> None:
    ours = workspace(place)
    jobs = {job.shown: job for job in ambiguity_jobs(ours)}
    for seed in (0, 1):
        for name in ("Probabilistic U-Net", "Dropout"):
            assert f"fit {name}, seed {seed}" in jobs
        needs = jobs[f"draw Ensemble, seed {seed}"].needs
        assert needs == tuple(f"runs/ensemble/seed-{seed}/member-{m}" for m in range(3))
    assert not any("seed 2" in name for name in jobs)
    assert [name for name in jobs if name.startswith("speed of")] == [
        "speed of dpm-solver++, 2 steps", *(f"speed of {name}" for name in PEERS)
    ]  # fmt: skip
    # No peer waits for AmbiSeg.
    assert not any("ambiseg" in need for name in PEERS for need in jobs[f"speed of {name}"].needs)
    names = [job.name for job in jobs.values()]
    assert len(set(names)) == len(names)
    only = [job.shown for job in ambiguity_jobs(ours, ["speed of Dropout"])]
    assert only == ["fit Dropout, seed 0", "speed of Dropout"]


def test_a_recipe_without_peers_has_the_jobs_that_it_had(place: Path) -> None:
    with_peers = [job.shown for job in ambiguity_jobs(workspace(place))]
    (place / "tiny.yaml").write_text(yaml.safe_dump({**RECIPE, "peers": {}}))
    without = [job.shown for job in ambiguity_jobs(workspace(place))]
    assert without == [name for name in with_peers if not any(peer in name for peer in PEERS)]


def test_a_kind_says_network_and_sampler() -> None:
    latent, ensemble, dropout = (
        Peer(),
        Peer(kind="ensemble", members=3),
        Peer(kind="dropout", dropout=0.2),
    )
    assert "latent" not in latent.network_spec.arguments
    assert [one.network_spec.arguments["latent"] for one in (ensemble, dropout)] == [0, 0]
    assert latent.sampler == LatentSampler()
    assert ensemble.sampler == EnsembleSampler(3)
    assert dropout.sampler == DropoutSampler(0.2)
    # Validation is of one network at a time.
    assert ensemble.training.sampler == LatentSampler()
    assert [one.trainings for one in (latent, ensemble, dropout)] == [[None], [0, 1, 2], [None]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"members": 3}, "members has no effect with kind probabilistic-unet"),
        ({"dropout": 0.1}, "dropout has no effect with kind probabilistic-unet"),
        ({"kind": "ensemble", "kl_weight": 2}, "kl_weight has no effect with kind ensemble"),
        ({"kind": "ensemble", "network": {"latent": 3}}, "latent has no effect"),
        ({"kind": "ensemble", "members": 1}, "members must be at least 2"),
        ({"kind": "dropout"}, "dropout must be above 0"),
        ({"network": {"latent": 0}}, "network has latent 0"),
        ({"kind": "phiseg"}, "kind is one of probabilistic-unet, ensemble, dropout"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SegprefError, match=told):
        Peer(**settings)


def test_a_name_that_is_taken(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, other in (("ambiseg", "AmbiSeg"), ("drop out", "Drop-out")):
        peers = {name: PEERS["Dropout"]}
        if other != "AmbiSeg":
            peers = {other: PEERS["Dropout"], **peers}
        (place / "tiny.yaml").write_text(
            yaml.safe_dump({**RECIPE, "peers": peers}, sort_keys=False)
        )
        assert study(place) == 1
        assert f"whose folder would be that of {other}" in " ".join(
            "".join(capsys.readouterr()).split()
        )
