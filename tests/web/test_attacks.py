"""What somebody who is no rater, or a rater who wants more, might try: nothing of it works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.vote_studies import Clock, small_contents
from tests.web.served_studies import HOST, OWN, Page, Served, ballot, made_study, served

from segpref.collect import Contents, write_display
from segpref.web import AttemptLimit, Origin, create_app

UP = [
    "../x", "..%2fx", "%2e%2e%2fx", "..%5cx", "....//x", "%252e%252e%252fx", "..%c0%afx", "%00",
    "/etc/passwd", "%2fetc%2fpasswd", "C:%5cx", "%ef%bc%8e%ef%bc%8e%2fx", "a" * 5000, "%ff%fe", "-1",
    "1e1", "0x1", "%31%20", "01", "999999999999999999999", "٣",
]  # fmt: skip
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


def hearts(folder: Path, **options: Any) -> Any:
    """A study in which two raters are asked about every pair."""
    study = made_study(folder / "study", small_contents(4, votes=2))
    return served(folder, study, **options)


def stored(at: Served) -> int:
    return len(list(at.store.votes()))


@pytest.fixture
def heart_voter(tmp_path: Path) -> Iterator[tuple[Served, Page, Any]]:
    """A rater in front of a comparison that was opened."""
    with hearts(tmp_path) as at:
        anna = at.rater()
        yield at, anna, anna.opened()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Page, Any]]:
    """The same for many tests, in which nothing is ever stored."""
    with hearts(tmp_path_factory.mktemp("refusing"), limit=AttemptLimit(most=10_000)) as at:
        anna = at.rater()
        yield at, anna, anna.opened()
        assert stored(at) == 0


# -- paths -----------------------------------------------------------------------------------------


def test_no_path_leads_out_of_the_study(refusing: tuple[Served, Page, Any]) -> None:
    at, anna, task = refusing
    number = task["assignment"]
    (at.study.path.parent / "x").write_text("secret")
    (at.study.path / "x").write_text("secret")
    for name in UP:
        paths = [
            f"/{name}", f"/static/{name}", f"/api/{name}",
            f"/api/assignments/{name}/image/axial/0", f"/api/assignments/{number}/{name}/axial/0",
            f"/api/assignments/{number}/image/{name}/0",
            f"/api/assignments/{number}/masks/axial/{name}",
            f"/api/practice/{name}/answer",
        ]  # fmt: skip
        for path in paths:
            answer = anna.client.get(path, headers=OWN)
            assert answer.status_code == 404, path
            assert "secret" not in answer.text
            assert "root:" not in answer.text


def test_only_the_pages_own_files_are_served(tmp_path: Path) -> None:
    with hearts(tmp_path) as at:
        client = at.client()
        page = client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        for name in ("page.js", "page.css"):
            kind = client.get(f"/{name}").headers["content-type"]
            assert kind.startswith(f"text/{'javascript' if name.endswith('js') else 'css'}")
        for name in (
            "app.py",
            "__init__.py",
            "docs",
            "redoc",
            "openapi.json",
            "study.json",
            "static",
        ):
            assert client.get(f"/{name}").status_code == 404, name


# -- other raters ----------------------------------------------------------------------------------


def test_anothers_comparison_is_as_if_there_were_none(tmp_path: Path) -> None:
    with hearts(tmp_path) as at:
        anna, bert = at.rater("anna"), at.rater("bert")
        task = anna.opened()
        asked = {"slice": "image/axial/0", "mask": "masks/axial/0"}
        for path in asked.values():
            others = bert.get(f"assignments/{task['assignment']}/{path}")
            none = bert.get(f"assignments/{'x' * 22}/{path}")
            assert others.status_code == none.status_code == 404
            assert others.content == none.content
            assert dict(others.headers) == dict(none.headers)
        others = bert.post("votes", ballot(task))
        none = bert.post("votes", ballot({**task, "assignment": "x" * 22}))
        assert others.status_code == none.status_code == 404
        assert others.content == none.content
        assert bert.get(f"practice/{task['assignment']}/answer").status_code == 404
        assert stored(at) == 0
        assert anna.post("votes", ballot(task)).status_code == 201
        assert bert.post("undo", {"uuid": ballot(task)["uuid"]}).status_code in (404, 409)
        assert all(row.counts for row in at.store.votes())
        # Its uuid cannot be taken for another vote.
        own = bert.opened()
        assert bert.post("votes", ballot(own)).status_code == 409
        assert stored(at) == 1


@pytest.mark.parametrize(
    "path",
    ["study", "assignments/x/image/axial/0", "assignments/x/masks/axial/0", "practice/x/answer"],
)
def test_nobody_gets_anything_without_a_session(tmp_path: Path, path: str) -> None:
    with hearts(tmp_path) as at:
        nobody = Page(at.client())
        assert nobody.get(path).status_code == 401
        for cookie in (
            "x",
            "",
            "a" * 43,
            "\x01",
            "%00",
            "' OR 1=1 --",
            "é".encode().decode("latin-1"),
        ):
            headers = {"Cookie": f"segpref={cookie}".encode("latin-1")}
            assert nobody.get(path, **headers).status_code == 401  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["next", "votes", "undo", "leave"])
def test_nobody_changes_anything_without_a_session(
    refusing: tuple[Served, Page, Any], path: str
) -> None:
    assert Page(refusing[0].client()).post(path).status_code == 401


# -- links and sessions ----------------------------------------------------------------------------


def test_a_link_lets_in_once_and_not_after_its_time(tmp_path: Path) -> None:
    clock = Clock()
    with hearts(tmp_path, store={"clock": clock}) as at:
        first, late = at.store.add_rater("anna"), at.store.add_rater("bert")
        at.store.add_rater("carl")
        replaced = at.store.new_link("carl")
        at.store.new_link("carl")
        assert Page(at.client(), first).get("study").status_code == 200
        clock.now += timedelta(days=at.store.rules.link_days, seconds=1)
        for token in (first, late, replaced, "x" * 43, "", "é", "x" * 300, None, 5, ["x"]):
            answer = Page(at.client()).post("enter", {"token": token})
            assert answer.status_code in (400, 401), token
            assert "set-cookie" not in answer.headers


def test_sessions_end_with_their_time_and_with_their_rater(tmp_path: Path) -> None:
    clock = Clock()
    with hearts(tmp_path, store={"clock": clock}) as at:
        anna, bert = at.rater("anna"), at.rater("bert")
        task = bert.opened()
        at.store.revoke("bert")
        assert bert.get(f"assignments/{task['assignment']}/image/axial/0").status_code == 401
        assert bert.post("votes", ballot(task)).status_code == 401
        assert stored(at) == 0
        assert anna.get("study").status_code == 200
        clock.now += timedelta(days=at.store.rules.session_days, seconds=1)
        assert anna.get("study").status_code == 401


def test_the_cookie_is_strict(tmp_path: Path) -> None:
    for secure in (False, True):
        origin = Origin.of("https://votes.test" if secure else "http://votes.test")
        folder = tmp_path / str(secure)
        folder.mkdir()
        with hearts(folder, origin=origin) as at:
            client = at.client(base_url=origin.address)
            headers = {**OWN, "Origin": origin.address}
            token = at.store.add_rater("anna")
            answer = client.post("/api/enter", json={"token": token}, headers=headers)
            assert answer.status_code == 204
            told = {one.strip().lower() for one in answer.headers["set-cookie"].split(";")}
            assert {"httponly", "samesite=strict", "path=/"} <= told
            assert ("secure" in told) is secure
            assert not [one for one in told if one.startswith("domain")]
            assert ("strict-transport-security" in answer.headers) is secure


def test_who_guesses_links_has_to_wait(tmp_path: Path) -> None:
    now = [0.0]
    limit = AttemptLimit(most=5, within_s=60, clock=lambda: now[0])
    with hearts(tmp_path, limit=limit) as at:
        token = at.store.add_rater("anna")
        nobody = Page(at.client())
        told = [nobody.post("enter", {"token": "x" * 43}).status_code for _ in range(7)]
        assert told == [401] * 5 + [429] * 2
        answer = nobody.post("enter", {"token": token})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "61"
        now[0] = 61.0
        assert nobody.post("enter", {"token": token}).status_code == 204  # it was not used up


def test_links_that_count_are_never_too_many() -> None:
    now = [0.0]
    limit = AttemptLimit(most=2, within_s=10, clock=lambda: now[0])
    for at in (0.0, 6.0, 11.0):
        now[0] = at
        assert limit.wait_s("a") == 0
        limit.failed("a")
    assert limit.wait_s("a") == 5.0  # the failure at 6 counts until 16
    assert limit.wait_s("b") == 0
    for number in range(20_000):
        limit.failed(str(number))
    assert len(limit._failures) <= 10_000


# -- votes -----------------------------------------------------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000
FORGED: dict[str, Any] = {
    "choice": ["accept", "best-0", "undo", "LEFT", "", None, 1, ["left"], "left\x00"],
    "confidence": [0, 4, -1, 1.5, "2", True, 10**30, [1]],
    "shown_ms": [-1, 2**31, 10**400, 1.5, "1", True],
    "uuid": ["", "x", "0" * 32, "{00000000-0000-4000-8000-000000000000}", None, 1, "é", "\ud800",
             "00000000-0000-4000-8000-00000000000A"],
    "slices_seen": [[], "axial", {"axial": 1}, {"axial": ["x"]}, {"up": [1]}, {"axial": [-1]},
                    {"axial": [True]}, {"axial": [1.5]}, {"axial": [10**20]}, {"axial": {"0": 1}}],
    "window": [[], [1], [1, 2, 3], "12", {"a": 1, "b": 2}, [None, 1], [10**400, 1], [True, 1],
               ["1", "2"], 5],
    "voted_at": ["", "now", 5, "2026-03-01T08:00:00", "0001-01-01T00:00:00+14:00",
                 "9999-12-31T23:59:59-14:00", [], "2026-03-01"],
    "sides": [[1, 0]],
    "rater": ["bert"],
    "rater_id": [1],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(k, v) for k, some in FORGED.items() for v in some])
def test_a_forged_vote_is_refused(
    refusing: tuple[Served, Page, Any], name: str, value: Any
) -> None:
    at, anna, task = refusing
    body = json.dumps({**ballot(task), name: value})
    answer = anna.post("votes", content=body.encode())
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]
    assert stored(at) == 0


@pytest.mark.parametrize(
    "assignment", ["", "x\x00", "\ud800", "x" * 300, None, 1, "'; DROP TABLE vote"]
)
def test_a_vote_about_nothing_is_refused(
    refusing: tuple[Served, Page, Any], assignment: Any
) -> None:
    at, anna, task = refusing
    body = json.dumps(ballot({**task, "assignment": assignment}))
    assert anna.post("votes", content=body.encode()).status_code in (400, 404)
    assert stored(at) == 0


@pytest.mark.parametrize(
    "content",
    [
        DEEP, b"{" * 1000, b'{"a":' * 50_000, b"", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"\x00",
        b'{"uuid": NaN}', b'{"window": [Infinity, 1]}', b'{"uuid": "a", "uuid": "b"}',
        b'{"shown_ms": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["votes", "undo", "enter"])
def test_no_body_breaks_the_server(
    refusing: tuple[Served, Page, Any], path: str, content: bytes
) -> None:
    at, anna, _ = refusing
    answer = anna.post(path, content=content)
    assert answer.status_code in (400, 413), answer.text
    assert stored(at) == 0


@pytest.mark.parametrize("window", ["[NaN, 1]", "[1, Infinity]", "[1e999, 1]"])
def test_numbers_that_are_none_are_refused(refusing: tuple[Served, Page, Any], window: str) -> None:
    at, anna, task = refusing
    body = json.dumps(ballot(task)).replace("[40.0, 350.5]", window)
    assert window in body
    assert anna.post("votes", content=body.encode()).status_code == 400
    assert stored(at) == 0


def test_huge_bodies_are_cut_off(heart_voter: tuple[Served, Page, Any]) -> None:
    at, anna, task = heart_voter
    body = json.dumps(ballot(task)).encode()

    assert anna.post("votes", content=body + b" " * 300_000).status_code == 413
    assert stored(at) == 0
    assert anna.post("votes", content=body + b" " * 200_000).status_code == 201


def test_a_replayed_vote_changes_nothing(heart_voter: tuple[Served, Page, Any]) -> None:
    at, anna, task = heart_voter
    for _ in range(3):
        assert anna.post("votes", ballot(task)).status_code in (200, 201)
    anna.post("undo", {"uuid": ballot(task)["uuid"]})
    # The same vote again after it was taken back is the one that is stored: it stays taken back.
    assert anna.post("votes", ballot(task)).status_code in (200, 409)
    assert not [row for row in at.store.votes() if row.counts]


# -- other pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"X-Segpref": None}, 403),
        ({"X-Segpref": "0"}, 403),
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "https://votes.test"}, 403),
        ({"Origin": "http://votes.test:81"}, 403),
        ({"Origin": "http://votes.test.evil.test"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_other_pages_change_nothing(
    refusing: tuple[Served, Page, Any], changes: dict[str, str | None], status: int
) -> None:
    at, anna, task = refusing
    told = {**OWN, "Content-Type": "application/json", **changes}
    headers = {name: value for name, value in told.items() if value is not None}
    for path, body in (
        ("votes", ballot(task)),
        ("undo", {}),
        ("next", {}),
        ("leave", {}),
        ("enter", {}),
    ):
        content = json.dumps(body).encode()
        answer = anna.client.post(f"/api/{path}", content=content, headers=headers)
        assert answer.status_code == status, answer.text
    assert stored(at) == 0
    assert anna.get("study").status_code == 200


@pytest.mark.parametrize("path", ["votes", "undo", "next", "leave", "enter"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_nothing_changes_by_another_method(
    refusing: tuple[Served, Page, Any], path: str, method: str
) -> None:
    at, anna, _ = refusing
    headers = {**OWN, "Content-Type": "application/json"}
    answer = anna.client.request(method, f"/api/{path}", headers=headers)
    assert answer.status_code == 405
    assert stored(at) == 0
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("origin", "host", "answered"),
    [
        (Origin(HOST), "votes.test", True),
        (Origin(HOST), "VOTES.test", True),
        (Origin(HOST), "evil.test", False),
        (Origin(HOST), "votes.test.evil.test", False),
        (Origin.of(None, local=True), "127.0.0.1:8000", True),
        (Origin.of(None, local=True), "localhost", True),
        (Origin.of(None, local=True), "[::1]:8000", True),
        (Origin.of(None, local=True), "evil.test:8000", False),
        (Origin.of(None, local=True), "127.0.0.1.evil.test", False),
        (Origin.of(None), "10.0.0.7:8000", True),
        (Origin.of(None, behind_tls=True, local=True), "votes.hospital.example", True),
    ],
)
def test_only_its_own_names_are_answered(
    refusing: tuple[Served, Page, Any], origin: Origin, host: str, answered: bool
) -> None:
    at = refusing[0]
    client = TestClient(create_app(at.study, at.store, origin=origin))
    for path in ("/", "/api/study", "/nothing"):
        status = client.get(path, headers={"Host": host, "X-Segpref": "1"}).status_code
        assert (status != 421) is answered


# -- what is shown ---------------------------------------------------------------------------------


def test_every_answer_has_the_headers(heart_voter: tuple[Served, Page, Any]) -> None:
    at, anna, task = heart_voter
    number = task["assignment"]
    answers = [
        anna.client.get("/"), anna.client.get("/page.js"), anna.client.get("/nothing"),
        anna.client.get("/api/study"), anna.client.get("/", headers={"Host": "evil.test"}),
        anna.get("study"), anna.get(f"assignments/{number}/image/axial/0"), anna.get("nothing"),
        anna.get("votes"), anna.post("votes", content=b"x"), anna.post("votes", content=b" " * 400_000),
        anna.post("votes", ballot(task)), anna.post("votes", ballot(task, 1)), anna.post("leave"),
        anna.get("study"),
    ]  # fmt: skip
    at.store.rater_of = None  # what nobody foresees
    answers.append(anna.client.get("/api/study", headers={**OWN, "Cookie": "segpref=x"}))
    statuses = [answer.status_code for answer in answers]
    assert statuses == [
        200,
        200,
        404,
        403,
        421,
        200,
        200,
        404,
        405,
        400,
        413,
        201,
        409,
        204,
        401,
        500,
    ]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_names_go_out_as_json_alone(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    contents = small_contents(1)
    told = {"title": evil, "question": evil, "instructions": evil}
    study = made_study(tmp_path / "study", contents, **told)
    with served(tmp_path, study) as at:
        anna = at.rater()
        answer = anna.get("study")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["title"] == evil
        for name in ("/", f"/{evil}", f"/?{evil}"):
            assert evil not in anna.client.get(name).text


def secrets_of(contents: Contents) -> set[str]:
    """Everything that must not leave the server."""
    told: set[str] = set()
    for item in contents.items:
        told |= {item.id, item.case, item.patient, item.volume, item.display.asset}
    for mask in contents.masks:
        told |= {mask.id, mask.prepared_id, mask.display_id, mask.asset, mask.family}
    return (
        told
        | {one.id for one in contents.pairs}
        | {"chosen_by", "gold", "information", 'sides": ['}
    )


def test_no_answer_names_a_mask_an_image_or_a_patient(
    heart_voter: tuple[Served, Page, Any],
) -> None:
    at, anna, task = heart_voter
    number = task["assignment"]
    answers = [
        anna.get("study"), anna.post("next"), anna.get(f"assignments/{number}/image/axial/0"),
        anna.get(f"assignments/{number}/masks/axial/0"), anna.post("votes", ballot(task)),
        anna.post("undo", {"uuid": ballot(task)["uuid"]}), anna.get(f"practice/{number}/answer"),
    ]  # fmt: skip
    secrets = secrets_of(at.study.contents())
    for answer in answers:
        told = f"{answer.headers} {answer.text if 'json' in answer.headers['content-type'] else ''}"
        assert not [one for one in secrets if one in told]
    assert len(secrets) > 30


def test_nothing_but_the_pixels_tells_the_sides_apart(tmp_path: Path) -> None:
    """Both orders of a pair, and a pair of empty masks: the answers differ in ids and pixels only."""
    contents = small_contents(1, votes=40)
    study = made_study(tmp_path / "study", contents)
    seen: dict[tuple[int, ...], Any] = {}
    with served(tmp_path, study) as at:
        for i in range(40):
            page = at.rater(f"rater {i}")
            task = page.next()
            who = at.store.rater_of(page.client.cookies["segpref"])
            assert who is not None
            sides = at.store.assignment(who, task["assignment"]).sides
            answer = page.get(f"assignments/{task['assignment']}/masks/axial/2")
            seen.setdefault(sides, (task, answer))
            if len(seen) == 2:
                break
    (one, left), (other, right) = seen[0, 1], seen[1, 0]
    assert {**one, "assignment": ""} == {**other, "assignment": ""}
    assert dict(left.headers) == dict(right.headers)
    first, second = (
        np.frombuffer(each.content, np.uint8).reshape(2, 8, 8) for each in (left, right)
    )
    np.testing.assert_array_equal(first, second[::-1])
    assert not np.array_equal(first, second)


def test_the_size_of_an_answer_says_nothing_of_the_masks(tmp_path: Path) -> None:
    study = made_study(tmp_path / "study", small_contents(4))
    empty = [one.asset for one in study.contents().masks][:4]
    for asset in empty:
        write_display(study.path, asset, np.zeros((3, 8, 8), np.uint8))
    told = []
    with served(tmp_path, study) as at:
        anna = at.rater()
        for number in range(4):
            task = anna.next()
            path = f"assignments/{task['assignment']}"
            anna.get(f"{path}/image/axial/2")
            answer = anna.get(f"{path}/masks/axial/2", **{"Accept-Encoding": "gzip, br"})
            told.append((len(answer.content), dict(answer.headers)))
            anna.post("votes", ballot(task, number))
    assert told == [told[0]] * 4
    assert "content-encoding" not in told[0][1]
