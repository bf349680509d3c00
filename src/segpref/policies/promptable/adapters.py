"""Which parts of a promptable network learn, and low-rank adapters in place of whole weights."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from segpref.checking import checked
from segpref.extras import needed
from segpref.types import SegprefError

__all__ = ["PARTS", "Lora", "Part", "inject_lora", "merged", "part_of", "set_trainable"]

Part = Literal["encoder", "prompts", "decoder"]
PARTS: tuple[Part, ...] = ("encoder", "prompts", "decoder")

# Fixed frequencies belong to no part; SAM 2's decoder runs two layers in the encoder's pass.
_FIXED = ("shared_image_embedding.", "prompt_encoder.shared_embedding.")
_IN_ENCODER = ("vision_encoder.", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.", "no_memory_")


@checked()
@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., 2022) in the attention layers of some parts.

    Where a part has them, its own weights are frozen and only the adapters learn.

    Args:
        rank: of each update.
        alpha: the update is scaled by ``alpha / rank``.
        parts: which parts get them: encoder, decoder.
    """

    rank: int = 4
    alpha: float = 8.0
    parts: tuple[str, ...] = ("encoder",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if self.rank < 1 or self.alpha <= 0 or not set(self.parts) <= {"encoder", "decoder"}:
            raise SegprefError(
                "low-rank adapters need a rank of at least 1, an alpha above 0 and parts among encoder"
                f" and decoder, not {self.rank}, {self.alpha} and {', '.join(self.parts)}"
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "parts": list(self.parts)}


def part_of(name: str) -> Part | None:
    """The part that a parameter of a :class:`PromptableNetwork` belongs to; None for fixed ones."""
    name = name.removeprefix("sam.")
    if name.startswith(_FIXED):
        return None
    if name.startswith(_IN_ENCODER):
        return "encoder"
    return "decoder" if name.startswith("mask_decoder.") else "prompts"


def set_trainable(network: nn.Module, parts: Iterable[str]) -> None:
    """Let these parts learn and freeze the others.

    Raises:
        SegprefError: an unknown part, or none.
    """
    chosen = set(parts)
    if not chosen or not chosen <= set(PARTS):
        raise SegprefError(
            f"the parts that learn are among {', '.join(PARTS)}, not "
            f"{', '.join(sorted(chosen)) or 'none'}: name at least one of these"
        )
    lora = getattr(network, "lora", None)
    adapted = () if lora is None else lora.parts
    for name, weight in network.named_parameters():
        part = part_of(name)
        weight.requires_grad_(part in chosen and (part not in adapted or "lora_" in name))


def inject_lora(sam: nn.Module, lora: Lora) -> None:
    """Wrap the linear layers of the attention modules of some parts, in place."""
    peft = needed("peft", "promptable")
    attention = [
        name for name, module in sam.named_modules() if type(module).__name__.endswith("Attention")
    ]
    targets = [
        name
        for name, module in sam.named_modules()
        if isinstance(module, nn.Linear)
        and name.rpartition(".")[0] in attention
        and part_of(name + ".weight") in lora.parts
    ]
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets)
    peft.inject_adapter_in_model(config, sam)


def merged(sam: nn.Module) -> nn.Module:
    """A copy in which adapters are added to the weights, so that peft is not needed to use it."""
    copy = deepcopy(sam)
    adapted = [name for name, module in copy.named_modules() if hasattr(module, "get_base_layer")]
    for name in adapted:
        layer: Any = copy.get_submodule(name)
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(copy.get_submodule(parent), child, layer.get_base_layer())
    return copy
