"""What the parts of the study share: data, split, trainings, and the samples of every model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8

from segpref.data.cache import Cache
from segpref.data.dataset import Dataset, prepare
from segpref.data.lidc import middle_slices
from segpref.data.prompts import nodule_prompt
from segpref.data.sealed import read_sealed, write_sealed
from segpref.data.source import Reader
from segpref.data.splits import Split, draw_patients, split_patients
from segpref.disk import Damaged
from segpref.inference.samples import sample_cases
from segpref.judges import DiversityJudge, NamedJudge, RatersJudge
from segpref.objectives import DPO
from segpref.policies import ModelCard
from segpref.policies.diffusion import (
    AmbiSeg,
    BlendedPredictions,
    Sampler,
    SampleSlates,
    TextEncoder,
    between,
    load_diffusion,
)
from segpref.preferences import Extremes
from segpref.progress import track
from segpref.studies.ambiguity.recipe import AmbiguityRecipe, Variant
from segpref.studies.recipe import plain
from segpref.training import Denoising, PreferenceSignal, RunFolder, align, fit_diffusion
from segpref.types import SegprefError

__all__ = ["REFERENCE", "AmbiguityLab", "Drawing"]

REFERENCE = "AmbiSeg"
_TOGETHER = 8


@dataclass(frozen=True)
class Drawing:
    """Samples of the test images.

    Args:
        model: name of the reference, a method or a variant.
        seed: of its training and of the noise, which models of one seed share.
        w: where on the way from the reference (0) to the method (1).
        described: name of the description that stands in place of the images' own prompts.
    """

    model: str
    seed: int
    w: float = 1.0
    described: str | None = None

    @property
    def name(self) -> str:
        """What progress calls it."""
        parts = [self.model, f"seed {self.seed}"]
        parts += [] if self.w == 1 else [f"w {self.w:g}"]
        parts += [] if self.described is None else [self.described]
        return ", ".join(parts)


@dataclass(frozen=True)
class AmbiguityLab:
    """A recipe, the data that it is for, and the folder in which it happens.

    Args:
        recipe: the study.
        reader: a dataset with several raters.
        out: the study's folder.
        cache: where prepared images and the samples of references are kept.
    """

    recipe: AmbiguityRecipe
    reader: Reader
    out: Path
    cache: Cache = field(default_factory=Cache)

    @cached_property
    def split(self) -> Split:
        """Who trains, validates and tests."""
        path = self.out / "split.json"
        if not path.exists():
            split_patients(self.reader, self.recipe.split, self.recipe.split_seed).save(path)
        return Split.load(path)

    @cached_property
    def dataset(self) -> Dataset:
        """All slices, prepared."""
        return prepare(self.reader, self.recipe.preparation, self.cache)

    @cached_property
    def train(self) -> Dataset:
        """Every slice of the training patients, or of the share of them that the recipe uses."""
        patients, share = self.split.train, self.recipe.labelled
        if share < 1:
            count = max(1, round(share * len(patients)))
            patients = draw_patients(patients, count, self.recipe.split_seed)
        return self.dataset.of_patients(patients)

    @cached_property
    def pool(self) -> Dataset:
        """The slices that slates are made of."""
        stage = self.recipe.align
        slices = middle_slices(self.train) if stage.slices == "middle" else self.train
        if stage.images is None or stage.images >= len(slices):
            return slices
        drawn = np.random.default_rng(self.recipe.split_seed).permutation(len(slices))
        return slices.take(sorted(drawn[: stage.images].tolist()))

    @cached_property
    def validation(self) -> Dataset:
        """One slice per nodule of the validation patients."""
        return middle_slices(self.dataset.of_patients(self.split.validation))

    @cached_property
    def test(self) -> Dataset:
        """One slice per nodule of the test patients, at most as many as the recipe says."""
        cases = middle_slices(self.dataset.of_patients(self.split.test))
        return cases.take(range(len(cases))[: self.recipe.test_images])

    @cached_property
    def encoder(self) -> TextEncoder | None:
        """The frozen text encoder, so that every text is embedded once."""
        name = self.recipe.network.get("text_encoder")
        return None if name is None else TextEncoder(name)

    def folder(self, name: str, seed: int) -> RunFolder:
        """Run folder of a training."""
        return RunFolder(self.out / "runs" / _plain_name(name) / f"seed-{seed}")

    def trained(self, name: str, seed: int) -> bool:
        """Whether a training came to its end.

        Raises:
            SegprefError: it was begun with other settings than the recipe has now.
        """
        folder = self.folder(name, seed)
        if folder.path.exists():
            align = name in self.recipe.methods
            folder.refuse_others(
                self._align_settings(name, seed) if align else self._fit_settings(name, seed)
            )
        return folder.finished

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
        stage = self.recipe.stage1(self._variant(name).fit)
        return {"stage": plain(stage), "card": plain(self._card(name)), "seed": seed, **self._data}

    def fit(self, name: str, seed: int) -> None:
        """Stage 1 of the reference or of a variant."""
        folder, card = self.folder(name, seed), self._card(name)
        folder.open(self._fit_settings(name, seed), resume=True)
        fit_diffusion(
            self.train,
            self.validation,
            card,
            folder,
            encoder=self.encoder if card.network.arguments.get("text_encoder") else None,
            validation_samples=4,
            seed=seed,
            **asdict(self.recipe.stage1(self._variant(name).fit)),
        )

    def _align_settings(self, name: str, seed: int) -> Mapping[str, Any]:
        return {
            "method": plain(self.recipe.methods[name]),
            "stage": plain(self.recipe.align),
            "seed": seed,
            "base": self._digest(self.folder(REFERENCE, seed).best),
            **self._data,
        }

    def align(self, name: str, seed: int) -> None:
        """Stage 2 from this seed's reference (TDG-DiffDPO, Sec. 3.4)."""
        method, stage, space = (
            self.recipe.methods[name],
            self.recipe.align,
            self.dataset.label_space,
        )
        folder = self.folder(name, seed)
        base = self.folder(REFERENCE, seed).best
        folder.open(self._align_settings(name, seed), resume=True)
        # Stochastic Run is the best of two runs against the worst, by the rater who likes it most.
        runs = 2 if method.preference == "stochastic-run" else 1
        agreement: Literal["mean", "best"] = "mean" if method.preference == "mean-dice" else "best"
        judge: NamedJudge = RatersJudge(space, agreement, "dice")
        if method.diversity:
            judge = DiversityJudge(judge, space, method.diversity)
        align(
            base,
            self.pool,
            self.validation,
            judge,
            PreferenceSignal(
                space, Extremes(stage.tau), DPO(method.beta), method.reduction, method.flip_rate
            ),
            folder,
            proposals=SampleSlates(stage.candidates, runs, stage.sampler),
            denoising=Denoising(stage.convention, method.safeguard),
            epochs=stage.epochs,
            images_per_epoch=stage.images_per_epoch,
            batch_size=stage.batch_size,
            learning_rate=method.learning_rate or stage.learning_rate,
            average=stage.average,
            parts=stage.parts,
            refresh=method.refresh,
            optimizer="adamw",
            cache=self.cache,
            seed=seed,
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

    def drawn(self, drawing: Drawing) -> bool:
        """Whether all samples are there."""
        return all(path.exists() for path in self._chunks(drawing))

    def draw(self, drawing: Drawing) -> None:
        """Draw the samples that are not there yet, a few images at a time."""
        recipe, settings = self.recipe, self._draw_settings(drawing)
        text, count = settings["text"], settings["count"]
        RunFolder(self._samples(drawing)).open(settings, resume=True)
        model = self.model(drawing.model, drawing.seed, drawing.w)
        chunks = self._chunks(drawing)
        for number, path in enumerate(track(chunks, f"samples of {drawing.name}", len(chunks))):
            if path.exists():
                continue
            cases = self.test[number * _TOGETHER : (number + 1) * _TOGETHER]
            masks = sample_cases(model, cases, count, recipe.sampler, drawing.seed, text)
            _keep(path, masks=np.packbits(np.stack(masks), axis=-1))

    def as_it_is(self, drawing: Drawing) -> bool:
        """Refuse samples of another model, sampler or text than the study has now.

        Raises:
            SegprefError: they are such.
        """
        RunFolder(self._samples(drawing)).refuse_others(self._draw_settings(drawing))
        return True

    def _draw_settings(self, drawing: Drawing) -> Mapping[str, Any]:
        text = None
        if drawing.described is not None:
            text = nodule_prompt(self.recipe.control[drawing.described])
        return {
            "models": [self._digest(path) for path in self._weights(drawing.model, drawing.seed)],
            "w": drawing.w,
            "sampler": plain(self.recipe.sampler),
            "count": self._count(drawing),
            "cases": [case.id for case in self.test],
            "text": text,
            **self._data,
        }

    def samples(self, drawing: Drawing) -> UInt8[np.ndarray, "image N row column"]:
        """The samples of the first structure."""
        bits = np.concatenate([_kept(path)["masks"] for path in self._chunks(drawing)])
        width = self.test[0].image.shape[-1]
        return np.unpackbits(bits, axis=-1, count=width)[:, :, 0]

    def time(self, sampler: Sampler, path: Path) -> None:
        """Draw N samples of some test images of the reference, and keep them with their seconds."""
        seed = self.recipe.seeds[0]
        model = self.model(REFERENCE, seed)
        cases = self.test.take(range(min(self.recipe.speed_images, len(self.test))))
        # Texts are embedded once, whatever the sampler: not in the time of the first.
        sample_cases(model, cases, self.recipe.samples, Sampler(steps=1), seed)
        wall, cpu = time.perf_counter(), time.process_time()
        masks = sample_cases(model, cases, self.recipe.samples, sampler, seed)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        _keep(path, masks=np.stack(masks), seconds=np.array(seconds))

    def timed(self, sampler: Sampler) -> Path:
        """Where what was timed lies."""
        return self.out / "speed" / f"{sampler.solver}-{sampler.steps}.safetensors"

    def what_was_timed(self, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
        """Masks ``[image, N, field, row, column]``, and seconds on the clock and of the CPU."""
        found = _kept(self.timed(sampler))
        return found["masks"], found["seconds"]

    def _load(self, path: Path) -> AmbiSeg:
        model, _ = load_diffusion(path)
        # Variants without text take no encoder, the others all take the same.
        return (
            model
            if model.encoder is None
            else AmbiSeg(model.inner, model.label_space, self.encoder)
        )

    def _count(self, drawing: Drawing) -> int:
        """N; more of the model that the number of samples is studied on."""
        recipe = self.recipe
        if drawing == Drawing(REFERENCE, recipe.seeds[0]):
            return max([recipe.samples, *recipe.numbers])
        return recipe.samples

    def _samples(self, drawing: Drawing) -> Path:
        what = f"w-{drawing.w:g}" if drawing.described is None else _plain_name(drawing.described)
        return self.out / "samples" / _plain_name(drawing.model) / f"seed-{drawing.seed}" / what

    def _chunks(self, drawing: Drawing) -> list[Path]:
        count = -(-len(self.test) // _TOGETHER)
        return [self._samples(drawing) / f"{number:03d}.safetensors" for number in range(count)]


def _keep(path: Path, **arrays: np.ndarray) -> None:
    write_sealed(path, {name: torch.from_numpy(one) for name, one in arrays.items()}, "note", {})


def _kept(path: Path) -> dict[str, np.ndarray]:
    try:
        tensors, _ = read_sealed(path, "note")
    except Damaged as error:
        raise SegprefError(
            f"{path} is not what was written ({error}): delete it, and the same command draws its "
            "samples anew"
        ) from error
    return {name: one.numpy() for name, one in tensors.items()}


def _plain_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())
