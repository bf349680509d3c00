"""Medical image segmenters made better from preferences instead of pixel labels.

The names below are the public interface; everything else may change. They are imported when they are
first used, so that ``import segpref`` takes no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face
from segpref.version import __version__ as __version__

if TYPE_CHECKING:
    from segpref.data import (
        Cache,
        Dataset,
        Preparation,
        Reader,
        Split,
        open_dataset,
        prepare,
        split_patients,
    )
    from segpref.data.phantoms import phantoms
    from segpref.inference.sample import sample_folder
    from segpref.judges import Committee, EnsembleJudge, ModelJudge, NoisyJudge, OracleJudge
    from segpref.objectives import DPO, CalibratedDPO
    from segpref.policies import (
        ModelCard,
        NetworkSpec,
        PolicySpec,
        Segmenter,
        TunablePolicy,
        load_model,
        save_model,
    )
    from segpref.policies.model_formats import open_model
    from segpref.preferences import TopVsRandom
    from segpref.proposals import SlateProposals
    from segpref.runtime import Runtime
    from segpref.studies.recipe import load_recipe
    from segpref.training import AlignConfig, FitConfig, RunFolder, Task, train
    from segpref.types import (
        Candidate,
        Case,
        Judge,
        LabelSpace,
        Margins,
        Miner,
        Objective,
        SegprefError,
        Slate,
    )
    from segpref.workflows import align, audit, evaluate, fit, predict
else:
    __getattr__, __dir__ = face(__name__, {
        "data": (
            "Cache", "Dataset", "Preparation", "Reader", "Split", "open_dataset", "prepare",
            "split_patients",
        ),
        "data.phantoms": ("phantoms",),
        "inference.sample": ("sample_folder",),
        "judges": ("Committee", "EnsembleJudge", "ModelJudge", "NoisyJudge", "OracleJudge"),
        "preferences": ("TopVsRandom",),
        "objectives": ("DPO", "CalibratedDPO"),
        "policies": (
            "ModelCard", "NetworkSpec", "PolicySpec", "Segmenter", "TunablePolicy", "load_model",
            "save_model",
        ),
        "policies.model_formats": ("open_model",),
        "proposals": ("SlateProposals",),
        "runtime": ("Runtime",),
        "studies.recipe": ("load_recipe",),
        "training": ("AlignConfig", "FitConfig", "RunFolder", "Task", "train"),
        "types": (
            "Candidate", "Case", "Judge", "LabelSpace", "Margins", "Miner", "Objective", "SegprefError",
            "Slate",
        ),
        "workflows": ("align", "audit", "evaluate", "fit", "predict"),
    })  # fmt: skip

__all__ = [
    "DPO",
    "AlignConfig",
    "Cache",
    "CalibratedDPO",
    "Candidate",
    "Case",
    "Committee",
    "Dataset",
    "EnsembleJudge",
    "FitConfig",
    "Judge",
    "LabelSpace",
    "Margins",
    "Miner",
    "ModelCard",
    "ModelJudge",
    "NetworkSpec",
    "NoisyJudge",
    "Objective",
    "OracleJudge",
    "PolicySpec",
    "Preparation",
    "Reader",
    "RunFolder",
    "Runtime",
    "Segmenter",
    "SegprefError",
    "Slate",
    "SlateProposals",
    "Split",
    "Task",
    "TopVsRandom",
    "TunablePolicy",
    "align",
    "audit",
    "evaluate",
    "fit",
    "load_model",
    "load_recipe",
    "open_dataset",
    "open_model",
    "phantoms",
    "predict",
    "prepare",
    "sample_folder",
    "save_model",
    "split_patients",
    "train",
]
