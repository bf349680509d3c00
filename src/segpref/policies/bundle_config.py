"""Reads the network definition of a MONAI bundle's configuration without running its code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from segpref.late import late
from segpref.policies.checkpoints import NetworkSpec
from segpref.trust import (
    as_in_folder,
    check_network,
    is_code_of,
    monai_path,
    own_path,
    trust_code,
)
from segpref.types import SegprefError

if TYPE_CHECKING:
    from monai.bundle import ConfigComponent, ConfigParser

__all__ = ["network_of", "open_config", "windows_of"]

bundle = late("monai.bundle")

_CONFIGS = ("json", "yaml", "yml")
_NETWORKS = ("network_def", "network", "net")
_DROPPED = {"SwinUNETR": ("img_size",)}
"""Arguments that had no effect and that MONAI has removed: bundles of earlier versions name them."""


def open_config(path: Path, config: str, trust: bool = False) -> ConfigParser:
    """The configuration of that name as text, with nothing of it run.

    Args:
        path: folder of the bundle.
        config: its name.
        trust: whether it may read files outside that folder (macros, ``%...``).

    Raises:
        SegprefError: there is no such configuration, it is damaged, or it needs ``trust``.
    """
    files = [path / "configs" / f"{config}.{ending}" for ending in _CONFIGS]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise SegprefError(f"{path} has no configs/{config}.json or .yaml: name its configuration")
    parser = bundle.ConfigParser()
    try:
        parser.read_config(str(file))
        outside = [text for text in _strings(parser.get()) if _reads_outside(text)]
        if outside and not trust:
            raise SegprefError(
                f"{file} reads a file outside the bundle ({outside[0][:60]}): if you know where the "
                "bundle comes from, add --trust"
            )
        parser["bundle_root"] = str(path)
        parser.resolve_macro_and_relative_ids()
    except SegprefError:
        raise
    except Exception as error:  # whatever the readers of JSON and YAML raise
        reason = " ".join(str(error).split())[:200]
        raise SegprefError(
            f"{file} can't be read ({reason}): correct it or copy it again"
        ) from error
    return parser


def network_of(parser: ConfigParser, path: Path, trust: bool) -> NetworkSpec:
    """Class and arguments of the network, with all references resolved.

    Args:
        parser: from :func:`open_config`.
        path: folder of the bundle.
        trust: whether expressions (``$...``) that the definition needs, and classes in the bundle's
            own folder or from anywhere else, may be run.

    Raises:
        SegprefError: there is no definition, it needs ``trust``, it can't be written down, or its code
            has the name of a library (:func:`~segpref.trust.trust_code`).
    """
    found = [name for name in _NETWORKS if bundle.ConfigComponent.is_instantiable(parser.get(name))]
    if not found:
        code = next((text for name in _NETWORKS if _is_code(text := parser.get(name))), None)
        if code is not None:
            raise SegprefError(
                f"the configuration of {path} makes its network by code ({code[:60]}), which tells no "
                "class and arguments: give network_def a _target_"
            )
        raise SegprefError(
            f"the configuration of {path} defines no network: give network_def a _target_"
        )
    name = found[0]
    what = f"{name} in the configuration of {path}"
    try:
        if part := _object(parser, name):
            raise SegprefError(
                f"{what} is given an object ({part}), and segpref takes networks whose arguments are "
                "numbers, text and lists: as a judge, give a folder of masks that the bundle predicted"
            )
        code = _first_expression(parser, name, set())
        if code is not None and not trust:
            raise SegprefError(
                f"{what} is made by code ({code[:60]}), which would be run: if you know where the "
                "bundle comes from, add --trust"
            )
        target = str(_plain(parser, parser[name]["_target_"]))
        own = is_code_of(path, target)
        if own and not trust:
            raise SegprefError(
                f"{what} is a class of the bundle's own ({target}), whose code would be run: if you "
                "know where the bundle comes from, add --trust"
            )
        if own or code is not None:
            trust_code(path)
        with as_in_folder(path) if own or code is not None else nullcontext():
            component = _component(parser, name, plain=code is None)
            arguments = json.loads(json.dumps(component.resolve_args()))
        for gone in _DROPPED.get(target.rpartition(".")[2], ()):
            arguments.pop(gone, None)
        module = own_path(path, target) if own else monai_path(target) or target
        if not trust:
            check_network(module, arguments, what)
        elif "." not in module:
            # Looking for a name without its package imports all of MONAI.
            module = component.resolve_module_name()
    except SegprefError:
        raise
    except TypeError as error:
        raise SegprefError(
            f"{what} has arguments that are not plain values ({error}): write them as numbers, "
            f"text and "
            "lists"
        ) from error
    except Exception as error:  # a broken reference, or whatever the bundle's code raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SegprefError(f"{what} can't be resolved ({reason}): correct it") from error
    return NetworkSpec(module, arguments)


def _component(parser: ConfigParser, name: str, plain: bool) -> ConfigComponent:
    if plain:
        # Asking the parser would run the import statements of the whole configuration.
        return bundle.ConfigComponent(
            _plain(parser, parser[name]), locator=bundle.ComponentLocator()
        )
    return parser.get_parsed_content(name, instantiate=False)


def windows_of(parser: ConfigParser, path: Path, trust: bool) -> Any:
    """How large the windows are that the inferer slides, as the configuration has it (``roi_size``).

    A number, or one per axis, of which -1 is the whole axis; the text of an expression that may not be
    run or fails; None for whole images.

    Args:
        parser: from :func:`open_config`.
        path: folder of the bundle.
        trust: whether expressions may be run.
    """
    name, inferer = "inferer", parser.get("inferer")
    if isinstance(inferer, str) and inferer.startswith("@"):
        name, inferer = inferer[1:], parser.get(inferer[1:])
    try:
        plain = isinstance(inferer, Mapping)
        windows = _plain(parser, inferer.get("roi_size") if plain else inferer)
        if trust and any(text.startswith("$") for text in _strings(windows)):
            trust_code(path)  # its imports are run, too
            with as_in_folder(path):
                found = parser.get_parsed_content(f"{name}::roi_size" if plain else name)
            return found if plain else getattr(found, "roi_size", None)
    except Exception:  # a broken reference, or whatever the bundle's code raises
        return inferer
    return windows


def _object(parser: ConfigParser, name: str) -> str | None:
    """Class of an object among the arguments of a network; None where there is none."""
    arguments = {key: part for key, part in parser[name].items() if key != "_target_"}
    return _class_in(_plain(parser, arguments))


def _class_in(part: Any) -> str | None:
    if isinstance(part, Mapping) and "_target_" in part:
        return str(part["_target_"])
    parts = part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()
    return next((found for one in parts if (found := _class_in(one))), None)


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


def _is_code(part: Any) -> bool:
    return isinstance(part, str) and part.startswith("$")


def _reads_outside(text: str) -> bool:
    """Whether a macro of MONAI names a file by an absolute path or climbs out of the bundle."""
    if not text.startswith("%"):
        return False
    name = text[1:].replace("\\", "/")
    return PurePosixPath(name).is_absolute() or ":/" in name or ".." in name.split("/")


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
