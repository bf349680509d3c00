"""Log-likelihood ratios of masks under a factorised policy, and margins of pairs.

A pixel on which winner and loser agree adds nothing to a margin, and on the others the normaliser of
the softmax or sigmoid cancels. So a margin is a *linear* function of the logits on the disagreement
region R: the sum of the logits that the winner raises minus the sum of those it lowers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from segpref.runtime import moved
from segpref.types import IGNORE, LabelSpace, Margins, Pairs, SegprefError, Slate

__all__ = [
    "Disagreement",
    "Reduction",
    "asked_about",
    "disagreement",
    "exponent",
    "log_ratio_map",
    "log_ratio_sums",
    "margins",
    "of_pairs",
    "reduce_margin",
]

Reduction: TypeAlias = Literal["image", "region"] | tuple[Literal["power"], float]
"""``image`` (DPO), ``region`` (RN-DPO), or ``("power", a)`` with ``a`` from 0 (image) to 1 (region)."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where winner and loser of each pair differ (the region R of Eq. 8), as places in the logits.

    Args:
        pairs: the pairs whose masks differ; a pair of equal masks says nothing and is not here.
        index: flat places in the logits; for every pair those that the winner raises, then those
            that it lowers. Multi-class: each pixel of R has one of either. Multi-label: each pixel
            of R has one, raised where the winner holds the structure.
        lengths: ``[P, 2]``, how many entries of ``index`` each pair raises and lowers.
        region: \\|R\\| of every pair, in pixels.
        omega: \\|Omega\\| of every pair: the pixels that no mask ignores.
        shape: shape of the logits that ``index`` points into.
    """

    pairs: Pairs
    index: Int64[Tensor, " M"]
    lengths: Int64[Tensor, "P 2"]
    region: Int64[Tensor, " P"]
    omega: Int64[Tensor, " P"]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def fraction(self) -> Float[Tensor, " P"]:
        """Share of the image on which winner and loser differ, float64: the factor of Eq. 12."""
        return self.region.double() / self.omega

    @property
    def whole(self) -> Bool[Tensor, " P"]:
        """Whether a pair is of one mask that is judged as a whole."""
        return self.lengths.sum(1) == 0

    def to(self, device: torch.device | str) -> Disagreement:
        """The same with its tensors on ``device``."""
        device = torch.device(device)
        return replace(
            self,
            index=moved(self.index, device),
            lengths=moved(self.lengths, device),
            region=moved(self.region, device),
            omega=moved(self.omega, device),
        )


def disagreement(
    slates: Sequence[Slate],
    pairs: Pairs,
    label_space: LabelSpace,
    ignored: Bool[np.ndarray, "B *space"] | None = None,
    whole: bool = False,
) -> Disagreement:
    """Find the disagreement region of every pair, once per batch.

    ``R = {i in Omega : y+_i != y-_i}`` (Eq. 8). Omega leaves out the ``ignored`` pixels and those
    where either mask is :data:`~segpref.types.IGNORE`; of a pair that is about one structure of an
    exclusive label map also those where the masks differ, but not in this structure, for nothing was
    said of them. Pairs with an empty R are dropped: their margin is 0 whatever the policy, and a mean
    over nothing for ``region``.

    Args:
        slates: one per image of the batch, all of one spatial shape.
        pairs: mined preferences; ``pairs.case`` points into ``slates``.
        label_space: what the values of the masks mean.
        ignored: True for pixels that no mask labels, such as padding.
        whole: keep pairs of equal masks: the mask is judged as a whole, R is Omega, and what counts is
            its likelihood (:func:`~segpref.objectives.winner_log_likelihood`).

    Raises:
        SegprefError: a mask holds a value that the label space does not have.
    """
    space = slates[0].masks.shape[2:] if slates else ()
    pixels = int(np.prod(space))
    known = None if ignored is None else ~ignored.reshape(len(slates), pixels)
    kept: list[int] = []
    places: list[Int64[np.ndarray, " n"]] = []
    counts: list[tuple[int, int, int, int]] = []
    for pair, (case, field, better, worse) in enumerate(
        zip(pairs.case, pairs.field, pairs.winner, pairs.loser, strict=True)
    ):
        masks = slates[case].masks
        winner, loser = masks[better, field].ravel(), masks[worse, field].ravel()
        inside = None if known is None else known[case]
        if (asked := asked_about(pairs, pair, winner, loser, label_space)) is not None:
            inside = asked if inside is None else asked & inside
        differs, omega = _differs(winner, loser, inside)
        where = np.flatnonzero(differs)
        if not len(where):
            if whole and omega and np.array_equal(winner, loser):
                kept.append(pair)
                counts.append((0, 0, omega, omega))
            continue
        plus, minus = winner[where], loser[where]
        if (highest := max(plus.max(), minus.max())) >= label_space.values:
            raise SegprefError(
                f"a candidate mask of image {case} of the batch holds the value {highest}, but a "
                f"field of this label space has the values 0 to {label_space.values - 1}; relabel "
                "the mask or name the missing classes"
            )
        if label_space.kind == "multi-class":
            where += case * label_space.channels * pixels
            raised, lowered = where + plus * np.int64(pixels), where + minus * np.int64(pixels)
        else:
            where += (case * label_space.channels + field) * pixels
            raised, lowered = where[plus > minus], where[plus < minus]
        kept.append(pair)
        places += [raised, lowered]
        counts.append((len(raised), len(lowered), len(where), omega))
    table = torch.tensor(counts, dtype=torch.int64).reshape(-1, 4)
    return Disagreement(
        pairs=_select(pairs, kept),
        index=torch.from_numpy(np.concatenate([np.empty(0, np.int64), *places])),
        lengths=table[:, :2].contiguous(),
        region=table[:, 2].contiguous(),
        omega=table[:, 3].contiguous(),
        shape=(len(slates), label_space.channels, *space),
    )


def log_ratio_sums(
    logits: Float[Tensor, "B C *space"], region: Disagreement
) -> Float[Tensor, " P"]:
    """Sum of the log-ratios (Eq. 6) over the disagreement region of every pair.

    Multi-class ``sum_R z[i, y+_i] - z[i, y-_i]``, multi-label ``sum_R (y+_i - y-_i) z_i``: equal to
    ``sum_Omega l_i(y+) - l_i(y-)`` with log-softmax or log-sigmoid. Only the logits on R are read,
    half precision is widened before any arithmetic, and sums run in float64. The backward pass
    accumulates in float32 and rounds once to the type of the logits.

    Returns:
        float32, or float64 where the logits are float64; empty where there is no pair, and still
        tied to the logits' graph.

    Raises:
        SegprefError: the logits do not have the shape that slates and label space ask for.
    """
    if tuple(logits.shape) != region.shape:
        raise SegprefError(
            f"the policy gives logits of shape {tuple(logits.shape)}, but these masks and this "
            f"label space need {region.shape}; check the network's number of outputs and its size"
        )
    sums = _LogRatioSums.apply(logits, region.index, region.lengths)  # type: ignore[no-untyped-call]
    return cast(Tensor, sums)


def reduce_margin(
    sums: Float[Tensor, " P"], region: Disagreement, reduction: Reduction
) -> Float[Tensor, " P"]:
    """Normalise sums over R.

    ``image``: ``sum / |Omega|`` (Eq. 7). ``region``: ``sum / |R|`` (Eq. 10). ``("power", a)``:
    ``sum / (|R|^a |Omega|^(1-a))``, between the two. By Eq. 12, ``image = |R|/|Omega| region``.

    Raises:
        SegprefError: an unknown reduction, or a power outside 0 to 1.
    """
    a = exponent(reduction)
    size = region.region.double() ** a * region.omega.double() ** (1 - a)
    return sums / size.to(sums.dtype)


def margins(
    policy_logits: Float[Tensor, "B C *space"],
    reference_logits: Float[Tensor, "B C *space"],
    region: Disagreement,
    reduction: Reduction,
) -> Margins:
    """Margins of a batch under policy (with its graph) and reference (without).

    ``image``: Eq. 3 and 4. ``region``: Eq. 10.
    """
    with torch.no_grad():
        reference = reduce_margin(log_ratio_sums(reference_logits, region), region, reduction)
    policy = reduce_margin(log_ratio_sums(policy_logits, region), region, reduction)
    return of_pairs(region.pairs, policy, reference)


def of_pairs(pairs: Pairs, policy: Float[Tensor, " P"], reference: Float[Tensor, " P"]) -> Margins:
    """Margins with what their pairs say besides: gap, weight and group."""

    def there(values: np.ndarray) -> Tensor:
        return moved(torch.from_numpy(values).to(policy.dtype), policy.device)

    def column(values: np.ndarray | None) -> Tensor | None:
        return None if values is None else there(values)

    group = pairs.group
    return Margins(
        policy=policy,
        reference=reference.to(policy.dtype),
        gap=there(pairs.gap),
        weight=column(pairs.weight),
        group=None if group is None else torch.from_numpy(group),
        target=column(pairs.target),
        flip_rate=column(pairs.flip_rate),
    )


def asked_about(
    pairs: Pairs,
    pair: int,
    winner: UInt8[np.ndarray, " n"],
    loser: UInt8[np.ndarray, " n"],
    label_space: LabelSpace,
) -> Bool[np.ndarray, " n"] | None:
    """The pixels that a pair says something about; None where it is about all structures.

    Of a pair that is about one structure of an exclusive label map they are those where the two masks
    agree, and those that one of them counts to the structure and the other does not.
    """
    if pairs.structure is None or pairs.structure[pair] < 0:
        return None
    values = label_space.structure_values[pairs.structure[pair]]
    asked: np.ndarray = (winner == loser) | (np.isin(winner, values) != np.isin(loser, values))
    return asked


def exponent(reduction: Reduction) -> float:
    """The power ``a`` of \\|R\\| in a reduction's normaliser: 0 for ``image``, 1 for ``region``.

    Raises:
        SegprefError: an unknown reduction, or a power outside 0 to 1.
    """
    if reduction == "image":
        return 0.0
    if reduction == "region":
        return 1.0
    if isinstance(reduction, tuple | list) and len(reduction) == 2 and reduction[0] == "power":
        a = float(reduction[1])
        if 0 <= a <= 1:
            return a
    raise SegprefError(
        "a reduction is 'image', 'region' or ('power', a) with a from 0 (image) to 1 (region), "
        f"not {reduction!r}"
    )


def log_ratio_map(
    logits: Float[Tensor, "P C *space"],
    winners: UInt8[Tensor, "P field *space"],
    losers: UInt8[Tensor, "P field *space"],
    label_space: LabelSpace,
) -> Float[Tensor, "P field *space"]:
    """Log-ratio of every pixel (Eq. 6), for pictures and tests; 0 where a mask is ``IGNORE``."""
    z = logits if logits.dtype == torch.float64 else logits.float()
    known = (winners != IGNORE) & (losers != IGNORE)
    plus, minus = winners * known, losers * known
    if label_space.kind == "multi-class":
        return z.gather(1, plus.long()) - z.gather(1, minus.long())
    return (plus.to(z.dtype) - minus.to(z.dtype)) * z


class _LogRatioSums(torch.autograd.Function):
    """Raised minus lowered logits of every pair."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, index: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(index, lengths)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        values = logits.reshape(-1).index_select(0, index).double()
        sums = torch.segment_reduce(values, "sum", lengths=lengths.reshape(-1), unsafe=True)
        raised, lowered = sums.reshape(-1, 2).unbind(1)
        return (raised - lowered).to(_wide(logits.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        index, lengths = ctx.saved_tensors
        wide = _wide(ctx.dtype)
        signed = torch.stack((grad, -grad), dim=1).to(wide).reshape(-1)
        flow = signed.repeat_interleave(lengths.reshape(-1), output_size=index.numel())
        whole = torch.zeros(ctx.shape.numel(), dtype=wide, device=index.device)
        whole.index_add_(0, index, flow)
        return whole.reshape(ctx.shape).to(ctx.dtype), None, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _differs(
    winner: UInt8[np.ndarray, " n"],
    loser: UInt8[np.ndarray, " n"],
    known: Bool[np.ndarray, " n"] | None,
) -> tuple[Bool[np.ndarray, " n"], int]:
    """R as a mask, and the size of Omega."""
    differs = winner != loser
    # Looking for the largest value is several times cheaper than looking for IGNORE everywhere.
    if max(winner.max(initial=0), loser.max(initial=0)) == IGNORE:
        valid = (winner != IGNORE) & (loser != IGNORE)
        known = valid if known is None else known & valid
    if known is None:
        return differs, len(winner)
    return differs & known, int(np.count_nonzero(known))


def _select(pairs: Pairs, rows: list[int]) -> Pairs:
    columns = {one.name: getattr(pairs, one.name) for one in fields(Pairs)}
    there: dict[str, Any] = {name: of[rows] for name, of in columns.items() if of is not None}
    return Pairs(**there)
