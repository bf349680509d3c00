"""The commands of a tutorial's page, one after another, and what they are run with in a test."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.release.hospital import hospital
from tests.small_network import network_option

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
MOST = 10
NAMED = {"MODEL": "runs/base", "JUDGE": "runs/judge"}

Short = Mapping[tuple[str, ...], Sequence[str]]
"""Options that make a command short enough for a test, by words that it has."""


def block(page: str, language: str) -> str:
    """The one block of a language on a page."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (TUTORIALS / page).read_text(), re.DOTALL)
    return str(found)


def commands(page: str, short: Short) -> list[list[str]]:
    """The words of each command but pip's, with the names of the page filled in.

    Raises:
        AssertionError: more than ten.
    """
    blocks = re.findall(r"```text\n(.*?)```", (TUTORIALS / page).read_text(), re.DOTALL)
    lines = [line for one in blocks for line in one.splitlines() if not line.startswith("pip ")]
    assert len(lines) <= MOST
    found = []
    for line in lines:
        words = [NAMED.get(word, word) for word in shlex.split(line)]
        for having, options in short.items():
            if set(having) <= set(words):
                words += options
        found.append(words)
    return found


def before_the_hospital(folder: Path) -> list[list[str]]:
    """Data and export in a folder, and the commands that make MODEL and JUDGE from it.

    They stand for nnU-Net folders, which an environment of their own could train only.
    """
    hospital(folder)
    network = network_option(channels=[8, 16, 32], strides=[2, 2], num_res_units=1, dropout=0.1)
    settings = [
        "--data", "DATASET", "--split", "split.json", "--preparation.size", "[32, 32]", "--network",
        network, "--epochs", "10", "--images_per_epoch", "96", "--learning_rate", "1e-2",
    ]  # fmt: skip
    return [
        ["segpref", "fit", *settings, "--part", part, "--out", f"runs/{name}"]
        for part, name in (("train", "base"), ("judge", "judge"))
    ]
