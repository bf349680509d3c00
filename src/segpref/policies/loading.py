"""A policy from its file, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from segpref.policies.checkpoints import ModelCard, load_model, read_card
from segpref.policies.diffusion import AmbiSeg, is_diffusion, load_diffusion
from segpref.policies.tunable import TunablePolicy

__all__ = ["load_policy"]


def load_policy(path: Path | str) -> tuple[TunablePolicy | AmbiSeg, ModelCard]:
    """A policy with logits, or a diffusion model, from its file or run folder, as its card says."""
    return load_diffusion(path) if is_diffusion(read_card(Path(path))) else load_model(path)
