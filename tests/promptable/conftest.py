"""Tiny checkpoints, each written once per session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers", reason="needs the extra [promptable]")
pytest.importorskip("peft", reason="needs the extra [promptable]")


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import write_sam

    folder = tmp_path_factory.mktemp("checkpoints") / "sam"
    write_sam(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import write_clip

    folder = tmp_path_factory.mktemp("checkpoints") / "clip"
    write_clip(folder)
    return folder
