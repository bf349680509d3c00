"""A Ray cluster of two nodes on this machine, and what it is asked to do, in processes of their own."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segpref import cluster
from segpref.cli.main import program
from segpref.data import Cache, Images, PredictionStore, Preparation, Source, prepare
from segpref.data.phantoms import PATIENT_PATTERN
from segpref.inference import predict_folder
from segpref.policies import open_model
from segpref.types import Case, LabelSpace, SegprefError, Slate

DEADLY = 7.0
SPACE = LabelSpace("multi-class", ("background", "bright"))
PATIENT = PATIENT_PATTERN
HERE = Path(__file__).parent
IMPORTS = {"PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent, *sys.path)))}


class Mortal(nn.Module):
    """Thresholds images; one that is too bright for it kills its process, so many times."""

    def __init__(self, marks: str, deaths: int) -> None:
        super().__init__()
        self.marks, self.deaths = Path(marks), deaths
        self.head = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.head.weight[:, 0] = torch.tensor([0.0, 1.0])[:, None, None]
            self.head.bias.copy_(torch.tensor([0.0, -0.5]))

    def forward(self, images: Tensor) -> Tensor:
        if float(images.max()) > DEADLY and len(list(self.marks.iterdir())) < self.deaths:
            (self.marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(images)


class Waiting(nn.Module):
    """Says that it was reached through a named pipe, which it keeps open, and never returns."""

    def __init__(self, trace: str) -> None:
        super().__init__()
        self.trace, self.head = trace, nn.Conv2d(1, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        pipe = os.open(self.trace, os.O_WRONLY)
        os.write(pipe, b"!")
        signal.pause()
        return self.head(images)


class Signing:
    """A judge that likes large masks, and signs with its process where it scored."""

    needs_label = False

    def __init__(self, marks: str) -> None:
        self.marks = Path(marks)

    def score(self, case: Case, slate: Slate) -> np.ndarray:
        (self.marks / str(os.getpid())).touch()
        return np.asarray((slate.masks > 0).mean(axis=tuple(range(2, slate.masks.ndim))))


def stay(address: Path, held: Path) -> None:
    """Two nodes of one core each, as long as somebody holds a named pipe open; writes their address."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        draft = address.with_suffix(".draft")
        draft.write_text(nodes.address)
        draft.rename(address)
        held.read_bytes()
    finally:
        nodes.shutdown()


def predicted(model: Path, images: Path, out: Path, address: str) -> int:
    """Masks by the workers of a cluster; prints them, or the sentence."""
    opened = open_model(model, trust=True)
    return _said(lambda: predict_folder(opened, images, out, pool=cluster.RayPool(ray=address)))


def commanded(line: list[str], folder: Path | None = None) -> int:
    """The program, as a person gives it, in a folder."""
    if folder is not None:
        os.chdir(folder)
    sys.argv = ["segpref", *line]
    return program()


def commanded_signing(line: list[str], marks: Path) -> int:
    """The same; where this process predicts by a frozen network, and does not find it, it signs."""
    compute: Any = PredictionStore._compute

    def signed(*arguments: Any) -> Any:
        (marks / str(os.getpid())).touch()
        return compute(*arguments)

    PredictionStore._compute = signed  # type: ignore[method-assign]
    return commanded(line)


def tripled(number: int) -> Callable[[tuple[str, bool]], tuple[int, int]]:
    """Work that gives three times the length of a word, and by whom; it may kill its process, once."""

    def work(item: tuple[str, bool]) -> tuple[int, int]:
        word, deadly = item
        if deadly and not Path(word).exists():
            Path(word).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * len(word), os.getpid()

    return work


def spread_in_order(address: str, items: list[tuple[str, bool]]) -> int:
    """Have workers do it; prints what they made, in the order in which it came."""
    pool = cluster.RayPool(ray=address)
    made = list(cluster.spread(pool, tripled, (3,), items, ordered=True))
    print([(place, found) for place, (found, _) in made])
    assert os.getpid() not in {who for _, (_, who) in made}
    return 0


class SigningImages(Images):
    """A folder of images; who reads one signs."""

    marks: Path

    def read(self, source: Source) -> Case:
        (self.marks / str(os.getpid())).touch()
        return super().read(source)


def prepared(images: Path, marks: Path, cache: Path, address: str) -> int:
    """Prepare images; prints a hash of them all, and this process."""
    reader = SigningImages(images, channels=("image",))
    reader.marks = marks
    dataset = prepare(
        reader, Preparation(size=(6, 8)), Cache(cache), SPACE, pool=cluster.RayPool(ray=address)
    )
    digest = hashlib.sha256()
    for place in range(len(dataset)):
        digest.update(np.ascontiguousarray(dataset[place].image).tobytes())
    print(digest.hexdigest(), os.getpid())
    return 0


def _said(work: Callable[[], object]) -> int:
    try:
        print(work())
    except SegprefError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
