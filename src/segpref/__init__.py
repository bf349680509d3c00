"""Medical image segmenters made better from preferences instead of pixel labels.

The names below are the public interface; everything else may change. They are imported when they are
first used, so that ``import segpref`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    from segpref.policies.opening import open_model
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
    from segpref.workflows.align import align
    from segpref.workflows.audit import audit
    from segpref.workflows.evaluate import evaluate
    from segpref.workflows.fit import fit
    from segpref.workflows.predict import predict

_PLACES = {
    "segpref.data": (
        "Cache", "Dataset", "Preparation", "Reader", "Split", "open_dataset", "prepare",
        "split_patients",
    ),
    "segpref.data.phantoms": ("phantoms",),
    "segpref.inference.sample": ("sample_folder",),
    "segpref.judges": ("Committee", "EnsembleJudge", "ModelJudge", "NoisyJudge", "OracleJudge"),
    "segpref.preferences": ("TopVsRandom",),
    "segpref.objectives": ("DPO", "CalibratedDPO"),
    "segpref.policies": (
        "ModelCard", "NetworkSpec", "PolicySpec", "Segmenter", "TunablePolicy", "load_model",
        "save_model",
    ),
    "segpref.policies.opening": ("open_model",),
    "segpref.proposals": ("SlateProposals",),
    "segpref.runtime": ("Runtime",),
    "segpref.studies.recipe": ("load_recipe",),
    "segpref.training": ("AlignConfig", "FitConfig", "RunFolder", "Task", "train"),
    "segpref.types": (
        "Candidate", "Case", "Judge", "LabelSpace", "Margins", "Miner", "Objective", "SegprefError",
        "Slate",
    ),
    "segpref.workflows": ("align", "audit", "evaluate", "fit", "predict"),
}  # fmt: skip

_WHERE = {name: module for module, names in _PLACES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'segpref' has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
