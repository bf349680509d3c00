"""Calibration of the loss: how often the judge is wrong, by its score gap."""

from __future__ import annotations

from pathlib import Path

from segpref.data.cache import write_atomically
from segpref.data.dataset import Dataset
from segpref.data.patches import PatchDraw
from segpref.disk import Damaged, cannot_read, from_checked_json, to_checked_json
from segpref.metrics.flips import FlipBin
from segpref.proposals import SlateProposals
from segpref.studies.auditing import audit
from segpref.types import Judge, Miner, Policy, SegprefError

__all__ = ["measured_flip_rates", "read_flip_rates"]


def measured_flip_rates(
    file: Path,
    policy: Policy,
    cases: Dataset,
    judge: Judge,
    miner: Miner,
    proposals: SlateProposals,
    seed: int,
    patches: PatchDraw | None = None,
) -> list[FlipBin]:
    """Flip rates of the pairs mined from the policy's slates, by the judge's gap.

    They hold for pairs like those that were measured, so where stage 2 sees patches, patches are given:
    within a patch scores have other gaps than over a whole volume.

    Args:
        file: JSON file that keeps the whole audit; it is not measured again where the file exists.
        policy: what is tuned: of whole prepared images, or of patches where these are drawn.
        cases: labelled; the others are left out.
        judge: scores the candidates.
        miner: makes pairs of the scores.
        proposals: make the slates.
        seed: of slates and pairs.
        patches: draws them as stage 2 does; whole images where None.

    Raises:
        SegprefError: no case has a label, or the judge gives no pairs.
    """
    if not file.exists():
        found = audit(policy, cases, judge, miner, proposals, seed, patches)
        write_atomically(file, to_checked_json(found.as_dict()))
    return read_flip_rates(file)


def read_flip_rates(file: Path) -> list[FlipBin]:
    """Flip rates by gap that an audit left.

    Raises:
        SegprefError: there are none.
    """
    try:
        flips = from_checked_json(file.read_bytes(), old=True).get("mined")
    except Damaged as error:
        raise SegprefError(
            f"{file} is not what was written ({error}), and the loss depends on it: restore it, or "
            "start the run again in another folder"
        ) from error
    except OSError as error:
        raise cannot_read(file, error) from error
    if not flips:
        raise SegprefError(
            f"{file} holds no flip rates by score gap, which CalibratedDPO needs: the judge gives no "
            "pairs on the validation images, or an earlier version wrote the file (delete it then)"
        )
    return [FlipBin(**one) for one in flips]
