"""What a process of segpref's own does before anything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = """
import sys
from segpref.process_setup import import_monai
import_monai()
import monai.networks.nets
assert hasattr(monai.networks.nets, "UNet")
print("transformers" in sys.modules)
from transformers import BertConfig
print(BertConfig.__name__)
import_monai()
print("transformers" in sys.modules)
"""


@pytest.mark.slow
def test_monai_brings_no_transformers_along_and_hides_them_from_nobody_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "BertConfig", "True"]
