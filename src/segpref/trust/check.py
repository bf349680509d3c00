"""Whether the classes that a file names, and their arguments, may be built without ``--trust``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from segpref.trust.allowed import (
    LAYERS,
    MONAI,
    NETWORKS,
    NNUNET,
    NNUNET_LAYERS,
    NNUNET_TRAINERS,
    PARTS,
    POLICIES,
    Settings,
)
from segpref.trust.folders import adopt_folders, trusted_folders
from segpref.trust.transformers import check_transformers_config
from segpref.types import SegprefError

__all__ = [
    "PREPARATION",
    "adopt_trust",
    "allow_names",
    "check_network",
    "check_policy",
    "check_preparation",
    "granted_trust",
    "monai_path",
    "stays_local",
    "vouch",
]

PREPARATION = "preparation"
"""What a preparation is vouched for as, in place of an import path."""

_vouched: set[str] = set()
"""Hashes of what the user of this process asked for: a class with these arguments."""
_named: set[str] = set()
"""Import paths that the user wrote in a recipe."""
_local: set[str] = set()
"""Checkpoints of transformers that a file names: they are read from this machine or not at all."""

_ELSEWHERE = re.compile(r"[/\\:]|nvfuser", re.IGNORECASE)
"""In text: a path, an address or a device, and the one name for which MONAI imports another package."""
_OUTSIDE = ("path", "filename", "file", "url", "weights", "checkpoint", "path_or_repo_id")
_SAM = r"sam(2|2_video|)(_\w+)?"


def vouch(path: str, arguments: Mapping[str, Any]) -> None:
    """Let files name this class with these very arguments, for the rest of this process.

    What is built goes into model files, which are read again by the same command.
    """
    _vouched.add(_digest(path, arguments))


def allow_names(settings: Any) -> None:
    """Let files name what the user's own recipe names: ``class_path`` and ``module`` anywhere in it.

    A class on the lists stays bound to harmless arguments.
    """
    for part in _mappings(settings):
        for name in (part.get("class_path"), part.get("module")):
            if isinstance(name, str) and not (_is_library_class(name) or _listed(name, NETWORKS)):
                _named.add(name)


def granted_trust() -> tuple[frozenset[str], ...]:
    """What the user of this process asked for and a file named, for :func:`adopt_trust`."""
    return (*(frozenset(one) for one in (_vouched, _named, _local)), trusted_folders())


def adopt_trust(granted: tuple[frozenset[str], ...]) -> None:
    """Trust what another process of the same user does, in its place.

    Raises:
        SegprefError: code that it trusts lies in a folder that is not on this machine.
    """
    *given, folders = granted
    for own, one in zip((_vouched, _named, _local), given, strict=True):
        own |= one
    adopt_folders(folders)


def stays_local(checkpoint: str) -> bool:
    """Whether only a file named this checkpoint of transformers, so that nothing may be downloaded."""
    return checkpoint in _local


def check_network(path: object, arguments: Any, file: object) -> None:
    """Refuse a network class that a file names, unless it is one that is known to be harmless.

    Args:
        path: the import path.
        arguments: its keyword arguments.
        file: what names it, for the sentence.

    Raises:
        SegprefError: the class or an argument is on no list, and this process did not build it before.
    """
    if not (isinstance(path, str) and isinstance(arguments, Mapping)):
        raise SegprefError(f"{file} does not name a network and its arguments: copy it again")
    if _digest(path, arguments) in _vouched or path in _named:
        return
    if settings := _listed(path, NETWORKS):
        _check_settings(path, arguments, settings, file)
        if "plans" in settings.plain:
            _check_plans(arguments, file)
        if "config" in settings.plain:
            check_transformers_config(arguments.get("config"), file, _SAM)
    elif _is_library_class(path):
        _check_library_arguments(path, arguments, file)
    else:
        _refuse(file, f"the class {path}")


def check_policy(path: object, arguments: Any, file: object) -> None:
    """Refuse a policy class that a file names, and what is nested in its arguments, as networks are.

    Raises:
        SegprefError: a class or an argument is on no list, and this process did not build it before.
    """
    if not (isinstance(path, str) and isinstance(arguments, Mapping)):
        raise SegprefError(f"{file} does not name a policy and its arguments: copy it again")
    if _digest(path, arguments) not in _vouched and path not in _named:
        _check_part(path, arguments, POLICIES, file)


def check_preparation(content: Any, file: object) -> None:
    """Refuse a preparation by nnU-Net whose plans name anything but what nnunetv2 ships.

    Raises:
        SegprefError: a name in them is on no list, and this process did not use them before.
    """
    if not isinstance(content, Mapping):
        raise SegprefError(f"{file} does not say how images are prepared: copy it again")
    if "plans" in content and _digest(PREPARATION, content) not in _vouched:
        _check_plans(content, file)


def monai_path(name: str) -> str | None:
    """Where MONAI keeps a network that a bundle names without its package; None for other names."""
    found = [f"monai.networks.{package}.{name}" for package in MONAI if name in MONAI[package]]
    return found[0] if found else None


def _check_plans(content: Mapping[str, Any], file: object) -> None:
    """Plans, with the trainer where they are a network's."""
    trainer = content.get("trainer", "nnUNetTrainer")
    if not (isinstance(trainer, str) and trainer in NNUNET_TRAINERS):
        _refuse(file, f"the trainer {trainer}")
    for part in _mappings(content.get("plans")):
        for setting, known in NNUNET.items():
            value = part.get(setting)
            for name in value if isinstance(value, list) else [value]:
                if name is not None and not (isinstance(name, str) and name in known):
                    _refuse(file, f"{name} as {setting}")
        if "network_class_name" in part:
            _check_architecture(part, file)


def _check_architecture(part: Mapping[str, Any], file: object) -> None:
    """The class of a network of nnU-Net, and the classes among its arguments."""
    arguments = part.get("arch_kwargs")
    imported = part.get("_kw_requires_import") or ()
    named = isinstance(imported, list | tuple) and all(isinstance(key, str) for key in imported)
    if not (isinstance(arguments, Mapping) and named):
        raise SegprefError(f"{file} holds plans without arch_kwargs: copy them again")
    names = [part["network_class_name"], *(arguments.get(key) for key in imported)]
    for name in names:
        if name is not None and not _is_nnunet_class(name):
            _refuse(file, f"the class {name}")
    rest = {key: value for key, value in arguments.items() if key not in imported}
    _check_library_arguments("plans", rest, file)


def _check_part(
    path: str,
    arguments: Any,
    lists: Mapping[str, Mapping[str, Settings]],
    file: object,
) -> None:
    settings = _listed(path, lists)
    if settings is None or not isinstance(arguments, Mapping):
        _refuse(file, f"the class {path}")
    _check_settings(path, arguments, settings, file)


def _check_settings(
    path: str, arguments: Mapping[str, Any], settings: Settings, file: object
) -> None:
    """Arguments of a class of segpref: each is of the kind that the list says."""
    for name, value in arguments.items():
        if value is None or (name in settings.plain and _is_plain(value)):
            continue
        if name in settings.checkpoints and isinstance(value, str):
            _local.add(value)
        elif name in settings.records and _are_records(value, settings.records[name]):
            continue
        elif name in settings.parts and isinstance(value, Mapping) and "class_path" in value:
            if unknown := set(value) - {"class_path", "init_args"}:
                _refuse(file, f"{path} with {min(map(str, unknown))} in {name}")
            _check_part(str(value["class_path"]), value.get("init_args") or {}, PARTS, file)
        else:
            _refuse(file, f"{path} with {name} {str(value)[:60]!r}")


def _check_library_arguments(path: str, arguments: Mapping[str, Any], file: object) -> None:
    """Arguments of MONAI's and torch's classes: values without paths, addresses or weights."""
    name = path.rpartition(".")[2]
    if name in _DOWNLOADS and arguments.get("pretrained", True):
        _refuse(file, f"{path} with weights that would be downloaded (pretrained)")
    for key, value in arguments.items():
        outside = key in _OUTSIDE or key.startswith("pretrained")
        if (
            not _is_plain(value)
            or (outside and value)
            or any(map(_ELSEWHERE.search, _texts(value)))
        ):
            _refuse(file, f"{path} with {key} {str(value)[:60]!r}")


_DOWNLOADS = ("EfficientNetBN", "EfficientNetBNFeatures", "ResNetFeatures")
"""Classes that download weights where nothing is said."""


def _is_library_class(path: str) -> bool:
    package, _, name = path.rpartition(".")
    if re.fullmatch(r"torch\.nn(\.modules\.[a-z_]+)?", package):
        return name in LAYERS
    found = re.fullmatch(r"monai\.networks\.(nets|blocks|layers)(\.[a-z0-9_]+)?", package)
    return bool(found) and name in MONAI[found[1]]  # type: ignore[index]


def _is_nnunet_class(path: object) -> bool:
    if not isinstance(path, str):
        return False
    package, _, name = path.rpartition(".")
    return _is_library_class(path) or any(
        (package == known or re.fullmatch(rf"{re.escape(known)}\.[a-z0-9_]+", package))
        and name in names
        for known, names in NNUNET_LAYERS.items()
    )


def _listed(path: str, lists: Mapping[str, Mapping[str, Settings]]) -> Settings | None:
    """What a class of segpref may be given; it may be named by the module in its package, too."""
    package, _, name = path.rpartition(".")
    for known, classes in lists.items():
        if name in classes and re.fullmatch(rf"{re.escape(known)}(\.[a-z_]+)?", package):
            return classes[name]
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(
            isinstance(name, str) and name != "class_path" and _is_plain(part)
            for name, part in value.items()
        )
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _are_records(value: Any, names: frozenset[str]) -> bool:
    rows = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(row, Mapping) and set(row) <= names and _is_plain(row) for row in rows)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings in something nested."""
    if isinstance(value, Mapping):
        yield value
    parts: Any = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple):
        for part in parts:
            yield from _mappings(part)


def _digest(path: str, arguments: Mapping[str, Any]) -> str:
    text = json.dumps([path, arguments], sort_keys=True, default=_written)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _written(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _refuse(file: object, what: str) -> NoReturn:
    raise SegprefError(
        f"{file} names {what}, which segpref does not build just because a file says so: if you know "
        "where it comes from, add --trust (in Python, trust=True)"
    )
