"""Imports nnunetv2, an optional package, only when it is needed."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

from segpref.types import SegprefError

__all__ = ["Managers", "managers", "missing", "nnunet", "quietly"]


class Managers(NamedTuple):
    """nnU-Net's own views of plans.json and dataset.json."""

    plans: Any
    configuration: Any
    labels: Any


def nnunet(module: str) -> Any:
    """A module of nnunetv2 by its path inside the package.

    Raises:
        SegprefError: nnunetv2, or something that it needs, isn't installed.
    """
    try:
        return importlib.import_module(f"nnunetv2.{module}")
    except ModuleNotFoundError as error:
        raise missing(error) from error


def missing(error: ModuleNotFoundError) -> SegprefError:
    """What to say where an import failed."""
    if error.name == "nnunetv2":
        return SegprefError(
            "nnU-Net models need the package nnunetv2, which is not installed: run "
            "`pip install 'segpref[nnunet]'`"
        )
    return SegprefError(
        f"nnunetv2 needs the package {error.name}, which is not installed: run "
        f"`pip install {error.name}`"
    )


def quietly() -> contextlib.AbstractContextManager[object]:
    """Without what nnU-Net prints as it goes."""
    return contextlib.redirect_stdout(io.StringIO())


def managers(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> Managers:
    """nnU-Net's managers of a configuration.

    Raises:
        SegprefError: the plans have no such configuration, or it is the second stage of a cascade.
    """
    if configuration not in (known := plans.get("configurations", {})):
        raise SegprefError(
            f"plans.json has no configuration {configuration!r}: choose from {', '.join(known)}"
        )
    of_plans = nnunet("utilities.plans_handling.plans_handler").PlansManager(dict(plans))
    of_configuration = of_plans.get_configuration(configuration)
    if of_configuration.previous_stage_name is not None:
        raise SegprefError(
            f"{configuration} is the second stage of a cascade and needs the masks of the first: use a "
            "model of 2d, 3d_lowres or 3d_fullres"
        )
    return Managers(of_plans, of_configuration, of_plans.get_label_manager(dict(dataset)))
