"""The interface that stage 1 of promptable models needs of a policy."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from segpref.policies.promptable.policy import PromptableState
from segpref.policies.tunable import TunablePolicy
from segpref.prompts import PromptedModel, Prompter, Prompts
from segpref.types import SegprefError

__all__ = ["GuidedPolicy", "guided"]


@runtime_checkable
class GuidedPolicy(TunablePolicy, PromptedModel, Protocol):
    """A promptable policy that is trained with the prompts that it will have, or with others."""

    @property
    def takes_text(self) -> bool:
        """Whether it can be asked with texts."""
        ...

    def asked_by(self, prompter: Prompter) -> GuidedPolicy:
        """The same network, asked with the prompts of another prompter."""
        ...

    def forward(
        self,
        images: Float[Tensor, "B channel H W"],
        prompts: Prompts | None = None,
        every: bool = False,
    ) -> PromptableState:
        """The one differentiable pass; with ``every`` all iterations have a graph."""
        ...


def guided(policy: TunablePolicy) -> GuidedPolicy:
    """The policy, if stage 1 of promptable models can train it.

    Raises:
        SegprefError: it can't.
    """
    if not isinstance(policy, GuidedPolicy):
        raise SegprefError(
            f"a {type(policy).__name__} takes no prompts: make the card with promptable_card"
        )
    return policy
