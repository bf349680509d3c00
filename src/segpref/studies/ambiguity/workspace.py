"""The workspace of the study: data, split, trainings, and the samples of every model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from segpref.data.prompts import nodule_prompt
from segpref.inference.samples import sample_cases
from segpref.policies import MaskSampler
from segpref.policies.diffusion import Sampler
from segpref.progress import track
from segpref.studies.ambiguity.peers import Peer
from segpref.studies.ambiguity.sample_files import (
    REFERENCE,
    SampleSet,
    keep_arrays,
    kept_arrays,
    plain_name,
)
from segpref.studies.ambiguity.trainings import AmbiguityTrainings
from segpref.studies.recorded_settings import as_recorded
from segpref.training import RunFolder

__all__ = ["AmbiguityWorkspace"]

_TOGETHER = 8


@dataclass(frozen=True)
class AmbiguityWorkspace(AmbiguityTrainings):
    """The data of a study, and what is trained and drawn in its folder."""

    def drawn(self, drawing: SampleSet) -> bool:
        """Whether all samples are there."""
        return all(path.exists() for path in self.sample_files(drawing))

    def draw(self, drawing: SampleSet) -> None:
        """Draw the samples that are not there yet, a few images at a time."""
        settings = self._draw_settings(drawing)
        text, count = settings["text"], settings["count"]
        folder = RunFolder(self.samples_folder(drawing))
        folder.open(as_recorded(folder, settings), resume=True)
        model, sampler = self._model_of(drawing), self._sampler_of(drawing)
        chunks = self.sample_files(drawing)
        for number, path in enumerate(track(chunks, f"samples of {drawing.name}", len(chunks))):
            if path.exists():
                continue
            cases = self.test[number * _TOGETHER : (number + 1) * _TOGETHER]
            masks = sample_cases(model, cases, count, sampler, drawing.seed, text)
            keep_arrays(path, masks=np.packbits(np.stack(masks), axis=-1))

    def check_samples(self, drawing: SampleSet) -> None:
        """Refuse samples of another model, sampler or text than the study has now.

        Raises:
            SegprefError: they are such.
        """
        folder = RunFolder(self.samples_folder(drawing))
        folder.refuse_others(as_recorded(folder, self._draw_settings(drawing)))

    def _draw_settings(self, drawing: SampleSet) -> Mapping[str, Any]:
        text = None
        if drawing.described is not None:
            text = nodule_prompt(self.recipe.control[drawing.described])
        return {
            "models": [self._digest(path) for path in self._weights(drawing.model, drawing.seed)],
            "w": drawing.w,
            "sampler": self._sampler_of(drawing),
            "count": self._count(drawing),
            "cases": [case.id for case in self.test],
            "text": text,
            **self._data,
        }

    def samples(self, drawing: SampleSet) -> UInt8[np.ndarray, "image N row column"]:
        """The samples of the first structure."""
        bits = np.concatenate([kept_arrays(path)["masks"] for path in self.sample_files(drawing)])
        width = self.test[0].image.shape[-1]
        return np.unpackbits(bits, axis=-1, count=width)[:, :, 0]

    def _model_of(self, drawing: SampleSet) -> Any:
        """What the samples are drawn with."""
        if self.peer_of(drawing.model) is not None:
            return self.peer(drawing.model, drawing.seed)
        return self.model(drawing.model, drawing.seed, drawing.w)

    def _sampler_of(self, drawing: SampleSet) -> MaskSampler:
        """What draws the samples."""
        peer = self.peer_of(drawing.model)
        return self.recipe.sampler if peer is None else peer.sampler

    def peer_of(self, name: str) -> Peer | None:
        """The peer that a model is, aligned or not; None of AmbiSeg, its variants and alignments."""
        method = self.recipe.methods.get(name)
        return self.recipe.peers.get(name if method is None else str(method.of))

    def time(self, sampler: Sampler) -> None:
        """Draw N samples of some test images of the reference, and keep them with their seconds."""
        model = self.model(REFERENCE, self.recipe.seeds[0])
        # Texts are embedded once, whatever the sampler: not in the time of the first.
        self._time(model, Sampler(steps=1), sampler, self.timed(sampler))

    def time_peer(self, name: str) -> None:
        """The same of a peer."""
        drawing = SampleSet(name, self.recipe.seeds[0])
        sampler = self._sampler_of(drawing)
        # Where dropout goes is found once.
        self._time(self._model_of(drawing), sampler, sampler, self.timed_peer(name))

    def _time(self, model: Any, first: MaskSampler, sampler: MaskSampler, path: Path) -> None:
        seed, count = self.recipe.seeds[0], self.recipe.samples
        cases = self.test.take(range(min(self.recipe.speed_images, len(self.test))))
        sample_cases(model, cases, count, first, seed)
        wall, cpu = time.perf_counter(), time.process_time()
        masks = sample_cases(model, cases, count, sampler, seed)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        keep_arrays(path, masks=np.stack(masks), seconds=np.array(seconds))

    def timed(self, sampler: Sampler) -> Path:
        """Where what was timed of the reference lies."""
        return self.out / "speed" / f"{sampler.solver}-{sampler.steps}.safetensors"

    def timed_peer(self, name: str) -> Path:
        """Where what was timed of a peer lies."""
        return self.out / "speed" / f"peer-{plain_name(name)}.safetensors"

    def what_was_timed(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Masks ``[image, N, field, row, column]``, and seconds on the clock and of the CPU."""
        found = kept_arrays(path)
        return found["masks"], found["seconds"]

    def _count(self, drawing: SampleSet) -> int:
        """N; more of the model that the number of samples is studied on."""
        recipe = self.recipe
        if drawing == SampleSet(REFERENCE, recipe.seeds[0]):
            return max([recipe.samples, *recipe.numbers])
        return recipe.samples

    def samples_folder(self, drawing: SampleSet) -> Path:
        """Where samples lie, a few images in a file."""
        what = f"w-{drawing.w:g}" if drawing.described is None else plain_name(drawing.described)
        return self.out / "samples" / plain_name(drawing.model) / f"seed-{drawing.seed}" / what

    def sample_files(self, drawing: SampleSet) -> list[Path]:
        """The files of a drawing, which are there when all is drawn."""
        count, folder = -(-len(self.test) // _TOGETHER), self.samples_folder(drawing)
        return [folder / f"{number:03d}.safetensors" for number in range(count)]
