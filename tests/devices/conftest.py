"""The trainings of ``tests/baseline``, tiny models and small studies are used here, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# What is imported while torch is stood in for would keep the stand-ins.
pytest.importorskip("diffusers", reason="needs the extra [diffusion]")
pytest.importorskip("transformers", reason="needs the extra [promptable]")

from accelerator import Accelerator, accelerator

for folder in ("baseline", "promptable", "policies", "studies"):
    sys.path.append(str(Path(__file__).parents[1] / folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a base and a judge from the host: on the accelerator, training takes many times as long."""
    import runs

    place = tmp_path_factory.mktemp("accelerated")
    runs.fit_judge(place)  # and its base
    return place


@pytest.fixture
def there() -> Iterator[Accelerator]:
    monkeypatch = pytest.MonkeyPatch()
    with accelerator(monkeypatch) as mode:
        yield mode
    monkeypatch.undo()
