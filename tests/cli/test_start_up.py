"""Help and the sentence about a wrong path come before any library that takes long to import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import segpref
from segpref.cli.main import COMMANDS

HEAVY = (
    "SimpleITK", "accelerate", "cc3d", "diffusers", "edt", "jinja2", "matplotlib", "monai", "nibabel",
    "onnx", "pandas", "peft", "pyarrow", "pydicom", "ray", "scipy", "skimage", "sklearn", "tensorboard",
    "tifffile", "transformers",
)  # fmt: skip
"""What takes long to import, by itself or with what it imports."""

WRONG = {
    "demo": "--data nowhere",
    "fit": "--data nowhere --out x",
    "audit": "--model nowhere --data nowhere --judge nowhere2",
    "align": "--model nowhere --data nowhere --judge nowhere2 --out x",
    "evaluate": "--model nowhere --data nowhere",
    "predict": "--model nowhere --input nowhere --output x",
    "sample": "--model nowhere --input nowhere --output x",
    "export": "--model nowhere --out x.ts",
    "pack": "--data nowhere --out x",
    "study": "--recipe acdc-small --data nowhere",
    "ambiguity": "--data nowhere",
    "prompted": "--data nowhere --others nowhere",
    "collect init": "--model nowhere --data nowhere --out x",
    "collect serve": "nowhere",
    "collect raters": "nowhere",
    "collect report": "nowhere",
    "collect backup": "nowhere --out x",
    "collect restore": "nowhere x",
    "collect erase": "nowhere --patient p --reason r",
    "collect export": "nowhere --out x",
    "collect import": "nowhere --input i",
}
"""Every command with a path that leads nowhere."""

PROGRAM = """
import contextlib, io, json, sys
from segpref.cli.main import main
from segpref.process_setup import configure_process

configure_process()
heavy, lines = json.loads(sys.argv[1])
found = {}
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(line.split())
        except SystemExit as end:
            status = end.code
    found[line] = status, [name for name in heavy if name in sys.modules]
print(json.dumps(found))
"""
Found = dict[str, tuple[int, list[str]]]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Exit status and imported libraries, after each line in the same process."""
    lines = [f"{command} --help" for command in COMMANDS]
    lines += [f"{command} {options}" for command, options in WRONG.items()]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([HEAVY, lines])],
        stdout=subprocess.PIPE, text=True, check=True, cwd=tmp_path_factory.mktemp("start"),
    )  # fmt: skip
    found: Found = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_help_waits_for_nothing(started: Found) -> None:
    helped = {line: one for line, one in started.items() if line.endswith("--help")}
    assert len(helped) == len(COMMANDS)
    assert {line: one for line, one in helped.items() if one != [0, []]} == {}


@pytest.mark.slow
def test_a_wrong_path_is_refused_before_anything_is_imported(started: Found) -> None:
    assert set(WRONG) == set(COMMANDS)
    refused = {line: one for line, one in started.items() if not line.endswith("--help")}
    assert {line: one for line, one in refused.items() if one != [1, []]} == {}


def test_what_is_imported_late_is_on_the_list() -> None:
    source = Path(next(iter(segpref.__path__)))
    named = {
        found
        for path in source.rglob("*.py")
        if path.name != "late.py"
        for found in re.findall(r'\blate\("(\w+)', path.read_text())
    }
    assert {"monai", "scipy"} <= named <= {*HEAVY}
