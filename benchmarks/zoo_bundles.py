"""Which MONAI bundles segpref opens: one forward pass of each in a folder, with random weights.

    python -m benchmarks.zoo_bundles FOLDER [--out zoo.csv]

FOLDER has one folder per bundle, with ``configs/metadata.json`` and ``configs/inference.json`` (or
``.yaml``) and perhaps the bundle's code; no weights. All are opened in one process: each is copied,
given random weights, opened as ``segpref align --trust --model`` opens it, and shown one image of
noise. Their code is run: try only bundles that you trust. The table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import monai
import torch

from segpref.data import Preparation, write_csv
from segpref.policies import open_model, read_bundle
from segpref.types import SegprefError

LARGEST = 96
"""Voxels along a side of the image that is tried, where the bundle's windows are larger."""
SMALLEST = 32


@dataclass(frozen=True)
class Row:
    """What became of one bundle.

    Args:
        bundle: name of its folder.
        result: ``works``, ``works with --preparation``, or ``refused``.
        why: what it is where it works, the sentence where it is refused.
    """

    bundle: str
    result: str
    why: str


def tried(bundle: Path, work: Path) -> Row:
    """Open a bundle and show it an image.

    Args:
        bundle: its folder.
        work: where a copy with random weights may be put.
    """
    copy = work / bundle.name
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("*.pt", "*.ts", "docs"))
    weights = copy / "models" / "model.pt"
    weights.parent.mkdir(exist_ok=True)
    result, why = "works", ""
    try:
        torch.save({"none yet": torch.zeros(1)}, weights)
        described = read_bundle(copy, trust=True)
        torch.save(described.network.build().state_dict(), weights)
        try:
            opened = open_model(copy, trust=True, labelled=[])
        except SegprefError as error:
            if "--preparation" not in str(error):
                raise
            # Any will do to try the network: a user would say what the bundle's amounts to.
            other = Preparation(dims=_dims(described), normalise="z-score")
            opened = open_model(copy, trust=True, labelled=[], preparation=other)
            result, why = "works with --preparation", f"; {_plain(str(error), work)}"
        card = opened.card
        (policy,) = opened.policies()
        side = [min(max(size, SMALLEST), LARGEST) for size in _size(card.preparation)]
        logits = policy.logits(torch.randn(1, len(card.channels), *side))
        shape = " x ".join(map(str, logits.shape[2:]))
        told = (
            f"{card.network.name.rpartition('.')[2]}, {len(card.channels)} channels, "
            f"{card.label_space.kind} of {card.label_space.channels}, tried on {shape}"
        )
        return Row(bundle.name, result, told + why)
    except SegprefError as error:
        return Row(bundle.name, "refused", _plain(str(error), work))
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _dims(bundle: Any) -> Any:
    """Axes of what the network sees, of a bundle that does not say how images are prepared."""
    shape = bundle.metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    return bundle.network.arguments.get("spatial_dims", len(shape))


def _size(preparation: Any) -> Sequence[int]:
    return preparation.patch or preparation.size or preparation.crop or [64] * preparation.dims


def _plain(text: str, work: Path) -> str:
    return text.replace(f"{work}/", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="the table as CSV")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    found = sorted(path.parents[1] for path in options.folder.glob("*/configs/metadata.json"))
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for bundle in found:
            rows.append(tried(bundle, Path(work)))
            print(rows[-1], file=sys.stderr, flush=True)
    if options.out is not None:
        write_csv(options.out, [asdict(row) for row in rows])
    print(
        f"MONAI {monai.__version__}\n\n| bundle | result | what it is, or why not |\n|---|---|---|"
    )
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in (row.bundle, row.result, row.why)]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
