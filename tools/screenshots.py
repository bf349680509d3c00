"""Pictures of segpref's pages for the gallery of the documentation, all of generated phantoms.

``make screenshots`` trains what the pages are about in ``build/screenshots``, where what is finished is
not done again, takes a picture of each page in Chromium, and notes it in ``docs/pictures.yaml``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from segpref.cli.main import main
from segpref.data.phantoms import PATIENT_PATTERN, write_phantoms

ROOT = Path(__file__).parents[1]
PLACE = Path("build/screenshots")
"""Relative, because pages tell paths."""
GALLERY = ROOT / "docs" / "gallery"
LARGEST = 200_000
"""Bytes of a picture."""

UNET = {
    "module": "monai.networks.nets.UNet",
    "arguments": {
        "spatial_dims": 2, "in_channels": None, "out_channels": None, "channels": [16, 32, 64, 128],
        "strides": [2, 2, 2], "num_res_units": 1, "dropout": 0.1,
    },
}  # fmt: skip
RECIPE: dict[str, Any] = {
    "name": "phantom hearts",
    "description": "Generated short-axis cardiac slices, a weak base and a weak judge.",
    "preparation": {"dims": 2, "size": [64, 64]},
    "split": {"train": 20, "judge": 6, "validation": 8, "test": 14},
    "network": UNET,
    "bases": {"weak": {"labelled": 3, "unit": "patients", "epochs": 11, "images_per_epoch": 320}},
    "judges": {
        "weak": {
            "class_path": "segpref.studies.judging.ModelBased",
            "init_args": {
                "train_on": {
                    "labelled": 5, "unit": "patients", "epochs": 11, "images_per_epoch": 320,
                }
            },
        }
    },
    "align": {"epochs": 5, "images_per_epoch": 96, "batch_size": 8, "candidates": 16},
    "methods": {
        "RN-DPO": {"reduction": "region", "learning_rate": 3.0e-4},
        "Random preferences": {"reduction": "region", "learning_rate": 3.0e-4, "control": True},
    },
    "seeds": [0, 1],
    "proposed": "RN-DPO",
}  # fmt: skip


def command(*words: str | Path) -> None:
    """Run a command of segpref."""
    if main([str(one) for one in words]) != 0:
        raise SystemExit(f"segpref {words[0]} failed")


def hearts() -> list[str]:
    """Phantoms that pages are about, as options of a command."""
    data = write_phantoms(PLACE / "hearts", "cardiac", (64, 64), 48, 0, slices_per_patient=3)
    known = {"names": ["background", "RV", "MYO", "LV"], "patient_pattern": PATIENT_PATTERN}
    return ["--data", str(data), "--data_options", json.dumps(known),
            "--cache", str(PLACE / "cache")]  # fmt: skip


def once(made: Path, *words: str | Path) -> Path:
    """Run a command whose output is not there yet."""
    if not made.exists():
        command(*words)
    return made


def trained() -> tuple[Path, Path]:
    """A weak base and a weak judge of the hearts."""
    split = PLACE / "split.json"
    names = [f"phantom{number:03d}" for number in range(48)]
    parts = {"train": names[:20], "judge": names[20:26], "validation": names[26:34]}
    split.write_text(json.dumps({**parts, "test": names[34:], "by_patient": True}))
    for name, more in (("base", ["--labelled", "3"]), ("judge", ["--part", "judge"])):
        once(
            PLACE / name / "summary.json", "fit", *hearts(), "--split", split, *more, "--epochs", "12",
            "--images_per_epoch", "320", "--preparation.size", "[64, 64]",
            "--network", json.dumps(UNET), "--out", PLACE / name, "--resume",
        )  # fmt: skip
    return PLACE / "base", PLACE / "judge"


def run_page() -> Path:
    """A run whose random-preference control lies beside it."""
    base, judge = trained()
    for name, more in (("control", ["--control"]), ("rn-dpo", [])):
        page = once(
            PLACE / "runs" / name / "report.html", "align", *hearts(), "--model", base, "--judge",
            judge, "--epochs", "6", "--images_per_epoch", "96", "--candidates", "16",
            "--learning_rate", "3e-4", "--out", PLACE / "runs" / name, "--resume", *more,
        )  # fmt: skip
    return page


def audit_page() -> Path:
    """An audit of the same judge."""
    base, judge = trained()
    return once(
        PLACE / "audit.html", "audit", *hearts(), "--model", base, "--judge", judge,
        "--candidates", "16", "--report", PLACE / "audit.html",
    )  # fmt: skip


def quality_page() -> Path:
    """New hearts, and which masks to look at first."""
    base, judge = trained()
    new = write_phantoms(PLACE / "new", "cardiac", (64, 64), 12, 7, slices_per_patient=2)
    return once(
        PLACE / "quality" / "quality.html", "predict", "--model", base, "--input", new / "images",
        "--output", PLACE / "masks", "--judge", judge, *("--validation", *hearts()[1:]),
        "--report", PLACE / "quality", "--overwrite",
    )  # fmt: skip


def study_page() -> Path:
    """Two seeds of a method and of its control."""
    recipe = PLACE / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    return once(
        PLACE / "study" / "report.html", "study", "--recipe", recipe, *hearts(), "--workers", "0",
        "--out", PLACE / "study",
    )  # fmt: skip


def voting_page() -> str:
    """Address of a rater's personal link; the server ends with this program."""
    from segpref.web import ServeConfig, serve
    from segpref.workflows import change_raters

    base, _ = trained()
    study = PLACE / "votes"
    once(
        study / "study.json", "collect", "init", "--model", base, *hearts(), "--images", "8",
        "--practice", "0", "--gold", "0", "--candidates", "16", "--out", study,
    )  # fmt: skip
    name = f"rater-{len(change_raters(study).raters) + 1}"
    token = change_raters(study, add=[name]).tokens[name]
    known: list[str] = []
    ready = threading.Event()

    def told(address: str) -> None:
        known.append(address)
        ready.set()

    serving = (study, None, ServeConfig(port=0), told)
    threading.Thread(target=serve, args=serving, daemon=True).start()
    if not ready.wait(60):
        raise SystemExit("the voting page was not served")
    return f"{known[0]}/#{token}"


PAGES: dict[str, tuple[Callable[[], Path | str], int, str]] = {
    "run": (run_page, 1800, "the report of a run, with two cardiac phantoms"),
    "audit": (audit_page, 1000, "the page of an audit"),
    "study": (study_page, 1000, "the report of a study"),
    "quality": (quality_page, 1300, "the quality report of cardiac phantoms"),
    "voting": (voting_page, 800, "the voting page with two masks of a cardiac phantom"),
}
"""Pictures by name: what makes the page, the height of the picture, and what it shows."""


def pictured(browser: Any, address: str, height: int, width: int = 1280) -> bytes:
    """The upper part of a page as WebP."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(address)
    if "#" in address:
        page.click("#begin")
        page.wait_for_selector("canvas:visible")
        page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    file = io.BytesIO()
    shot.save(file, "webp", quality=82, method=6)
    if len(file.getvalue()) > LARGEST:
        raise SystemExit(
            f"the picture of {address} has {len(file.getvalue())} bytes: make it lower"
        )
    return file.getvalue()


def note(name: str, shows: str, content: bytes) -> None:
    """Write a picture, and what the list of all pictures says of it."""
    (GALLERY / f"{name}.webp").write_bytes(content)
    listed = ROOT / "docs" / "pictures.yaml"
    entry = {
        "path": f"docs/gallery/{name}.webp", "shows": shows, "source": "phantoms",
        "licence": "Apache-2.0", "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    text = re.sub(rf"- path: {re.escape(entry['path'])}\n(  .*\n)*", "", listed.read_text())
    lines = [f"{key}: {value}" for key, value in entry.items()]
    listed.write_text(text + "- " + "\n  ".join(lines) + "\n")


def all_pictures() -> None:
    """Make every page, and a picture of each."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("pictures need Chromium: install it")
    os.chdir(ROOT)
    PLACE.mkdir(parents=True, exist_ok=True)
    GALLERY.mkdir(parents=True, exist_ok=True)
    addresses = {name: make() for name, (make, _, _) in PAGES.items()}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (_, height, shows) in PAGES.items():
            there = addresses[name]
            address = there if isinstance(there, str) else there.resolve().as_uri()
            note(name, shows, pictured(browser, address, height))
        browser.close()


if __name__ == "__main__":
    all_pictures()
