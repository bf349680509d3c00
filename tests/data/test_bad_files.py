"""Bad input: each kind gives one clear sentence that names the file and the mend.

Errors about the index (files that are missing or doubled, descriptions that are broken) come when a
dataset is opened, errors about content when the case is read.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bad_dicom import BAD_DICOM, slices
from bad_images import BAD_IMAGES
from bad_inputs import Bad, folders, paired, read_all
from bad_layouts import BAD_LAYOUTS
from bad_masks import BAD_MASKS
from written import grey, series

from segpref.data import Images
from segpref.types import SegprefError

BAD = [*BAD_IMAGES, *BAD_MASKS, *BAD_LAYOUTS, *BAD_DICOM]


@pytest.mark.parametrize("bad", BAD, ids=[bad.id for bad in BAD])
def test_one_sentence_names_the_file_and_the_mend(tmp_path: Path, bad: Bad) -> None:
    action = bad.make(tmp_path)
    if bad.at == "open":
        with pytest.raises(SegprefError) as caught:
            action()
    else:
        reader = action()
        with pytest.raises(SegprefError) as caught:
            read_all(reader)
    message = str(caught.value)
    assert (bad.names or tmp_path.name) in message
    problem, _, mend = message.partition(": ")
    assert bad.mend in mend, message
    assert bad.mend not in problem
    assert "\n" not in message
    assert not re.search(r"[.!?]\s+[A-Z]", message), message
    assert not message.endswith(".")


def test_every_kind_is_listed_once() -> None:
    assert len({bad.id for bad in BAD}) == len({bad.make for bad in BAD}) == len(BAD) >= 40


def test_what_the_bad_inputs_are_made_from_is_sound(tmp_path: Path) -> None:
    reader = folders(paired(tmp_path / "pairs"))()
    assert reader.read(reader.sources()[0]).label.max() == 2
    reader = slices(tmp_path / "study", (0, 2, 4, 6))()
    assert reader.read(reader.sources()[1]).image.shape == (1, 5, 4, 4)
    assert Images(series(tmp_path / "s", grey((3, 4, 5), dtype=np.uint16))).sources()[0].id == "s"
