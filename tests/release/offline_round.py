"""A round of votes as a user makes it: the commands of an installed wheel, and the page in Chromium.

Runs in a network namespace of its own, where nothing is reached but this machine, and prints what
happened as JSON. The browser is that of the test environment; every command of segpref is the wheel's.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import re
import shutil
import socket
import struct
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright
from tests.release.installed import Installed
from tests.waiting import FAILED_S

KEYS = {"ArrowLeft": "left", "ArrowRight": "right", "=": "tie"}
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1  # man 7 netdevice
MAKE_PHANTOMS = 'import segpref; segpref.phantoms("data", size=(48, 48), patients=16)'
WHERE_FROM = """
import json, sys
import segpref
print(json.dumps({"segpref": segpref.__file__, "path": sys.path}))
"""


def raise_loopback() -> None:
    """Switch on the one interface of a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(one, SIOCGIFFLAGS, asked), 16)
        fcntl.ioctl(one, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def reached_outside() -> bool:
    """Whether there is a way to another machine; the address is kept for documentation (RFC 5737)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.setblocking(False)
        try:
            one.connect(("192.0.2.1", 80))
        except BlockingIOError:  # on its way
            return True
        except OSError:
            return False
        return True


def vote_in_chromium(address: str, link: str) -> dict[str, Any]:
    """Answer everything that a rater is asked, by keyboard; what was answered and requested."""
    requested: list[str] = []
    errors: list[str] = []
    answers: list[dict[str, Any]] = []
    options = {"args": ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), **options)
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.set_default_timeout(FAILED_S * 1000)
        context.on("request", lambda request: requested.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(link)
        page.locator("#begin").click()
        for key in itertools.cycle(KEYS):
            page.wait_for_selector('#done:visible, #compare[data-phase="ready"]')
            if page.locator("#done").is_visible():
                break
            answers.append(answer(page, key))
        browser.close()
    origins = sorted({origin_of(one) for one in requested})
    return {
        "address": address, "answers": answers, "origins": origins, "requests": len(requested),
        "errors": errors,
    }  # fmt: skip


def answer(page: Page, key: str) -> dict[str, Any]:
    """Press a key; practice questions are followed by their answer, which is read and closed."""
    practice = page.locator("#practice").is_visible()
    with page.expect_response("**/api/votes") as sent:
        page.keyboard.press(key)
    if practice:
        page.wait_for_selector("#notice:visible")
        page.keyboard.press("Enter")
    return {"practice": practice, "status": sent.value.status, "choice": KEYS[key]}


def origin_of(url: str) -> str:
    """Scheme, host and port; what a page makes by itself (``blob:``) has its page's origin."""
    parts = urlsplit(url.removeprefix("blob:"))
    return f"{parts.scheme}://{parts.netloc}"


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found is not None
    return found


def main(programs: Path, folder: Path) -> None:
    raise_loopback()
    one = Installed(programs, folder)
    told: dict[str, Any] = {"reached outside": reached_outside()}
    told["imported"] = json.loads(one.run("python", "-c", WHERE_FROM))
    one.run("python", "-c", MAKE_PHANTOMS)
    data = ["--data", "data", "--data_options.patient_pattern", r"(phantom\d+)"]
    one.run("segpref", "fit", *data, "--labelled", "3", "--out", "runs/base", "--epochs", "8",
            "--images_per_epoch", "64", "--preparation.size", "[48, 48]")  # fmt: skip
    one.run("segpref", "collect", "init", "--model", "runs/base", *data, "--out", "study",
            "--images", "8", "--pairs_per_image", "2", "--candidates", "16")  # fmt: skip
    with one.serving("study") as address:
        links = one.run(
            "segpref", "collect", "raters", "study", "--address", address, "--add", "anna"
        )
        found = re.search(r"anna +(http\S+#\S+)", links)
        assert found, links
        told["page"] = vote_in_chromium(address, found[1])
    told["raters"] = one.run("segpref", "collect", "raters", "study")
    told["report"] = one.run("segpref", "collect", "report", "study")
    one.run("segpref", "align", "--model", "runs/base", *data, "--votes", "study",
            "--out", "runs/voted", "--epochs", "2", "--images_per_epoch", "16")  # fmt: skip
    one.run("segpref", "evaluate", *data, "--model", "runs/voted", "--out", "scores.csv")
    print(json.dumps(told))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
