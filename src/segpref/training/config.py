"""The one configuration of a training: the same for the command line, YAML recipes and Python.

Every setting is one field, whose default, range and help stand here and nowhere else. All classes are
flat: ``AlignConfig(epochs=40, candidates=16, method="calibrated")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from segpref.objectives import CalibratedDPO, Reduction
from segpref.settings import Settings, setting
from segpref.training.augmenting import AugmentationName, StrongAugmentation
from segpref.training.feedback import Feedback
from segpref.training.semisupervised import Method as SemiSupervised
from segpref.training.tracking import TrackerName
from segpref.types import Margins, SegprefError

__all__ = [
    "AlignConfig",
    "FitConfig",
    "MethodConfig",
    "MethodName",
    "Precision",
    "SlateConfig",
    "TrainingConfig",
]

MethodName = Literal["preference", "calibrated", "pseudo-label", "supervised"]
Precision = Literal["no", "bf16", "fp16"]
Schedule = Literal["constant", "cosine", "halved", "linear"]
Optimizer = Literal["adam", "adamw"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """Training."""

    epochs: int = setting(15, least=1)
    """Number of epochs."""

    images_per_epoch: int | None = setting(None, least=1)
    """Images in an epoch, drawn without repeats until all were seen; all images if left out."""

    batch_size: int = setting(8, least=1)
    """Images per update."""

    learning_rate: float = setting(1e-4, least=0)
    """Highest learning rate."""

    schedule: Schedule = "constant"
    """constant, cosine (with warm-up), halved (every so many epochs) or linear (falling to 0)."""

    halve_every: float = setting(10.0, above=0)
    """Epochs after which schedule halved halves the learning rate."""

    optimizer: Optimizer = "adam"
    """adam or adamw."""

    weight_decay: float = setting(0.0, least=0)
    """Weight decay of the optimiser."""

    seed: int = setting(0, least=0)
    """Random seed, for everything that is drawn."""

    precision: Precision = "no"
    """Mixed precision: no, bf16 or fp16."""

    compile: bool = False
    """Compile the network for the batches of a step (torch.compile): a minute or more at the start,
    then faster steps. Segmenters with images of one size or in patches; results differ in last bits."""

    checkpoint_seconds: float = setting(30.0, least=0)
    """How often the position is saved, in seconds; --resume repeats what came after."""

    log_with: TrackerName | tuple[TrackerName, ...] = ("tensorboard",)
    """What shows the figures of each epoch as it ends, one or several: tensorboard (in the run folder)
    and others that are installed (aim, clearml, comet_ml, dvclive, mlflow, swanlab, trackio, wandb)."""

    @property
    def trackers(self) -> tuple[TrackerName, ...]:
        """All of ``log_with``."""
        return (self.log_with,) if isinstance(self.log_with, str) else tuple(self.log_with)

    @property
    def in_bfloat16(self) -> tuple[str, ...]:
        """The settings that ask for bfloat16."""
        return ("precision",) if self.precision == "bf16" else ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule != "halved" and self.halve_every != type(self).halve_every:
            raise SegprefError(
                f"halve_every has no effect with schedule {self.schedule}: leave it out, or set "
                "schedule to halved"
            )


@dataclass(frozen=True, kw_only=True)
class FitConfig(TrainingConfig):
    """Stage 1: a segmenter from labelled images (RN-DPO, Sec. 4.2)."""

    epochs: int = setting(100, least=1)
    learning_rate: float = setting(1e-3, least=0)
    schedule: Schedule = "cosine"
    optimizer: Optimizer = "adamw"
    weight_decay: float = setting(1e-4, least=0)

    augment: AugmentationName = "flips-rotations"
    """flips-rotations, photometric (where left and right differ) or none."""

    dropout: float = setting(0.0, least=0, below=1)
    """Rate of dropout after every block while training (the warm-up of MAPO); 0 for the network's own.
    Supervised training only."""

    method: SemiSupervised | None = None
    """A semi-supervised method that also learns from training images without labels (class_path,
    init_args), such as segpref.training.semisupervised.FixMatch."""

    loss: Callable[[Any, Any], Any] | None = None
    """Supervised loss of logits and one-hot masks, such as monai.losses.DiceLoss; Dice + cross-entropy
    if left out. Supervised training only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dropout", "loss"):
            if self.method is not None and getattr(self, name):
                kind = type(self.method).__name__
                raise SegprefError(
                    f"{name} is for supervised training, not for {kind}: leave one of the two out"
                )


@dataclass(frozen=True, kw_only=True)
class SlateConfig(Settings):
    """Candidates."""

    candidates: int = setting(32, least=2, most=1000)
    """Number K of masks in a slate; the first is the model's own."""

    families: list[Callable[[Any], Any]] | Literal["auto", "lean", "paper"] = "auto"
    """What makes the candidates: paper (all of RN-DPO's, with averages of ten passes), lean (2D:
    edits, and two changed views; 3D: averages of six passes), auto (lean from 16 candidates on,
    else paper), or a list of class_path and init_args, such as
    segpref.proposals.DropoutRates."""

    refresh: int | None = setting(None, least=1)
    """Epochs for which slates and scores are kept (MAPO's rounds); made again at every step if
    left out."""

    reference: Literal["base", "round"] = "base"
    """base, or with refresh the model at the beginning of each round."""

    reference_logits: Literal["float32", "float16", "uint8", "recomputed"] = "float32"
    """How the base's logits are kept: float32 (the margin of an untouched model is exactly 0), float16
    or uint8 (a half or a quarter of the disk; margins are off by at most 2^-10 of the largest logit, or
    1/255 of its range), or recomputed at every step (no disk, one more pass)."""

    workers: int = setting(0, least=0, most=256)
    """Processes that edit and score candidates, one CPU thread each; no result depends on their number.
    0 for none."""

    proposal_precision: Literal["auto", "no", "bf16"] = "auto"
    """Precision of passes that only propose candidates (views, dropout), while the update keeps its
    own: bf16, no (as the update), or auto: bf16 where the GPU or the CPU has it. With mixed precision
    all passes have that."""

    slates_ahead: bool = False
    """Make the slates of a step before the update of the step before it, so that workers edit and score
    them while the device updates: faster, and the candidates are of weights one update old."""

    images: Literal["unlabelled", "labelled"] = "unlabelled"
    """Learn from the training patients without the base's labels, or from the base's labelled ones
    (MAPO)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.families:
            raise SegprefError("families must name at least one proposal family, or be left out")
        if self.reference == "round" and self.refresh is None:
            raise SegprefError("a reference per round needs rounds: give refresh, in epochs")
        if self.reference == "round" and self.reference_logits != "float32":
            raise SegprefError(
                "reference_logits has no effect with a reference per round, whose logits are part of "
                "the round: leave it out"
            )
        if self.slates_ahead and self.refresh is not None:
            raise SegprefError(
                "slates_ahead has no effect with slates that are kept for epochs (refresh, votes): "
                "leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class MethodConfig(Settings):
    """Preferences: what is learned from the judge."""

    method: MethodName = "preference"
    """preference (pairs of candidates), calibrated (preference that learns a pair as far as the judge
    was right at its score gap on labelled validation images; on a strong view, with averaged weights),
    pseudo-label (the best candidate as target) or supervised (the labels of the images alone)."""

    reduction: Reduction = "region"
    """region is RN-DPO, image is DPO as usual, [power, a] lies between."""

    beta: float | None = setting(None, above=0)
    """Strength of the preference, for DPO (1 if left out) and method calibrated (0.25); other
    objectives bring their own."""

    objective: Callable[[Margins], Any] | None = None
    """Loss on margins (class_path, init_args); DPO if left out. CalibratedDPO without gaps and
    flip_rates has them measured first."""

    miner: Callable[[Any, Any], Any] | None = None
    """Picks pairs from scores (class_path, init_args); Top-vs-Random if left out."""

    feedback: Feedback | None = None
    """Learn from what a person would say of four thresholds of the model's probabilities, in place of
    method, objective, miner and families: --feedback.kind rating, ranking or best-only."""

    supervised: float = setting(0.0, least=0)
    """Weight of the labels beside preferences (lambda of MAPO, 0.5 there); 0 for none."""

    loss: Callable[[Any, Any], Any] | None = None
    """Supervised loss of logits and one-hot masks, such as monai.losses.DiceLoss; Dice + cross-entropy
    if left out."""

    view: StrongAugmentation | None = None
    """The update is made on such a view of the image, while slates and judge see the image itself; on
    the image if left out, but for method calibrated."""

    average: float | None = setting(None, least=0, below=1)
    """Decay of the moving average of weights that is validated and saved; 0 for none, which is meant if
    left out, but for method calibrated (0.99)."""

    control: bool = False
    """Random-preference control: the order of each pair is random, so that nothing can be learned
    from the judge. Only a gain above that of this run is due to the judge."""

    write_preferences: bool = False
    """Write every mined pair as a record (preferences.jsonl), and at the end with its masks in the form
    of segpref collect export (folder preferences), from which another run can learn (--votes)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feedback is not None and (
            self.objective or self.miner or self.method != "preference" or self.supervised
        ):
            raise SegprefError(
                "feedback brings its own method, objective, miner and candidates, and no supervised "
                "part: leave those out, or the feedback"
            )
        if self.method == "calibrated" and self.objective is not None:
            raise SegprefError("method calibrated brings its own objective: leave that out")
        for name, why in self._without_effect():
            raise SegprefError(f"{name} has no effect {why}: leave it out")

    def _without_effect(self) -> Iterator[tuple[str, str]]:
        """Settings that were given and that nothing would read, and why."""
        if self.feedback is None and self.method in ("pseudo-label", "supervised"):
            unused = {
                "beta": self.beta is not None,
                "objective": self.objective is not None,
                "miner": self.miner is not None,
                "reduction": self.reduction != "region",
                "supervised": bool(self.supervised),
                "write_preferences": self.write_preferences,
                "control": self.control and self.method == "supervised",
            }
            for name, given in unused.items():
                if given:
                    yield name, f"with method {self.method}, which learns from no pairs"
        if self.beta is not None and (self.objective is not None or self.feedback is not None):
            yield "beta", "beside an objective or feedback, which bring their own"
        if self.loss is not None and self.method != "supervised" and not self.supervised:
            yield (
                "loss",
                "where nothing is learned from labels (set supervised or method supervised)",
            )

    @property
    def decay(self) -> float:
        """Decay of the moving average of weights that is meant; 0 for none."""
        if self.average is not None:
            return self.average
        return 0.99 if self.method == "calibrated" else 0.0

    def resolved(self) -> Self:
        """The same settings, with what is left to the method: ``calibrated`` is spelled out."""
        if self.method != "calibrated":
            return replace(self, average=self.decay)
        objective = CalibratedDPO(0.25 if self.beta is None else self.beta)
        view = self.view or StrongAugmentation()
        return replace(
            self, method="preference", objective=objective, beta=None, view=view, average=self.decay
        )

    @property
    def needs_flips(self) -> bool:
        """Whether how often the judge is wrong, by score gap, is measured first."""
        meant = self.resolved()
        waits = isinstance(meant.objective, CalibratedDPO) and not meant.objective.gaps
        return waits and meant.method == "preference"


@dataclass(frozen=True, kw_only=True)
class AlignConfig(MethodConfig, SlateConfig, TrainingConfig):
    """Stage 2: candidates, what is learned from them, and how (RN-DPO, Sec. 3)."""

    @property
    def in_bfloat16(self) -> tuple[str, ...]:
        """The settings that ask for bfloat16."""
        proposed = ("proposal_precision",) if self.proposal_precision == "bf16" else ()
        return (*super().in_bfloat16, *proposed)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.proposal_precision == "bf16" and self.precision != "no":
            raise SegprefError(
                f"proposal_precision has no effect with precision {self.precision}, in which all "
                "passes are: leave it out"
            )
        if self.feedback is not None and self.families != "auto":
            raise SegprefError(
                "feedback brings its own candidates: leave families out, or the feedback"
            )
