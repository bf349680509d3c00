"""What keeps the page from being served is one sentence; what it says when it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.vote_studies import small_contents
from tests.web.served_studies import made_study
from tests.web.server_process import free_port

from segpref.cli.main import main
from segpref.collect import contents_digest
from segpref.types import SegprefError
from segpref.web import Origin, ServeConfig, open_store, serve


def refused(folder: Path, **options: Any) -> str:
    """The sentence with which a study is not served."""
    with pytest.raises(SegprefError) as told:
        serve(folder, config=ServeConfig(**options), ready=lambda _: pytest.fail("it is served"))
    return str(told.value)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    study = made_study(tmp_path / "study")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        assert refused(study.path, port=port) == (
            f"port {port} is taken by another program: choose another --port"
        )
    assert not (study.path / "served").exists()


@pytest.mark.parametrize("host", ["no such host", "203.0.113.7", "300.1.1.1"])
def test_a_host_that_is_not_this_machine(tmp_path: Path, host: str) -> None:
    assert "correct --host" in refused(made_study(tmp_path / "study").path, host=host)


def test_a_study_that_is_served_already(tmp_path: Path) -> None:
    study = made_study(tmp_path / "study")
    program = (
        "import sys; from pathlib import Path; from segpref.locking import alone_in\n"
        "with alone_in(Path(sys.argv[1])): print('here', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(study.path / "served")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == b"here\n"
        told = refused(study.path, port=0)
        assert told.startswith(f"another process is running in {study.path / 'served'}")
        assert f"process {other.pid}" in told
        other.communicate()


def test_no_study_and_anothers_votes(tmp_path: Path) -> None:
    assert "segpref collect init" in refused(tmp_path / "nothing")
    study = made_study(tmp_path / "study")
    other = made_study(tmp_path / "other", small_contents(2))
    open_store(other, study.database).close()
    told = refused(study.path, port=0)
    assert "another study" in told
    assert "--database" in told


def test_a_store_is_filled_once_with_the_studys_rules(tmp_path: Path) -> None:
    study = made_study(tmp_path / "study", settings={"repeats": 0.25, "gold": 0.0})
    for _ in range(2):
        with open_store(study) as store:
            assert (store.rules.repeats, store.rules.gold) == (0.25, 0.0)
            assert contents_digest(store.contents()) == contents_digest(study.contents())
            assert store.database.path == study.database


@pytest.mark.parametrize(
    ("address", "behind_tls"),
    [("votes.test", False), ("ftp://votes.test", False), ("http://votes.test/study", False),
     ("http://votes.test", True), ("https://", True), ("", False),
     ("https://anna@votes.test", True), ("https://votes.test?a=1", True),
     ("https://votes.test#a", True),
     ("https://votes.test:99999", True), ("https://votes..test", True), ("https://[::1", True)],
)  # fmt: skip
def test_an_address_that_is_none(address: str, behind_tls: bool) -> None:
    with pytest.raises(SegprefError, match="address"):
        Origin.of(address, behind_tls=behind_tls)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://votes.test:443", "votes.test"),
        ("http://votes.test:80/", "votes.test"),
        ("https://Votes.test:8443", "votes.test:8443"),
        ("https://klinik-münchen.test", "xn--klinik-mnchen-3ob.test"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_address_is_what_browsers_send(address: str, host: str) -> None:
    origin = Origin.of(address)
    assert origin.answers(host)
    assert origin.is_own(f"{address.split(':')[0]}://{host}", host)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
    ],
)
def test_other_machines_are_warned_of(host: str, local: bool) -> None:
    assert ServeConfig(host=host).is_local is local
    assert ServeConfig(host=host).is_open is not local
    assert not ServeConfig(host=host, behind_tls=True).is_open


def test_the_command_refuses_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "serve", str(tmp_path / "nothing")]) == 1
    told = capsys.readouterr()
    assert (told.out + told.err).count("segpref collect serve:") == 1
    assert "Traceback" not in told.out + told.err


@pytest.mark.slow
def test_the_command_says_where_the_page_is_and_ends_with_a_signal(tmp_path: Path) -> None:
    study = made_study(tmp_path / "study")
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "segpref.cli.main", "collect", "serve", str(study.path),
         "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "COLUMNS": "500", "OMP_NUM_THREADS": "1"},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        first, second = server.stdout.readline(), server.stdout.readline()
        assert f"http://127.0.0.1:{port} " in first
        assert f"segpref collect raters {study.path}" in second
        server.terminate()
        rest, _ = server.communicate()
    assert server.returncode == 128 + 15
    assert "Traceback" not in rest
