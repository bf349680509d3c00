"""Questions about two models: the masks of both on images that neither was trained with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from segpref.collect.builder import NewMask, ShownImage, StudyBuilder, shown_image
from segpref.collect.config import CollectConfig
from segpref.data import Volume
from segpref.inference.case_masks import CaseMasks
from segpref.inference.windows import whole_network
from segpref.policies.model_formats import OpenModel
from segpref.preferences import content_id
from segpref.progress import track
from segpref.types import Candidate
from segpref.workflows.collect_inputs import CollectInputs, digest_of

__all__ = ["add_model_pairs"]


def add_model_pairs(
    inputs: CollectInputs, builder: StudyBuilder, config: CollectConfig, left_out: Counter[str]
) -> None:
    """Ask of whole images which model's mask is better; masks are those that predict writes.

    Args:
        inputs: the two models and the images.
        builder: takes the questions.
        config: how many images.
        left_out: counts what is not asked about, by reason.
    """
    assert inputs.tuned is not None
    models = {"base": inputs.model, "tuned": inputs.tuned}
    masks = {name: _network(one, config.batch_size) for name, one in models.items()}
    digests = {name: digest_of(one) for name, one in models.items()}
    volumes = _drawn([volume for volume, _ in inputs.pool.by_volume()], config)
    for volume in track(volumes, "asking about both models", len(volumes)):
        shown = _whole(inputs, volume, config.channel)
        made: list[NewMask] = []
        for name, one in masks.items():
            native = one(shown.case)
            made.append(
                NewMask(
                    native=native,
                    prepared_id=content_id(native),
                    candidate=Candidate(name),
                    place=len(made),
                    model=digests[name],
                )
            )
        item = builder.add_item(shown.case, "evaluate", shown)
        if builder.question(item, shown, made, None, chosen_by="random") is None:
            builder.drop_item(item)
            left_out["images of which both models make the same mask"] += 1


def _whole(inputs: CollectInputs, volume: Volume, channel: int) -> ShownImage:
    """The whole image, also where the models see its slices one by one."""
    return shown_image(inputs.reader, volume, None, inputs.card, channel)


def _network(model: OpenModel, batch_size: int) -> CaseMasks:
    card = model.card
    return CaseMasks(
        whole_network(model.policies(), card.preparation, model.mirroring, None, 0.5, batch_size),
        card,
    )


def _drawn(volumes: Sequence[Volume], config: CollectConfig) -> list[Volume]:
    """As many as are asked for, in their order; patients take turns."""
    rng = np.random.default_rng([config.seed, 0xBA])
    turns: dict[str, list[int]] = {}
    for place in rng.permutation(len(volumes)).tolist():
        turns.setdefault(volumes[place].source.patient, []).append(place)
    longest = max(map(len, turns.values()), default=0)
    order = [own[n] for n in range(longest) for own in turns.values() if n < len(own)]
    return [volumes[place] for place in sorted(order[: config.images])]
