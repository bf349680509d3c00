"""The faces of packages: every name is there, for programs and for type checkers, and imported late."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import segpref
from segpref.faces import face

PACKAGES = ["segpref"] + [
    one.name for one in pkgutil.walk_packages(segpref.__path__, "segpref.") if one.ispkg
]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_of_a_face_is_there(name: str) -> None:
    package = importlib.import_module(name)
    shown = getattr(package, "__all__", [])
    assert len(shown) == len(set(shown))
    for one in shown:
        assert getattr(package, one) is not None
        assert one in dir(package)


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_see_what_programs_see(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text())
    places = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and _calls_face(one)]
    if not places:
        return
    (call,) = places
    listed = [
        (shown, f"{name}.{module}")
        for module, names in ast.literal_eval(call.args[1]).items()
        for shown in names
    ]
    late = dict(listed)
    assert len(late) == len(listed)  # each once, and from one module
    (branch,) = (one for one in tree.body if isinstance(one, ast.If))
    typed = {
        alias.name: one.module
        for one in branch.body
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    assert typed == late
    assert set(late) <= set(package.__all__)
    assert not {one.name for one in pkgutil.iter_modules(package.__path__)} & set(late)


def _calls_face(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "face"


def test_a_name_is_what_its_module_has_at_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("json")
    monkeypatch.setattr(package, "__getattr__", face("json", {"decoder": ("scanner",)})[0], False)
    assert package.scanner is json.decoder.scanner
    monkeypatch.setattr(json.decoder, "scanner", "another")
    assert package.scanner == "another"
    with pytest.raises(AttributeError, match="module 'json' has no attribute 'Scanner'"):
        _ = package.Scanner
