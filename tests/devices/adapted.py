"""A small promptable network with low-rank adapters, by its import path."""

from __future__ import annotations

from segpref.policies.promptable import Lora, PromptableNetwork, small_sam


def adapted_sam() -> PromptableNetwork:
    """Adapters in the encoder and in the decoder."""
    network = small_sam(32, patch=4, width=32, layers=2, heads=2, prompt_width=32)
    network.add_lora(Lora(2, parts=("encoder", "decoder")))
    return network
