"""The interface that training needs of a policy, and how a network becomes one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from segpref.checking import checked
from segpref.data.cache import Cache
from segpref.data.dataset import Dataset
from segpref.memory import ran_out
from segpref.trust import path_in_folder, vouch
from segpref.types import LabelSpace, Policy, SegprefError, State

__all__ = ["PolicySpec", "TunablePolicy", "imported", "learn_parts"]


@runtime_checkable
class TunablePolicy(Policy, Protocol):
    """A policy with a network whose weights can be trained, or a part of them.

    What a class may have besides, and what happens where it has not:

    - ``aligned_by``: the import path of a
      :class:`segpref.training.tasks.preference.PreferenceTask`, which brings candidates and margins.
      Otherwise it is aligned on edits of its prediction, with margins that are linear in its logits.
    - ``draws_masks``: True where it draws many masks of an image, and these are what it is aligned on.
      Otherwise people can vote on its masks, and a study can take it as a base.
    - ``validation`` (:class:`~segpref.policies.OwnValidation`): how it is measured while it is trained.
      Otherwise by the mean IoU of its masks of whole images.
    - ``whole_images`` (:class:`~segpref.policies.OwnPrediction`): how it predicts whole images.
      Otherwise in windows where it sees patches, and else in one pass.
    - ``compiles``: True where its passes call the network with a batch of images and nothing else, so
      that it can be compiled (:mod:`segpref.networks.compiled`). Otherwise ``compile`` is refused.
    """

    network: nn.Module

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def learn(self, parts: Sequence[str] | None = None) -> None:
        """Let these parts of the network learn and freeze the others; its usual parts where None."""
        ...

    def prepare(self, dataset: Dataset, cache: Cache | None = None) -> None:
        """Compute once what frozen parts say about the images of a dataset."""
        ...

    def viewed(self, images: Float[Tensor, "B channel *space"], state: State) -> State:
        """The differentiable pass on a changed view of the images that ``state`` is of."""
        ...


@checked()
@dataclass(frozen=True)
class PolicySpec:
    """How a network becomes a policy: a class that takes network and label space, and its settings.

    Args:
        class_path: import path of the class.
        init_args: its other arguments; objects among them are named alike, by ``class_path`` and
            ``init_args``.
    """

    class_path: str = "segpref.policies.Segmenter"
    init_args: Mapping[str, Any] = field(default_factory=dict)

    def build(self, network: nn.Module, label_space: LabelSpace) -> TunablePolicy:
        """The policy of a network.

        What a file names must have been checked (:func:`~segpref.trust.check_policy`).

        Raises:
            SegprefError: there is no such class, or it does not take these settings.
        """
        vouch(self.class_path, self.init_args)
        policy_class = imported(self.class_path)
        parser = ArgumentParser(exit_on_error=False)
        try:
            parser.add_class_arguments(policy_class, skip={2})
            # A copy, for what it is given is changed.
            settings = parser.instantiate(parser.parse_object(deepcopy(dict(self.init_args))))
            policy = policy_class(network, label_space, **settings.as_dict())
        except SegprefError:
            raise
        except Exception as error:  # a foreign class may raise anything
            if ran_out(error):
                raise
            reason = " ".join(str(error).split())
            raise SegprefError(
                f"{self.class_path} can't be made with {dict(self.init_args)}: {reason}"
            ) from error
        if not isinstance(policy, TunablePolicy):
            raise SegprefError(
                f"{self.class_path} is not a policy with logits: name a class of "
                f"segpref.policies, or use "
                "`segpref sample`, if it is a diffusion model that draws masks"
            )
        return policy


def imported(path: str) -> Any:
    """What an import path names.

    Raises:
        SegprefError: there is no such thing.
    """
    module_name, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        shown = path_in_folder(path)
        raise SegprefError(f"{shown} can't be imported ({error}): check its import path") from error


def learn_parts(network: nn.Module, parts: Sequence[str] | None) -> None:
    """Let these submodules learn and freeze the others; the whole network where None.

    Raises:
        SegprefError: the network has no such submodule.
    """
    inner = getattr(network, "module", network)
    inner.requires_grad_(parts is None)
    for name in parts or ():
        try:
            inner.get_submodule(name).requires_grad_(True)
        except AttributeError as error:
            raise SegprefError(
                f"the network has no submodule {name}: name the parts that learn as "
                "`dict(network.named_modules())` does"
            ) from error
