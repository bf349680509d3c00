"""AmbiSeg as a policy: a distribution over masks, known by its samples and its denoising errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from segpref.networks import weights_digest
from segpref.policies.checkpoints import ModelCard, load_network
from segpref.policies.diffusion.network import AmbiSegNetwork, Context
from segpref.policies.diffusion.process import Process
from segpref.policies.diffusion.text import TextEncoder, Words, text_encoder
from segpref.policies.tunable import PolicySpec, imported, learn_parts
from segpref.runtime import moved, runtime
from segpref.types import LabelSpace, SegprefError

__all__ = [
    "DIFFUSION",
    "AmbiSeg",
    "Denoiser",
    "Draw",
    "diffusion_of",
    "draw",
    "is_diffusion",
    "load_diffusion",
    "signed",
]


DIFFUSION = PolicySpec("segpref.policies.diffusion.AmbiSeg")
"""What the card of a diffusion model says of its policy."""


class Denoiser(Protocol):
    """What a sampler needs of a model."""

    label_space: LabelSpace

    @property
    def process(self) -> Process:
        """The process that it was trained on."""
        ...

    @property
    def latent(self) -> int:
        """Length of the latent."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def takes_text(self) -> bool:
        """Whether it can be asked with a text."""
        ...

    @property
    def needs_text(self) -> bool:
        """Whether it can't be asked without one."""
        ...

    def encode(self, images: Float[Tensor, "B channel *space"], texts: Sequence[str | None]) -> Any:
        """What is computed once per image and text; has ``rows(places)``."""
        ...

    def denoise(
        self,
        context: Any,
        noisy: Float[Tensor, "S field *space"],
        time: Int64[Tensor, " S"],
        unit: Float[Tensor, "S latent"],
    ) -> Float[Tensor, "S field *space"]:
        """The model's prediction."""
        ...


@dataclass(frozen=True, slots=True)
class Draw:
    """The randomness of denoising errors, which winner, loser, policy and reference share.

    Args:
        time: step of every pair, from 0.
        noise: standard normal, added to winner and loser alike.
        unit: standard normal, from which either model makes a latent with its own prior.
    """

    time: Int64[Tensor, " P"]
    noise: Float[Tensor, "P field *space"]
    unit: Float[Tensor, "P latent"]

    def to(self, device: torch.device) -> Draw:
        """The same on another device."""
        return Draw(*(moved(one, device) for one in (self.time, self.noise, self.unit)))


def draw(
    rngs: Sequence[np.random.Generator], shape: Sequence[int], timesteps: int, latent: int
) -> Draw:
    """One draw per generator, so that it does not matter what else is in the batch.

    Args:
        rngs: one per pair (or image).
        shape: ``(field, *space)`` of a mask.
        timesteps: T; steps are drawn uniformly.
        latent: length of the latent.
    """
    time = [int(rng.integers(timesteps)) for rng in rngs]
    noise = [rng.standard_normal(tuple(shape), dtype=np.float32) for rng in rngs]
    unit = [rng.standard_normal(latent, dtype=np.float32) for rng in rngs]
    return Draw(
        torch.tensor(time, dtype=torch.int64),
        torch.from_numpy(np.stack(noise)),
        torch.from_numpy(np.stack(unit)),
    )


def signed(masks: UInt8[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Masks 0 and 1 as -1 and +1."""
    return masks.float() * 2 - 1


class AmbiSeg:
    """A conditional diffusion model as a policy (TDG-DiffDPO, Sec. 3.2).

    A sample is a whole mask; its likelihood is not known, but the squared error with which the model
    denoises it takes the place of its negative logarithm (Wallace et al., 2024). One draw of noise,
    time and latent gives one estimate, which says something about two masks or two models only if they
    share it.

    Args:
        network: the denoiser.
        label_space: what the masks mean; multi-label, each structure one field of the mask.
        encoder: of the text; the one that the network's ``text_encoder`` names where None.
    """

    aligned_by = "segpref.training.tasks.denoising.SamplePreferences"
    draws_masks = True
    """Its candidates are its samples, its margins differences of denoising errors."""

    def __init__(
        self, network: nn.Module, label_space: LabelSpace, encoder: TextEncoder | None = None
    ) -> None:
        inner = getattr(network, "module", network)
        if not isinstance(inner, AmbiSegNetwork):
            raise SegprefError(
                f"a {type(inner).__name__} is not a diffusion model: name a network of class "
                "segpref.policies.diffusion.AmbiSegNetwork"
            )
        if label_space.kind != "multi-label" or label_space.fields != inner.fields:
            raise SegprefError(
                f"a diffusion model of {inner.fields} fields needs a multi-label label space of as "
                f"many structures, not {label_space.kind} {', '.join(label_space.names)}"
            )
        self.network = network
        self.label_space = label_space
        if encoder is None and inner.text_encoder is not None:
            encoder = text_encoder(inner.text_encoder)
        self.encoder = encoder

    @property
    def inner(self) -> AmbiSegNetwork:
        """The network without what distributed training wraps around it."""
        network = getattr(self.network, "module", self.network)
        assert isinstance(network, AmbiSegNetwork)
        return network

    @property
    def process(self) -> Process:
        """How masks are noised."""
        return self.inner.process

    @property
    def latent(self) -> int:
        """Length of the latent."""
        return self.inner.latent

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def takes_text(self) -> bool:
        """Whether it was made with a text encoder."""
        return self.inner.text_encoder is not None

    @property
    def needs_text(self) -> bool:
        """Whether every image of its training had a text."""
        return not self.inner.knows_silence

    def words(self, texts: Sequence[str | None]) -> Words | None:
        """Embedded texts; None for a model without text, whatever the texts."""
        if self.inner.project is None or self.encoder is None:
            return None
        if all(text is None for text in texts):
            empty = torch.zeros(len(texts), 1, self.inner.text_width, device=self.device)
            return empty, torch.zeros(len(texts), 1, dtype=torch.bool, device=self.device)
        embedded, there = self.encoder(texts)
        if embedded.shape[2] != self.inner.text_width:
            raise SegprefError(
                f"{self.encoder.name} gives embeddings of length {embedded.shape[2]} where the network "
                f"takes {self.inner.text_width}: set text_width to {embedded.shape[2]}"
            )
        return moved(embedded, self.device), moved(there, self.device)

    def encode(
        self, images: Float[Tensor, "B channel *space"], texts: Sequence[str | None]
    ) -> Context:
        """What is computed once per image and text."""
        return self.inner.encode(moved(images, self.device), self.words(texts))

    def denoise(
        self,
        context: Context,
        noisy: Float[Tensor, "S field *space"],
        time: Int64[Tensor, " S"],
        unit: Float[Tensor, "S latent"],
    ) -> Float[Tensor, "S field *space"]:
        """The network's prediction, in its own terms (noise, mask or v)."""
        return self.inner.denoise(context, noisy, time, unit)

    def residuals(
        self,
        images: Float[Tensor, "P channel *space"],
        texts: Sequence[str | None],
        masks: UInt8[Tensor, "S P field *space"],
        drawn: Draw,
    ) -> Float[Tensor, "S P field *space"]:
        """Prediction minus target of S masks per image (such as winner and loser) under one draw.

        Their squares are the denoising errors e_i, in the terms in which the network predicts. One
        pass, through the wrapped network, so that gradients are averaged over processes.

        Args:
            images: one per pair.
            texts: one per pair.
            masks: 0 and 1.
            drawn: noise, time and latent of every pair, the same for all S.
        """
        sets, pairs = masks.shape[:2]
        drawn = drawn.to(self.device)
        clean = signed(moved(masks, self.device)).flatten(0, 1)
        time, noise, unit = drawn.time.repeat(sets), drawn.noise.repeat(sets, 1, 1, 1), drawn.unit
        words = self.words(texts)
        if words is not None:
            words = words[0].repeat(sets, 1, 1), words[1].repeat(sets, 1)
        prediction, _ = self.network(
            moved(images, self.device).repeat(sets, 1, 1, 1),
            words,
            self.process.noised(clean, noise, time),
            time,
            unit.repeat(sets, 1),
        )
        error: Tensor = prediction - self.process.target(clean, noise, time)
        return error.reshape(sets, pairs, *error.shape[1:])

    def learn(self, parts: Sequence[str] | None = None) -> None:
        """Let these submodules learn and freeze the others; the whole network where None."""
        learn_parts(self.network, parts)

    def digest(self) -> str:
        """Hash of the weights."""
        return weights_digest(self.inner.state_dict())


def is_diffusion(card: ModelCard) -> bool:
    """Whether a model file holds a diffusion model: an :class:`AmbiSeg`, or a class made from it."""
    if card.policy.class_path == DIFFUSION.class_path:
        return True
    policy_class = imported(card.policy.class_path)
    return isinstance(policy_class, type) and issubclass(policy_class, AmbiSeg)


def diffusion_of(
    card: ModelCard, network: nn.Module, encoder: TextEncoder | None = None
) -> AmbiSeg:
    """The diffusion model of a network: of the class that the card names, if that is made from ours.

    Args:
        card: of the model.
        network: an :class:`AmbiSegNetwork`.
        encoder: a text encoder that is loaded already; by its name where None.

    Raises:
        SegprefError: a network of another kind, or a label space that does not suit it.
    """
    if not is_diffusion(card):
        return AmbiSeg(network, card.label_space, encoder)
    policy_class: type[AmbiSeg] = imported(card.policy.class_path)
    return policy_class(network, card.label_space, encoder, **card.policy.init_args)


def load_diffusion(
    path: Path | str, encoder: TextEncoder | None = None, *, trust: bool = False
) -> tuple[AmbiSeg, ModelCard]:
    """A diffusion model from its file or run folder, in evaluation mode on the runtime's device.

    Files are those of :func:`~segpref.policies.checkpoints.save_model`; the text encoder is not in
    them, but its name is.

    Args:
        path: model file or run folder.
        encoder: a text encoder that is loaded already; by its name where None.
        trust: whether the file may name any class, and a text encoder that is downloaded.
    """
    network, card = load_network(path, trust=trust)
    try:
        return diffusion_of(card, runtime().place(network).eval(), encoder), card
    except SegprefError as error:
        raise SegprefError(f"{path} can't be used here: {error}") from error
