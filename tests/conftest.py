"""Small datasets and models that many tests share; each is made once per session."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from postgresql_cluster import PostgresqlCluster, running_cluster
from segpref.data import Cache, Dataset, Folders, Preparation, Reader, open_dataset, prepare
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms
from segpref.policies import ModelCard, NetworkSpec
from segpref.training import RunFolder, fit

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # nnU-Net's tests have an environment of their own, without it
    pass
else:
    # Neither a loaded machine nor chance decides whether a fresh clone passes.
    always = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("segpref", always)
    # For `make check`: `--hypothesis-profile quick`, which is loaded after this file.
    settings.register_profile("quick", always, max_examples=15)
    settings.load_profile("segpref")

HEART = ("background", "RV", "MYO", "LV")
HEART_INPUT = Preparation(dims=2, size=(32, 32))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny_network(outputs: int, channels: tuple[int, ...] = (4, 8), **changes: Any) -> NetworkSpec:
    arguments = {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": outputs,
        "channels": list(channels),
        "strides": [2] * (len(channels) - 1),
        "num_res_units": 1,
        "dropout": 0.1,
    }
    return NetworkSpec("monai.networks.nets.UNet", {**arguments, **changes})


@pytest.fixture(scope="session")
def tiny_unet() -> Callable[..., NetworkSpec]:
    """Spec of a network with a few hundred weights."""
    return tiny_network


@pytest.fixture(scope="session")
def heart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 patients with 4 slices each, as files."""
    folder = tmp_path_factory.mktemp("hearts") / "data"
    return write_phantoms(folder, "cardiac", (48, 48), 12, seed=0, slices_per_patient=2)


@pytest.fixture(scope="session")
def heart_reader(heart_folder: Path) -> Reader:
    return Folders(heart_folder, names=HEART, patient_pattern=PATIENT_PATTERN)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def hearts(heart_reader: Reader, store: Cache) -> Dataset:
    """48 slices of 32 x 32 pixels; labels of four classes."""
    return prepare(heart_reader, HEART_INPUT, store)


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory, store: Cache) -> Dataset:
    """32 radiographs of 32 x 32 pixels; labels of overlapping structures."""
    folder = tmp_path_factory.mktemp("chests") / "data"
    write_phantoms(folder, "chest", (48, 48), 32, seed=0)
    return prepare(open_dataset(folder), Preparation(dims=2, size=(32, 32)), store)


def trained(folder: Path, dataset: Dataset, labelled: slice, seed: int, **options: Any) -> Path:
    """A run folder of stage 1."""
    patients = dataset.patients
    own = dataset.of_patients(patients[labelled])
    card = ModelCard(
        network=tiny_network(dataset.label_space.channels, options.pop("channels", (4, 8))),
        label_space=dataset.label_space,
        preparation=HEART_INPUT,
        labelled=own.patients,
    )
    run = RunFolder(folder)
    run.open({"seed": seed}, resume=False)
    settings = {
        "epochs": 8, "images_per_epoch": 32, "learning_rate": 2e-2, "augment": "none", **options
    }  # fmt: skip
    fit(own, dataset.of_patients(patients[8:]), card, run, seed=seed, **settings)
    return folder


@pytest.fixture(scope="session")
def heart_base(tmp_path_factory: pytest.TempPathFactory, hearts: Dataset) -> Path:
    """A weak base from the first two patients; patients 8 to 11 validated it."""
    return trained(tmp_path_factory.mktemp("runs") / "base", hearts, slice(0, 2), seed=0)


@pytest.fixture(scope="session")
def heart_judge(tmp_path_factory: pytest.TempPathFactory, hearts: Dataset) -> Path:
    """A judge's model from patients 2 and 3."""
    return trained(tmp_path_factory.mktemp("runs") / "judge", hearts, slice(2, 4), seed=1)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with mine.py and newloss.py, whose classes tutorials name in their code and commands."""
    pages = {"mine": "your-own-classes.md", "newloss": "new-loss.md"}
    for name, page in pages.items():
        text = (Path(__file__).parents[1] / "docs" / "tutorials" / page).read_text()
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
        assert code is not None
        (tmp_path / f"{name}.py").write_text(code[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in pages:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def fair_hearts(tmp_path_factory: pytest.TempPathFactory, hearts: Dataset) -> tuple[Path, Path]:
    """A model from patients 0 to 2 and a judge's from 3 to 5 that find most of a heart."""
    runs, more = tmp_path_factory.mktemp("fair"), {"epochs": 40, "images_per_epoch": 64}
    parts = {"base": slice(0, 3), "judge": slice(3, 6)}
    made = (
        trained(runs / name, hearts, part, seed, **more)
        for seed, (name, part) in enumerate(parts.items())
    )
    return next(made), next(made)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlCluster]:
    """A PostgreSQL server; tests skip where there is none, unless SEGPREF_REQUIRE_POSTGRESQL is 1."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def vote_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty database for votes is, of each kind in turn: a file, or a URL."""
    if request.param == "sqlite":
        yield str(tmp_path / "votes.sqlite")
        return
    cluster: PostgresqlCluster = request.getfixturevalue("postgresql")
    with cluster.empty_database() as url:
        yield url
