"""Texts of prompts: shipped and own descriptions, answers of a server and of a local model."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from dark_probe import Probe
from PIL import Image
from tiny_models import SIDE, images_of, lesions, write_vilt, write_vqa

from segpref.prompts import Descriptions, Endpoint, GradCAM, LocalVQA, SaliencyPrompts, Target
from segpref.types import SegprefError


def test_descriptions_are_shipped_and_short() -> None:
    shipped = Descriptions()
    for structure in (
        "benign breast lesion", "malignant breast lesion", "left ventricle", "right ventricle",
        "myocardium", "hippocampus", "lung nodule", "lungs", "clavicles",
    ):  # fmt: skip
        assert structure in shipped.names()
    for name in shipped.names():
        # CLIP reads 77 tokens, and a word is rarely more than two.
        assert 10 < len(shipped(name).split()) <= 36
        assert shipped(name).endswith(".")
    assert shipped("Lungs") == shipped("lungs")
    with pytest.raises(SegprefError, match="know no 'gizzard'") as caught:
        shipped("gizzard")
    assert "\n" not in str(caught.value)


def test_own_descriptions(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"Gizzard": "A muscular stomach."}))
    assert Descriptions(file)("gizzard") == "A muscular stomach."
    for bad in ("[1]", '{"a": 3}', '{"a": " "}', "{"):
        file.write_text(bad)
        with pytest.raises(SegprefError, match=r"own\.json"):
            Descriptions(file)
    with pytest.raises(SegprefError, match="can't be read"):
        Descriptions(tmp_path / "missing.json")


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """A chat server on this machine that remembers what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, dict(self.headers), body))
            said: Any = {"choices": [{"message": {"content": " round, upper left \n"}}]}
            if body["model"] == "odd":
                said = {"nothing": 1}
            self.send_response(404 if body["model"] == "missing" else 200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1", asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_endpoint_is_asked_and_images_stay_here(
    server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server
    monkeypatch.setenv("MY_KEY", "secret")
    image = images_of(lesions(1))[0]
    ask = Endpoint(url + "/", "any", key_variable="MY_KEY")
    assert ask(image, "What is the shape of the lesion?") == "round, upper left"
    path, headers, body = asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "What is the shape of the lesion?"}]}
    ]
    assert "image" not in json.dumps(body)

    Endpoint(url, "any", send_images=True, key_variable="NO_KEY")(image, "?")
    _, headers, body = asked[1]
    assert "Authorization" not in headers
    sent = body["messages"][0]["content"][1]["image_url"]["url"]
    picture = Image.open(io.BytesIO(base64.b64decode(sent.partition(",")[2])))
    assert picture.size == (SIDE, SIDE)
    for model, says in (("odd", "another form"), ("missing", "does not answer")):
        with pytest.raises(SegprefError, match=says):
            Endpoint(url, model)(image, "?")
    with pytest.raises(SegprefError, match="not the address of a server"):
        Endpoint("localhost", "any")


def test_answer_and_description_are_one_text(server: tuple[str, list[Any]]) -> None:
    url, asked = server
    prompter = SaliencyPrompts(
        Probe(), [Target("heart")], GradCAM(), descriptions=Descriptions(),
        answerer=Endpoint(url, "any"),
    )  # fmt: skip
    (prompt,) = prompter(images_of(lesions(1)))[0]
    assert prompt.text == "round, upper left " + Descriptions()("heart")
    question = asked[0][2]["messages"][0]["content"][0]["text"]
    assert question == "What is the shape of the heart and where is it located?"


def test_a_local_model_answers(tmp_path: Path) -> None:
    write_vqa(tmp_path)
    image = images_of(lesions(1))[0]
    vqa = LocalVQA(str(tmp_path), max_new_tokens=4, device="cpu")
    said = vqa(image, "what is the shape of the lesion ?")
    assert isinstance(said, str)
    assert vqa(image, "what is the shape of the lesion ?") == said
    assert vqa.key() == LocalVQA(str(tmp_path), max_new_tokens=4, device="cpu").key()
    with pytest.raises(SegprefError, match="can't be loaded"):
        LocalVQA(str(tmp_path / "nothing"))


def test_a_local_model_chooses_among_its_answers(tmp_path: Path) -> None:
    write_vilt(tmp_path)
    vqa = LocalVQA(str(tmp_path), device="cpu")
    images = images_of(lesions(6))
    said = [vqa(image, "what is the shape of the lesion ?") for image in images]
    assert set(said) <= {"round", "oval", "irregular"}
    assert said == [vqa(image, "what is the shape of the lesion ?") for image in images]
    with torch.no_grad():
        vqa._model.classifier[-1].bias[2] += 100
    assert vqa(images[0], "what is the shape of the lesion ?") == "irregular"
