"""What a network does with an image of a given size, found out before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from segpref.memory import ran_out
from segpref.networks import NotCompiled
from segpref.policies.capabilities import KnowsItsWeights
from segpref.types import SegprefError

__all__ = ["explain_image_size", "leaves_out"]

_HALVED = 32
"""Networks that halve their input do so five times at most, as a rule."""


@contextmanager
def explain_image_size(images: Tensor, forward: Callable[[Tensor], object]) -> Iterator[None]:
    """Within it, an error is explained by the size of the images if larger ones pass.

    Args:
        images: ``[B, channel, *space]``, which are passed through a network in here.
        forward: passes others through it.

    Raises:
        SegprefError: the network can't take images of that size.
    """
    try:
        yield
    except NotCompiled:
        raise  # whatever their size
    except (RuntimeError, ValueError, SegprefError) as error:
        if ran_out(error):
            raise
        if not _takes_larger(forward, images[:1]):
            if isinstance(error, SegprefError):
                raise
            raise _unfit(images, error) from error
        shape, reason = " x ".join(map(str, images.shape[2:])), " ".join(str(error).split())
        raise SegprefError(
            f"the network can't learn from images of {shape} voxels, which it can't halve as often as "
            f"it does ({reason[:200]}): give the model's preparation a patch, or a size, say in "
            f"multiples of {_HALVED}"
        ) from error


def _unfit(images: Tensor, error: Exception) -> SegprefError:
    shape, reason = " x ".join(map(str, images.shape[2:])), " ".join(str(error).split())
    return SegprefError(
        f"the network can't learn from images of {shape} voxels and {images.shape[1]} channels "
        f"({reason[:200]}): give the preparation a larger size or patch, or choose a network that "
        "suits the data"
    )


def leaves_out(policy: object, image: Tensor) -> bool:
    """Whether some weights that learn have no part in the logits of an image, as the policy tells.

    Raises:
        SegprefError: the network can't take images of that size.
    """
    if not isinstance(policy, KnowsItsWeights):
        return True
    with explain_image_size(image, policy.leaves_out):
        return policy.leaves_out(image)


def _takes_larger(forward: Callable[[Tensor], object], images: Tensor) -> bool:
    """Whether images suit the network once their sides can be halved a few times."""
    missing = [(0, -n % _HALVED) for n in reversed(images.shape[2:])]
    larger = pad(images, [n for sides in missing for n in sides])
    if larger.shape == images.shape:
        return False
    try:
        with torch.no_grad():
            forward(larger)
    except (RuntimeError, ValueError, SegprefError):
        return False
    return True
