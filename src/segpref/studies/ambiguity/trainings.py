"""The trainings of the study: stage 1s, alignments and peers, each in a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from segpref.inference.mask_samplers import LatentSampler
from segpref.judges import DiversityJudge, NamedJudge, RatersJudge
from segpref.policies import ModelCard, NetworkSpec, TunablePolicy, load_model
from segpref.policies.diffusion import (
    AmbiSeg,
    BlendedPredictions,
    SampleSlates,
    between,
    load_diffusion,
)
from segpref.preferences import Extremes
from segpref.seeds import derive_seed
from segpref.studies.ambiguity.data import AmbiguityData
from segpref.studies.ambiguity.recipe import FitStage, Variant, alignment_settings
from segpref.studies.ambiguity.sample_files import REFERENCE, plain_name
from segpref.studies.earlier import run_settings
from segpref.studies.recorded_settings import as_recorded
from segpref.training import RunFolder, align, fit_ambiguous, fit_diffusion
from segpref.training.methods import method_of

__all__ = ["AmbiguityTrainings"]

_today = partial(run_settings, shared="stage", today=alignment_settings)


@dataclass(frozen=True)
class AmbiguityTrainings(AmbiguityData):
    """The data of a study, and what is trained in its folder."""

    def folder(self, name: str, seed: int, member: int | None = None) -> RunFolder:
        """Run folder of a training; ensembles have one for each member."""
        path = self.out / "runs" / plain_name(name) / f"seed-{seed}"
        return RunFolder(path if member is None else path / f"member-{member}")

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
        return self._card_of(self.recipe.network_spec(self._variant(name).network))

    def _card_of(self, spec: NetworkSpec) -> ModelCard:
        space = self.dataset.label_space
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
            "base": self._digest(self.folder(self.start_of(name), seed).best),
            **self._data,
        }

    def start_of(self, name: str) -> str:
        """Name of the model that a method aligns."""
        return self.recipe.methods[name].of or REFERENCE

    def align(self, name: str, seed: int) -> None:
        """Stage 2 from this seed's reference, or from a peer (TDG-DiffDPO, Sec. 3.4)."""
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
        of_latents = config.of is not None
        align(
            self.folder(self.start_of(name), seed).best,
            self.pool(config),
            self.validation,
            method.judge,
            method.signal,
            folder,
            config,
            proposals=SampleSlates(
                config.candidates, runs, LatentSampler() if of_latents else config.sampler
            ),
            denoising=None if of_latents else config,
            parts=config.parts,
            cache=self.cache,
        )

    def check_peer(self, name: str, seed: int, member: int | None) -> None:
        """Refuse a peer's training with other settings than the recipe has now.

        Raises:
            SegprefError: it was begun with such.
        """
        folder = self.folder(name, seed, member)
        folder.refuse_others(as_recorded(folder, self._peer_settings(name, seed, member)))

    def _peer_settings(self, name: str, seed: int, member: int | None) -> Mapping[str, Any]:
        peer = self.recipe.peers[name]
        return {
            "training": peer.training,
            "card": replace(self._card_of(peer.network_spec), policy=peer.policy),
            "seed": seed if member is None else derive_seed(seed, member),
            **self._data,
        }

    def fit_peer(self, name: str, seed: int, member: int | None) -> None:
        """Train a peer, or a member of it."""
        folder = self.folder(name, seed, member)
        settings = self._peer_settings(name, seed, member)
        folder.open(as_recorded(folder, settings), resume=True)
        config = replace(settings["training"], seed=settings["seed"])
        fit_ambiguous(self.train, self.validation, settings["card"], folder, config)

    def peer(self, name: str, seed: int) -> TunablePolicy | Sequence[TunablePolicy]:
        """A trained peer, aligned or not: its network, or its members."""
        found = [load_model(path)[0] for path in self._weights(name, seed)]
        peer = self.recipe.peers.get(name)
        return found if peer is not None and peer.kind == "ensemble" else found[0]

    def model(self, name: str, seed: int, w: float = 1.0) -> AmbiSeg | BlendedPredictions:
        """A trained model, at the checkpoint that the recipe names."""
        first, *others = (self._load(path) for path in self._weights(name, seed))
        return between(first, others[0], w) if others else first

    def _weights(self, name: str, seed: int) -> list[Path]:
        """Files of a model: a stage 1, the ends of a method's knob, or the members of a peer."""
        if name in self.recipe.peers:
            members = self.recipe.peers[name].trainings
            return [self.folder(name, seed, member).best for member in members]
        if name not in self.recipe.methods:
            return [self.folder(name, seed).best]
        run = self.folder(name, seed)
        aligned = run.last if self.recipe.checkpoint == "last" else run.best
        if self.recipe.methods[name].of is not None:
            return [aligned]
        return [self.folder(REFERENCE, seed).best, aligned]

    def _digest(self, path: Path) -> str:
        """Of the file of a model; empty where there is none yet."""
        return self.cache.digest_of_files([path]) if path.exists() else ""

    def _load(self, path: Path) -> AmbiSeg:
        model, _ = load_diffusion(path)
        # Variants without text take no encoder, the others all take the same.
        return (
            model
            if model.encoder is None
            else AmbiSeg(model.inner, model.label_space, self.encoder)
        )
