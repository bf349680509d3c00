"""The configuration of a MONAI bundle: what defines its network, read without running its code."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser

from segpref.policies.checkpoints import NetworkSpec
from segpref.types import SegprefError

__all__ = ["network_of", "open_config", "patch_of"]

_CONFIGS = ("json", "yaml", "yml")
_NETWORKS = ("network_def", "network", "net")


def open_config(path: Path, config: str) -> ConfigParser:
    """The configuration of that name as text, with nothing of it run."""
    files = [path / "configs" / f"{config}.{ending}" for ending in _CONFIGS]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise SegprefError(f"{path} has no configs/{config}.json or .yaml: name its configuration")
    parser = ConfigParser()
    try:
        parser.read_config(str(file))
        parser["bundle_root"] = str(path)
        parser.resolve_macro_and_relative_ids()
    except Exception as error:  # whatever the readers of JSON and YAML raise
        reason = " ".join(str(error).split())[:200]
        raise SegprefError(
            f"{file} can't be read ({reason}): correct it or copy it anew"
        ) from error
    return parser


def network_of(parser: ConfigParser, path: Path, trust: bool) -> NetworkSpec:
    """Class and arguments of the network, with all references resolved.

    Args:
        parser: from :func:`open_config`.
        path: folder of the bundle.
        trust: whether expressions (``$...``) that the definition needs, and classes in the bundle's
            own folder, may be run.

    Raises:
        SegprefError: there is no definition, it needs ``trust``, or it can't be written down.
    """
    found = [name for name in _NETWORKS if ConfigComponent.is_instantiable(parser.get(name))]
    if not found:
        raise SegprefError(
            f"the configuration of {path} defines no network: give network_def a _target_"
        )
    name = found[0]
    what = f"{name} in the configuration of {path}"
    try:
        code = _first_expression(parser, name, set())
        if code is not None and not trust:
            raise SegprefError(
                f"{what} is made by code ({code[:60]}), which would be run: if you know where the "
                "bundle comes from, add --trust"
            )
        own = _own_class(parser[name], path)
        if own and not trust:
            raise SegprefError(
                f"{what} is a class of the bundle's own ({own}), whose code would be run: if you know "
                "where the bundle comes from, add --trust"
            )
        if trust:
            # The bundle's own code is found from its folder, as when it is run there.
            sys.path.append(str(path.resolve()))
        component = _component(parser, name, plain=code is None)
        arguments = json.loads(json.dumps(component.resolve_args()))
    except SegprefError:
        raise
    except TypeError as error:
        raise SegprefError(
            f"{what} has arguments that are no plain values ({error}): write them as numbers, text and "
            "lists"
        ) from error
    except Exception as error:  # a broken reference, or whatever the bundle's code raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SegprefError(f"{what} can't be resolved ({reason}): correct it") from error
    return NetworkSpec(component.resolve_module_name(), arguments)


def _own_class(definition: Mapping[str, Any], path: Path) -> str | None:
    """The class, where it lies in the bundle's folder."""
    target = str(definition["_target_"])
    first = path / target.partition(".")[0]
    return target if first.is_dir() or first.with_suffix(".py").is_file() else None


def _component(parser: ConfigParser, name: str, plain: bool) -> ConfigComponent:
    if plain:
        # Asking the parser would run the import statements of the whole configuration.
        return ConfigComponent(_plain(parser, parser[name]), locator=ComponentLocator())
    return parser.get_parsed_content(name, instantiate=False)


def patch_of(parser: ConfigParser) -> tuple[int, ...] | None:
    """Voxels of the windows that the inferer slides, where that is written down plainly."""
    inferer = parser.get("inferer")
    try:
        sizes = _plain(parser, inferer["roi_size"]) if isinstance(inferer, Mapping) else None
    except KeyError:
        return None
    if isinstance(sizes, list) and all(isinstance(n, int) for n in sizes):
        return tuple(sizes)
    return None


def _first_expression(parser: ConfigParser, name: str, seen: set[str]) -> str | None:
    """Code that would be run to make a part of the configuration; None where it is text alone."""
    if name in seen:
        return None
    seen.add(name)
    for text in _strings(parser[name]):
        if text.startswith("$"):
            return text
        if text.startswith("@") and (code := _first_expression(parser, text[1:], seen)):
            return code
    return None


def _strings(part: Any) -> list[str]:
    if isinstance(part, Mapping):
        return [text for value in part.values() for text in _strings(value)]
    if isinstance(part, list):
        return [text for value in part for text in _strings(value)]
    return [part] if isinstance(part, str) else []


def _plain(parser: ConfigParser, part: Any) -> Any:
    """A part with its references replaced by what they refer to."""
    if isinstance(part, Mapping):
        return {name: _plain(parser, value) for name, value in part.items()}
    if isinstance(part, list):
        return [_plain(parser, value) for value in part]
    if isinstance(part, str) and part.startswith("@"):
        return _plain(parser, parser[part[1:]])
    return part
