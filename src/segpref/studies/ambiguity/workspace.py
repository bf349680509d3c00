"""The workspace of the study: data, split, trainings, and the samples of every model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from segpref.data.prompts import nodule_prompt
from segpref.inference.samples import sample_cases
from segpref.judges import DiversityJudge, NamedJudge, RatersJudge
from segpref.policies import ModelCard
from segpref.policies.diffusion import (
    AmbiSeg,
    BlendedPredictions,
    Sampler,
    SampleSlates,
    between,
    load_diffusion,
)
from segpref.preferences import Extremes
from segpref.progress import track
from segpref.studies.ambiguity.data import AmbiguityData
from segpref.studies.ambiguity.recipe import FitStage, Variant, alignment_settings
from segpref.studies.ambiguity.sample_files import (
    REFERENCE,
    SampleSet,
    keep_arrays,
    kept_arrays,
    plain_name,
)
from segpref.studies.earlier import run_settings
from segpref.studies.recorded_settings import as_recorded
from segpref.training import RunFolder, align, fit_diffusion
from segpref.training.methods import method_of

__all__ = ["AmbiguityWorkspace"]

_TOGETHER = 8
_today = partial(run_settings, shared="stage", today=alignment_settings)


@dataclass(frozen=True)
class AmbiguityWorkspace(AmbiguityData):
    """The data of a study, and what is trained and drawn in its folder."""

    def folder(self, name: str, seed: int) -> RunFolder:
        """Run folder of a training."""
        return RunFolder(self.out / "runs" / plain_name(name) / f"seed-{seed}")

    def check_training(self, name: str, seed: int) -> None:
        """Refuse a training with other settings than the recipe has now.

        Raises:
            SegprefError: it was begun with such.
        """
        aligned = name in self.recipe.methods
        settings = self._align_settings if aligned else self._fit_settings
        folder = self.folder(name, seed)
        folder.refuse_others(as_recorded(folder, settings(name, seed), _today))

    def stage1(self, name: str) -> FitStage:
        """Stage 1 of the reference or of a variant."""
        return self.recipe.stage1(self._variant(name).fit)

    def _variant(self, name: str) -> Variant:
        return self.recipe.variants.get(name, Variant())

    def _card(self, name: str) -> ModelCard:
        space = self.dataset.label_space
        spec = self.recipe.network_spec(self._variant(name).network)
        return ModelCard(
            network=spec.for_data(len(self.reader.channels), space.fields),
            label_space=space,
            preparation=self.recipe.preparation,
            channels=self.reader.channels,
            labelled=self.train.patients,
        )

    @property
    def _data(self) -> Mapping[str, Any]:
        """What the recipe says of images and raters: they change what the same numbers mean."""
        recipe = self.recipe
        return {
            "data_options": recipe.data_options,
            "split": recipe.split,
            "split_seed": recipe.split_seed,
        }

    def _fit_settings(self, name: str, seed: int) -> Mapping[str, Any]:
        return {"stage": self.stage1(name), "card": self._card(name), "seed": seed, **self._data}

    def fit(self, name: str, seed: int) -> None:
        """Stage 1 of the reference or of a variant."""
        folder, card = self.folder(name, seed), self._card(name)
        folder.open(as_recorded(folder, self._fit_settings(name, seed)), resume=True)
        fit_diffusion(
            self.train,
            self.validation,
            card,
            folder,
            self.stage1(name),
            encoder=self.encoder if card.network.arguments.get("text_encoder") else None,
            seed=seed,
        )

    def _align_settings(self, name: str, seed: int) -> Mapping[str, Any]:
        return {
            "align": self.recipe.methods[name],
            "seed": seed,
            "base": self._digest(self.folder(REFERENCE, seed).best),
            **self._data,
        }

    def align(self, name: str, seed: int) -> None:
        """Stage 2 from this seed's reference (TDG-DiffDPO, Sec. 3.4)."""
        config, space = self.recipe.methods[name], self.dataset.label_space
        folder = self.folder(name, seed)
        folder.open(as_recorded(folder, self._align_settings(name, seed), _today), resume=True)
        # Stochastic Run is the best of two runs against the worst, by the rater who likes it most.
        runs = 2 if config.preference == "stochastic-run" else 1
        agreement: Literal["mean", "best"] = "mean" if config.preference == "mean-dice" else "best"
        judge: NamedJudge = RatersJudge(space, agreement, "dice")
        if config.diversity:
            judge = DiversityJudge(judge, space, config.diversity)
        config = replace(config, miner=config.miner or Extremes(config.tau), seed=seed)
        method = method_of(config, space, judge)
        align(
            self.folder(REFERENCE, seed).best,
            self.pool(config),
            self.validation,
            method.judge,
            method.signal,
            folder,
            config,
            proposals=SampleSlates(config.candidates, runs, config.sampler),
            denoising=config,
            parts=config.parts,
            cache=self.cache,
        )

    def model(self, name: str, seed: int, w: float = 1.0) -> AmbiSeg | BlendedPredictions:
        """A trained model, at the checkpoint that the recipe names."""
        first, *others = (self._load(path) for path in self._weights(name, seed))
        return between(first, others[0], w) if others else first

    def _weights(self, name: str, seed: int) -> list[Path]:
        """Files of a model: a stage 1, or the ends of a method's knob."""
        if name not in self.recipe.methods:
            return [self.folder(name, seed).best]
        run = self.folder(name, seed)
        aligned = run.last if self.recipe.checkpoint == "last" else run.best
        return [self.folder(REFERENCE, seed).best, aligned]

    def _digest(self, path: Path) -> str:
        """Of the file of a model; empty where there is none yet."""
        return self.cache.digest_of_files([path]) if path.exists() else ""

    def drawn(self, drawing: SampleSet) -> bool:
        """Whether all samples are there."""
        return all(path.exists() for path in self.sample_files(drawing))

    def draw(self, drawing: SampleSet) -> None:
        """Draw the samples that are not there yet, a few images at a time."""
        recipe, settings = self.recipe, self._draw_settings(drawing)
        text, count = settings["text"], settings["count"]
        folder = RunFolder(self.samples_folder(drawing))
        folder.open(as_recorded(folder, settings), resume=True)
        model = self.model(drawing.model, drawing.seed, drawing.w)
        chunks = self.sample_files(drawing)
        for number, path in enumerate(track(chunks, f"samples of {drawing.name}", len(chunks))):
            if path.exists():
                continue
            cases = self.test[number * _TOGETHER : (number + 1) * _TOGETHER]
            masks = sample_cases(model, cases, count, recipe.sampler, drawing.seed, text)
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
            "sampler": self.recipe.sampler,
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

    def time(self, sampler: Sampler) -> None:
        """Draw N samples of some test images of the reference, and keep them with their seconds."""
        seed = self.recipe.seeds[0]
        model = self.model(REFERENCE, seed)
        cases = self.test.take(range(min(self.recipe.speed_images, len(self.test))))
        # Texts are embedded once, whatever the sampler: not in the time of the first.
        sample_cases(model, cases, self.recipe.samples, Sampler(steps=1), seed)
        wall, cpu = time.perf_counter(), time.process_time()
        masks = sample_cases(model, cases, self.recipe.samples, sampler, seed)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        keep_arrays(self.timed(sampler), masks=np.stack(masks), seconds=np.array(seconds))

    def timed(self, sampler: Sampler) -> Path:
        """Where what was timed lies."""
        return self.out / "speed" / f"{sampler.solver}-{sampler.steps}.safetensors"

    def what_was_timed(self, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
        """Masks ``[image, N, field, row, column]``, and seconds on the clock and of the CPU."""
        found = kept_arrays(self.timed(sampler))
        return found["masks"], found["seconds"]

    def _load(self, path: Path) -> AmbiSeg:
        model, _ = load_diffusion(path)
        # Variants without text take no encoder, the others all take the same.
        return (
            model
            if model.encoder is None
            else AmbiSeg(model.inner, model.label_space, self.encoder)
        )

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
