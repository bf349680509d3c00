"""A promptable model as a policy: it prompts itself, and its masks are a function of the image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.data.prepared import ImagePreparation
from segpref.networks import weights_digest
from segpref.policies.promptable.adapters import part_of, set_trainable
from segpref.policies.promptable.embeddings import ImageEmbeddings
from segpref.policies.promptable.frame import Frame, coloured
from segpref.policies.promptable.network import Masks, PromptableNetwork, PromptBatch
from segpref.policies.promptable.texts import SentenceEncoder
from segpref.prompts import (
    Answer,
    ParticularPrompter,
    PreparedPrompter,
    Prompt,
    Prompter,
    Prompts,
    WholeImage,
    checked,
)
from segpref.runtime import moved
from segpref.types import LabelSpace, SegprefError, State

__all__ = ["PromptablePolicy", "PromptableState"]


@dataclass(frozen=True, slots=True)
class PromptableState:
    """What one pass leaves behind.

    Args:
        logits: of the canonical single mask of each structure, at input resolution.
        prompts: that it was asked with.
        features: image embeddings, without their graph.
        quality: the model's guess of each mask's IoU, without a graph.
        iterations: logits of every iteration, the last being ``logits``: stage 1 learns from all.
        qualities: guesses of every iteration, with their graph.
    """

    logits: Float[Tensor, "B C *space"]
    prompts: Prompts
    features: tuple[Tensor, ...]
    quality: Float[Tensor, "B C"]
    iterations: tuple[Float[Tensor, "B C *space"], ...]
    qualities: tuple[Float[Tensor, "B C"], ...]


class PromptablePolicy:
    """A promptable network that is a :class:`~segpref.types.Policy`.

    Its distribution over masks is that of the single-mask output under the prompts that the
    prompter makes of the image, at input resolution, and after the last iteration of feeding the
    mask back. Multimask outputs and other prompts only propose (:meth:`ask`). One prompt is one
    binary structure, so the label space is multi-label.

    While the image encoder is frozen, images that were prepared (:meth:`prepare`) never pass it again.

    Args:
        network: what is tuned.
        label_space: one structure per prompt.
        prompter: makes the prompts; the whole image as a box if None.
        text_encoder: of the texts; the one that the network names if None.

    Raises:
        SegprefError: a multi-class label space.
    """

    def __init__(
        self,
        network: nn.Module,
        label_space: LabelSpace,
        prompter: Prompter | None = None,
        text_encoder: Callable[[Sequence[str]], Tensor] | None = None,
    ) -> None:
        if label_space.kind != "multi-label":
            raise SegprefError(
                "a promptable model draws one binary mask per prompt: read the labels as independent "
                "structures (as_multilabel)"
            )
        self.network = network.eval()
        self.label_space = label_space
        self.prompter = prompter or WholeImage(label_space.fields)
        self._embeddings = ImageEmbeddings()
        self._text_encoder = text_encoder

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def inner(self) -> PromptableNetwork:
        """The network itself, whatever wraps it."""
        inner = getattr(self.network, "module", self.network)
        assert isinstance(inner, PromptableNetwork)
        return inner

    @property
    def encoder_frozen(self) -> bool:
        """Whether no weight of the image encoder learns."""
        named = self.inner.named_parameters()
        return not any(weight.requires_grad for name, weight in named if part_of(name) == "encoder")

    @property
    def takes_text(self) -> bool:
        """Whether its network names a text encoder."""
        return self.inner.text_encoder is not None

    def asked_by(self, prompter: Prompter) -> PromptablePolicy:
        """The same network, asked with the prompts of another prompter."""
        other = copy(self)
        other.prompter, other._embeddings = prompter, ImageEmbeddings()
        return other

    def check_preparation(self, preparation: ImagePreparation) -> None:
        """Refuse prompts that are made of other images, or of other structures.

        Raises:
            SegprefError: they are.
        """
        if isinstance(self.prompter, ParticularPrompter):
            self.prompter.check(self.label_space, preparation)

    def learn(self, parts: Sequence[str] | None = None) -> None:
        """Let these of encoder, prompts and decoder learn; the decoder where None, as in the paper.

        Raises:
            SegprefError: an unknown part, or none.
        """
        set_trainable(self.inner, ("decoder",) if parts is None else parts)

    def prepare(self, dataset: Dataset, cache: Cache | None = None) -> None:
        """Make prompts, and image embeddings while the encoder is frozen, for all of a dataset."""
        cache = cache or Cache()
        if isinstance(self.prompter, PreparedPrompter):
            self.prompter.prepare(dataset, cache)
        if self.encoder_frozen:
            self._embeddings.prepare(dataset, self._encoded, self._encoder_digest(), cache)

    def prompts_for(self, images: Float[Tensor, "B channel H W"]) -> Prompts:
        """The policy's own prompts."""
        return self.prompter(images)

    def read(self, texts: Sequence[str]) -> None:
        """Read texts that it will be asked with.

        Raises:
            SegprefError: a text that is too long, or a model without a text encoder.
        """
        if texts:
            self._texts(texts)

    def viewed(self, images: Float[Tensor, "B channel H W"], state: State) -> PromptableState:
        """The differentiable pass on a view, asked with what the image itself was asked with."""
        assert isinstance(state, PromptableState)
        return self.forward(images, state.prompts)

    def forward(
        self,
        images: Float[Tensor, "B channel H W"],
        prompts: Prompts | None = None,
        every: bool = False,
    ) -> PromptableState:
        """The one differentiable pass.

        Args:
            images: the batch.
            prompts: what it is asked with; the policy's own where None.
            every: whether all iterations and the guesses of quality have a graph, as stage 1 needs
                it, in place of the last iteration's logits alone.
        """
        prompts = self._checked(images, prompts)
        frame = self._frame(images)
        asked = self._asked(prompts, frame)
        # What several processes wrap around it is for passes that something is learned from.
        network = self.network if torch.is_grad_enabled() else self.inner
        if self.encoder_frozen:
            results, features = network(asked, features=self.features(images), every=every)
        else:
            results, features = network(asked, pixels=self._pixels(images), every=every)
        logits = tuple(self._restored(masks, frame, len(images))[:, 0] for masks in results)
        qualities = tuple(_by_image(masks.quality.float(), len(images))[:, 0] for masks in results)
        return PromptableState(
            logits=logits[-1],
            prompts=prompts,
            features=tuple(level.detach() for level in features),
            quality=qualities[-1].detach(),
            iterations=logits,
            qualities=qualities,
        )

    def logits(
        self, images: Float[Tensor, "B channel H W"], prompts: Prompts | None = None
    ) -> Float[Tensor, "B C *space"]:
        """Logits of a batch, without a graph."""
        return self.ask(images, self._checked(images, prompts)).logits[:, 0]

    def ask(
        self,
        images: Float[Tensor, "B channel H W"],
        prompts: Prompts,
        *,
        multimask: bool = False,
        state: State | None = None,
    ) -> Answer:
        """Masks for these prompts, without a graph; three per prompt with ``multimask``."""
        count = len(prompts) if len(images) == 1 else len(images)
        prompts = self._checked(images, prompts, count)
        frame = self._frame(images)
        with torch.no_grad():
            features = (
                state.features if isinstance(state, PromptableState) else self.features(images)
            )
            features = tuple(level.expand(count, -1, -1, -1) for level in features)
            asked = self._asked(prompts, frame)
            masks = self.inner(asked, features=features, multimask=multimask)[0][-1]
            quality = _by_image(masks.quality.float(), count)
            return Answer(self._restored(masks, frame, count), quality)

    def features(self, images: Float[Tensor, "B channel H W"]) -> tuple[Tensor, ...]:
        """Image embeddings without a graph: looked up where they can be, else computed."""
        if self.encoder_frozen:
            found = self._embeddings.find(images)
            if found is not None:
                return tuple(moved(level, self.device) for level in found)
        return self._encoded(images)

    def dropout_logits(
        self, state: State, count: int, rate: float | None, seeds: Sequence[int]
    ) -> None:
        """None: SAM has no dropout."""
        return

    def digest(self) -> str:
        """Hash of weights, settings and prompts: another prompter predicts other masks."""
        return _hash(
            weights_digest(self.inner.state_dict()), self.inner.arguments(), self.prompter.key()
        )

    def _checked(
        self, images: Tensor, prompts: Prompts | None, count: int | None = None
    ) -> Prompts:
        prompts = self.prompts_for(images) if prompts is None else prompts
        shape = tuple(images.shape[2:])
        if len(shape) != 2:
            raise SegprefError(
                "a promptable model takes 2D images: use dims 2, or segpref.inference.propagation for "
                "volumes"
            )
        return checked(prompts, count or len(images), self.label_space.fields, shape)

    def _frame(self, images: Tensor) -> Frame:
        height, width = images.shape[2:]
        inner = self.inner
        return Frame((height, width), inner.side, inner.fit, inner.stretched)

    def _pixels(self, images: Tensor) -> Tensor:
        images = coloured(moved(images, self.device), self.inner.mean, self.inner.std)
        return self._frame(images).pixels(images)

    def _encoded(self, images: Float[Tensor, "B channel H W"]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return self.inner.encode(self._pixels(images))

    def _encoder_digest(self) -> str:
        weights = {
            name: value
            for name, value in self.inner.state_dict().items()
            if part_of(name) == "encoder"
        }
        return _hash(weights_digest(weights), self.inner.arguments())

    def _asked(self, prompts: Prompts, frame: Frame) -> list[PromptBatch]:
        """Prompts as tensors, gathered by what they are made up of."""
        flat = [prompt for row in prompts for prompt in row]
        groups: dict[tuple[bool, int, bool, bool], list[int]] = {}
        for row, prompt in enumerate(flat):
            made_of = (
                prompt.box is not None,
                len(prompt.points),
                prompt.mask is not None,
                prompt.text is not None,
            )
            groups.setdefault(made_of, []).append(row)
        return [self._group(rows, [flat[row] for row in rows], frame) for rows in groups.values()]

    def _group(self, rows: list[int], prompts: Sequence[Prompt], frame: Frame) -> PromptBatch:
        first, device = prompts[0], self.device
        points = labels = boxes = masks = text = None
        if first.points:
            points = moved(torch.tensor([frame.points(p.points) for p in prompts]), device)
            labels = moved(torch.tensor([[q[2] for q in p.points] for p in prompts]), device)
        if first.box is not None:
            boxes = moved(torch.tensor([frame.box(p.box) for p in prompts if p.box]), device)
        if first.mask is not None:
            stacked = np.stack([p.mask for p in prompts if p.mask is not None]).astype(np.float32)
            guess = torch.from_numpy(stacked)[:, None]
            guess = moved(guess, device)
            masks = frame.mask(guess, self.inner.mask_side)
        if first.text is not None:
            text = moved(self._texts([p.text for p in prompts if p.text is not None]), device)
        place = moved(torch.tensor(rows), device)
        images = place // self.label_space.fields
        return PromptBatch(place, images, points, labels, boxes, masks, text)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        if self._text_encoder is None:
            if self.inner.text_encoder is None:
                raise SegprefError(
                    "this model was made without a text encoder, so it can't read text prompts: leave "
                    "the texts out, or name a text encoder when it is made"
                )
            self._text_encoder = SentenceEncoder(self.inner.text_encoder)
        return self._text_encoder(texts)

    def _restored(self, masks: Masks, frame: Frame, images: int) -> Float[Tensor, "B M C *space"]:
        return _by_image(frame.restored(masks.logits.float()), images)


def _by_image(rows: Float[Tensor, "n M ..."], images: int) -> Float[Tensor, "B M C ..."]:
    return rows.reshape(images, -1, *rows.shape[1:]).transpose(1, 2)


def _hash(weights: str, *settings: object) -> str:
    text = json.dumps([weights, *settings], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
