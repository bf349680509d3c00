"""The public interface: complete, documented, and imported late."""

from __future__ import annotations

import subprocess
import sys

import pytest

import segpref
from segpref.workflows import text_of


@pytest.mark.parametrize("name", segpref.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(segpref, name)
    assert (found.__doc__ or "").strip()
    assert found.__name__ == name
    assert name in dir(segpref)


def test_the_interface_is_small_and_complete() -> None:
    assert len(segpref.__all__) == len(set(segpref.__all__)) <= 50
    with pytest.raises(AttributeError, match="no attribute 'Align'"):
        _ = segpref.Align  # type: ignore[attr-defined]


def test_importing_segpref_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys, segpref; "
        "print([name for name in ('torch', 'numpy', 'monai', 'accelerate') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_settings_of_an_object_that_holds_itself_are_its_plain_ones() -> None:
    class Judge:
        def __init__(self) -> None:
            self.sizes, self.network, self.own = (1, 2), object(), self

    kept = text_of(segpref.AlignConfig(epochs=3), judge=Judge())
    assert kept["epochs"] == 3
    assert kept["judge"]["init_args"] == {"sizes": [1, 2]}
