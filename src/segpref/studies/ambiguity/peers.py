"""Models that the study sets beside AmbiSeg, and their settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from segpref.inference.mask_samplers import EnsembleSampler
from segpref.policies import MaskSampler, NetworkSpec, PolicySpec
from segpref.policies.latent import LATENT
from segpref.settings import setting
from segpref.studies.ambiguity.sample_files import plain_name
from segpref.training import AmbiguousConfig
from segpref.types import SegprefError

__all__ = ["Peer", "refuse_shared_folders"]

_OF_LATENTS = ("latent", "latent_channels")


@dataclass(frozen=True, kw_only=True)
class Peer(AmbiguousConfig):
    """A model beside AmbiSeg, trained on as many images as its stage 1 by default."""

    epochs: int = setting(4, least=1)
    images_per_epoch: int | None = setting(12800, least=1)
    batch_size: int = setting(16, least=1)
    augment: bool = True
    validation_samples: int = setting(4, least=1)

    kind: Literal["probabilistic-unet", "ensemble", "dropout"] = "probabilistic-unet"
    """probabilistic-unet (samples a latent), ensemble (of plain U-Nets, whose masks are repeated) or
    dropout (a plain U-Net with Monte-Carlo dropout)."""

    network: dict[str, Any] = field(default_factory=dict)
    """Arguments of segpref.networks.ProbabilisticUNet; plain U-Nets are such without a latent."""

    members: int = setting(4, least=2)
    """Networks of an ensemble, each trained from a seed of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self._without_effect():
            raise SegprefError(f"{name} has no effect with kind {self.kind}: leave it out")
        if self.kind == "dropout" and not self.dropout:
            raise SegprefError(
                "dropout must be above 0 with kind dropout: set the rate, such as 0.2"
            )
        if self.kind == "probabilistic-unet" and self.network.get("latent") == 0:
            raise SegprefError(
                "network has latent 0, with which a Probabilistic U-Net has one mask: leave it out, or "
                "choose kind ensemble or dropout"
            )

    def _without_effect(self) -> Iterator[str]:
        """Settings that were given and that nothing would read."""
        if self.kind != "ensemble" and self.members != Peer.members:
            yield "members"
        if self.kind != "dropout" and self.dropout != AmbiguousConfig.dropout:
            yield "dropout"
        if self.kind != "probabilistic-unet":
            if self.kl_weight != AmbiguousConfig.kl_weight:
                yield "kl_weight"
            yield from (name for name in _OF_LATENTS if name in self.network)

    @property
    def trainings(self) -> list[int | None]:
        """Numbers of its members; one that is None where it is a single network."""
        return [*range(self.members)] if self.kind == "ensemble" else [None]

    @property
    def training(self) -> AmbiguousConfig:
        """Of each network: the same however many members there are."""
        return AmbiguousConfig(
            **{one.name: getattr(self, one.name) for one in fields(AmbiguousConfig)}
        )

    @property
    def sampler(self) -> MaskSampler:
        """What draws the samples that are measured."""
        return EnsembleSampler(self.members) if self.kind == "ensemble" else super().sampler

    @property
    def policy(self) -> PolicySpec:
        """What the model file says of it: a latent's samples can be aligned."""
        return PolicySpec(LATENT) if self.kind == "probabilistic-unet" else PolicySpec()

    @property
    def network_spec(self) -> NetworkSpec:
        """The network; the data fill in what is None."""
        given = {"in_channels": None, "out_channels": None, **self.network}
        if self.kind != "probabilistic-unet":
            given["latent"] = 0
        return NetworkSpec("segpref.networks.ProbabilisticUNet", given)


def refuse_shared_folders(peers: Iterable[str], others: Iterable[str]) -> None:
    """Refuse a peer whose folder would be that of another model.

    Args:
        peers: their names.
        others: names of all other models of the study.

    Raises:
        SegprefError: there is such a peer.
    """
    taken = {plain_name(name): name for name in others}
    for name in peers:
        if (place := plain_name(name)) in taken:
            raise SegprefError(
                f"peers names {name}, whose folder would be that of {taken[place]}: give it another "
                "name"
            )
        taken[place] = name
