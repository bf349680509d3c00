"""What a process of segpref's own does before anything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = """
import sys
from segpref.process_setup import import_monai_alone
import_monai_alone()
import_monai_alone()
print("monai" in sys.modules)
import monai.networks.nets
assert hasattr(monai.networks.nets, "UNet")
assert monai.__spec__.loader is monai.__loader__ and monai.__loader__.get_source("monai")
print("transformers" in sys.modules)
from transformers import BertConfig
print(BertConfig.__name__)
"""


@pytest.mark.slow
def test_monai_brings_no_transformers_along_and_hides_them_from_nobody_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "BertConfig"]
