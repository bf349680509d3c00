"""How likely a whole mask is, for the objectives in which the normaliser does not cancel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from segpref.objectives.likelihood import Disagreement, Reduction, asked_about, exponent
from segpref.runtime import moved
from segpref.types import IGNORE, LabelSpace, Slate

__all__ = ["log_likelihood", "whole_log_likelihood", "winner_log_likelihood"]


def log_likelihood(
    logits: Float[Tensor, "B C *space"],
    masks: UInt8[Tensor, "B field *space"],
    label_space: LabelSpace,
) -> Float[Tensor, "B field"]:
    """Mean log-likelihood of a mask per field: Eq. 1 (multi-class), Eq. 2 (multi-label).

    The mean is over Omega, the pixels that are not :data:`~segpref.types.IGNORE`; 0 where there is
    none. float32, or float64 where the logits are.
    """
    z = logits if logits.dtype == torch.float64 else logits.float()
    known = masks != IGNORE
    values = masks * known
    if label_space.kind == "multi-class":
        each = functional.log_softmax(z, dim=1).gather(1, values.long())
    else:
        each = functional.logsigmoid(torch.where(values == 1, z, -z))
    total = torch.where(known, each, 0).flatten(2).sum(-1)
    return total / known.flatten(2).sum(-1).clamp(min=1)


def winner_log_likelihood(
    logits: Float[Tensor, "B C *space"],
    slates: Sequence[Slate],
    region: Disagreement,
    label_space: LabelSpace,
    reduction: Reduction,
    ignored: Bool[np.ndarray, "B *space"] | None = None,
) -> Float[Tensor, " P"]:
    """Log-likelihood of the winner of every pair under the same reduction as its margin.

    ``image``: the mean over Omega (Eq. 1 and 2). ``region``: the mean over R (Eq. 9).
    ``("power", a)``: ``sum_R l_i(y+) / (|R|^a |Omega|^(1-a)) + (1 - a) sum_{Omega - R} l_i(y+) /
    |Omega|``, so that the pixels on which the masks agree fade out as ``a`` goes from 0 (image) to 1
    (region). In each of them the loser's log-likelihood is this minus the policy part of the margin,
    and both are at most 0.

    Costs one log-softmax per image; then ``region`` reads R only, the others each winner once,
    however many losers it has. Half precision is widened before any arithmetic, sums run in float64.
    Omega leaves out ``ignored`` pixels and those where either mask is
    :data:`~segpref.types.IGNORE`, as :func:`disagreement` has it; give both the same ``ignored``.

    Returns:
        float32, or float64 where the logits are float64.
    """
    z = logits if logits.dtype == torch.float64 else logits.float()
    if label_space.kind == "multi-class":
        z = functional.log_softmax(z, dim=1)
    sums = _over_region(z, region, label_space)
    a, omega = exponent(reduction), moved(region.omega, z.device).double()
    size = moved(region.region, z.device).double() ** a * omega ** (1 - a)
    if a == 1:
        return (sums / size).to(z.dtype)
    agreed = _over_omega(z, slates, region, label_space, ignored) - sums
    return (sums / size + (1 - a) * agreed / omega).to(z.dtype)


def whole_log_likelihood(
    logits: Float[Tensor, "B C *space"],
    slates: Sequence[Slate],
    region: Disagreement,
    label_space: LabelSpace,
) -> Float[Tensor, " P"]:
    """Mean log-likelihood over Omega of every winner that is judged as a whole; 0 of other pairs.

    Of a judgement of one structure of an exclusive label map it is that of the structure's own mask:
    the classes that it is made of count as one, and all others as another.

    Args:
        logits: of policy or reference.
        slates: of the batch.
        region: with pairs of equal masks, see :func:`disagreement`.
        label_space: what the masks mean.
    """
    z, pairs = logits if logits.dtype == torch.float64 else logits.float(), region.pairs
    exclusive = label_space.kind == "multi-class"
    found = [z.new_zeros(())] * len(pairs)
    for pair in region.whole.nonzero().flatten().tolist():
        image, number = int(pairs.case[pair]), int(pairs.field[pair])
        mask = slates[image].masks[pairs.winner[pair], number]
        own = z[image].log_softmax(0) if exclusive else z[image]
        held = moved(torch.from_numpy(np.where(mask == IGNORE, 0, mask)), z.device)
        about = -1 if pairs.structure is None else int(pairs.structure[pair])
        if about >= 0:
            values = label_space.structure_values[about]
            others = [value for value in range(label_space.values) if value not in values]
            inside = moved(torch.from_numpy(np.isin(mask, values)), z.device)
            likely = torch.where(inside, own[list(values)].logsumexp(0), own[others].logsumexp(0))
        elif exclusive:
            likely = own.gather(0, held[None].long())[0]
        else:
            likely = functional.logsigmoid(torch.where(held == 1, own[number], -own[number]))
        known = moved(torch.from_numpy(mask != IGNORE), z.device)
        total = torch.where(known, likely, 0).sum(dtype=torch.float64)
        found[pair] = (total / known.sum()).to(z.dtype)
    return torch.stack(found) if found else z.new_zeros(0)


def _over_region(
    z: Float[Tensor, "B C *space"], region: Disagreement, label_space: LabelSpace
) -> Float[Tensor, " P"]:
    """Sum of the winner's log-likelihoods over R: of log-probabilities, or of logits per structure."""
    # A region of the host is looked through there: how much of it is taken need not be waited for.
    index, lengths = region.index, region.lengths
    sign = lengths.new_tensor([1, -1]).repeat(len(lengths)).repeat_interleave(lengths.reshape(-1))
    if label_space.kind == "multi-class":
        each = z.reshape(-1).index_select(0, moved(index[sign == 1], z.device))
        counts = lengths[:, 0].contiguous()
    else:
        raised = z.reshape(-1).index_select(0, moved(index, z.device))
        each = functional.logsigmoid(moved(sign, z.device) * raised)
        counts = lengths.sum(1)
    sums: Tensor = torch.segment_reduce(
        each.double(), "sum", lengths=moved(counts, z.device), unsafe=True
    )
    return sums


def _over_omega(
    z: Float[Tensor, "B C *space"],
    slates: Sequence[Slate],
    region: Disagreement,
    label_space: LabelSpace,
    ignored: Bool[np.ndarray, "B *space"] | None,
) -> Float[Tensor, " P"]:
    """Sum of the winner's log-likelihoods over Omega."""
    found: dict[tuple[int, int, int, int, int], Tensor] = {}
    pairs, each = region.pairs, []
    # Taken apart once: a gradient per z[c] would be as large as z.
    images = z.unbind(0)
    rows = zip(pairs.case, pairs.field, pairs.winner, pairs.loser, strict=True)
    for pair, (c, f, better, worse) in enumerate(rows):
        winner, loser = slates[c].masks[better, f], slates[c].masks[worse, f]
        # Only a loser with unknown pixels changes the winner's Omega.
        asked = asked_about(pairs, pair, winner, loser, label_space)
        about = -1 if asked is None or pairs.structure is None else int(pairs.structure[pair])
        key = (c, f, better, worse if loser.max() == IGNORE or about >= 0 else -1, about)
        if key not in found:
            known = (winner != IGNORE) & (loser != IGNORE)
            if asked is not None:
                known &= asked
            if ignored is not None:
                known &= ~ignored[c]
            held = moved(torch.from_numpy(np.where(known, winner, 0)), z.device)
            if label_space.kind == "multi-class":
                likely = images[c].gather(0, held[None].long())[0]
            else:
                likely = functional.logsigmoid(torch.where(held == 1, images[c][f], -images[c][f]))
            inside = moved(torch.from_numpy(known), z.device)
            found[key] = torch.where(inside, likely, 0).sum(dtype=torch.float64)
        each.append(found[key])
    return torch.stack(each) if each else z.new_zeros(0, dtype=torch.float64)
