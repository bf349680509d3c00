# ruff: noqa: E501
"""Mistakes on the real command line: each ends in one sentence and a status, never in a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from made import pairs
from mutations import sentence

from segpref.cli.main import main

YAML = {
    "utf16": "epochs: 3\n".encode("utf-16"),
    "circle": b"a: &a\n  b: *a\n",
    "cut": b"epochs: [1\n",
    "list": b"- epochs\n",
    "tag": b"seed: !!python/object/apply:os.system [ls]\n",
    "deep": b"[" * 4000,
    "unknown": b"epoch: 3\n",
    "beta": b"objective:\n  class_path: segpref.objectives.DPO\n  init_args:\n    beta: -1\n",
    "nan": b"learning_rate: .nan\n",
    "nobody": b"objective:\n  class_path: segpref.objectives.Nobody\n",
    "empty": b"",
}
ALIGN = "align --data DATA --model MODEL --judge oracle --out OUT"
FIT = "fit --data DATA --out OUT --labelled 1"
LINES = [
    *(f"{ALIGN} --config YAML/{name}.yaml" for name in YAML if name != "empty"),
    f"{ALIGN} --objective segpref.objectives.DPO --objective.init_args.beta -1",
    f"{ALIGN} --objective segpref.objectives.DPO --objective.init_args.beta much",
    f"{ALIGN} --miner segpref.preferences.TopVsRandom --miner.init_args.count 0",
    f"{ALIGN} --seed -1", f"{ALIGN} --seed 1.5", f"{ALIGN} --epochs 0", f"{ALIGN} --epochs many",
    f"{ALIGN} --learning_rate -1", f"{ALIGN} --learning_rate nan", f"{ALIGN} --average 1.5",
    f"{ALIGN} --candidates 100000", f"{ALIGN} --candidates 1", f"{ALIGN} --method pseudo-label --beta 2",
    f"{ALIGN} --method no-such", f"{ALIGN} --reduction pixel", f"{ALIGN} --data_options 3",
    f"{ALIGN} --data_options.colour 12", f"{ALIGN} --data_options.nothing 1", f"{ALIGN} --no_such_option 1",
    f"{ALIGN} --halve_every 3", f"{ALIGN} --config gone.yaml", f"{ALIGN} --families []",
    "align --data DATA --model MODEL --judge MODEL --out OUT",
    "align --data DATA --model gone --judge oracle --out OUT",
    "align --data DATA --model MODEL --out OUT", "align --data gone --model MODEL --judge oracle --out OUT",
    f"{FIT} --preparation.dims 5", f"{FIT} --preparation.normalise zscore", f"{FIT} --preparation.size [16]",
    f"{FIT} --preparation.size [nan,16]", f"{FIT} --preparation.size x", f"{FIT} --dropout 1",
    f"{FIT} --split YAML/cut.yaml", f"{FIT} --augment sideways", f"{FIT} --data_options.suffix [a]",
    f"{FIT} --network.module os.system --network.arguments {{}}", "fit --data DATA --out OUT --labelled -2",
    "fit --data DATA --out OUT --labelled 1 --seed -3", "evaluate --data DATA --model YAML/cut.yaml",
    "evaluate --data DATA --model DATA", "predict --model MODEL --input gone --output OUT",
    "predict --model YAML/text.safetensors --input DATA/images --output OUT", "pack --data gone --out OUT",
    "audit --data DATA --model MODEL --judge MODEL", "no-such-command", "study --recipe YAML/circle.yaml --data DATA --out OUT",
]  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("line")
    for name, content in YAML.items():
        path = folder / "yaml" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (folder / "yaml/text.safetensors").write_text("weights")
    data = pairs(folder / "data", where="masks")
    (folder / "data/split.json").write_text(json.dumps({}))
    model = folder / "model"
    model.mkdir()
    (model / "best.safetensors").write_bytes(b"cut")
    return {
        "DATA": str(data),
        "MODEL": str(model),
        "YAML": str(folder / "yaml"),
        "OUT": str(folder / "out"),
    }


@pytest.mark.parametrize("line", LINES)
def test_mistakes_on_the_command_line(
    line: str, places: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = [
        re.sub("DATA|MODEL|YAML|OUT", lambda found: places[found[0]], one) for one in line.split()
    ]
    assert main(given) in (1, 2)
    lines = [one for one in capsys.readouterr().err.splitlines() if one.startswith("segpref")]
    assert len(lines) == 1
    sentence(lines[0])
    assert not Path(places["OUT"]).exists()
