"""Text prompts from a visual question answering model."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.request
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from segpref.checking import checked
from segpref.extras import needed
from segpref.networks import weights_digest
from segpref.prompts.checkpoints import pretrained
from segpref.prompts.clip import rgb
from segpref.runtime import runtime
from segpref.types import SegprefError

__all__ = ["QUESTION", "Answerer", "Endpoint", "LocalVQA"]

QUESTION = "What is the shape of the {structure} and where is it located?"


@runtime_checkable
class Answerer(Protocol):
    """Answers a question about an image."""

    def __call__(self, image: Any, question: Any) -> Any:
        """The answer as a string; an empty one where it has none."""
        ...

    def key(self) -> dict[str, object]:
        """What the answers depend on."""
        ...


@checked(max_new_tokens={"least": 1})
class LocalVQA:
    """A visual question answering model of transformers on this machine (BLIP, BLIP-2, ViLT).

    The paper's MedVInT is not in transformers; any model of that class with its processor will do.

    Args:
        name: local folder, or name on the Hugging Face hub.
        template: how the question is put; the paper's is ``Question: {question}, Answer is:``.
        max_new_tokens: longest answer of a model that writes.
        device: where it runs; the runtime's if None.
    """

    def __init__(
        self,
        name: str,
        template: str = "{question}",
        max_new_tokens: int = 40,
        device: str | None = None,
    ) -> None:
        transformers = needed("transformers", "promptable")
        self.name = name
        self.template = template
        self.max_new_tokens = max_new_tokens
        self._device = runtime().device if device is None else torch.device(device)
        # The processors that work on PIL images need no torchvision.
        self._processor = pretrained(transformers.AutoProcessor, name, "a processor", backend="pil")
        model = pretrained(
            transformers.AutoModelForVisualQuestionAnswering, name, "a question answering model"
        )
        self._model = model.eval().requires_grad_(False).to(self._device)

    def __call__(self, image: Float[Tensor, "channel H W"], question: str) -> str:
        """The answer."""
        asked = self.template.format(question=question)
        inputs = self._processor(images=_picture(image), text=asked, return_tensors="pt")
        inputs = inputs.to(self._device)
        with torch.no_grad():
            if self._model.can_generate():
                tokens = self._model.generate(
                    **inputs, max_new_tokens=self.max_new_tokens, do_sample=False
                )
                said = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
            else:
                best = int(self._model(**inputs).logits[0].argmax())
                said = self._model.config.id2label[best]
        return str(said).strip()

    def key(self) -> dict[str, object]:
        """What the answers depend on."""
        return {
            "vqa": weights_digest(self._model.state_dict()),
            "template": self.template,
            "longest": self.max_new_tokens,
        }


@checked(timeout_s={"above": 0}, max_tokens={"least": 1})
class Endpoint:
    """A server that speaks OpenAI's chat protocol: ``POST {url}/chat/completions``.

    Nobody is asked unless this class is named. Only the question goes out: the image stays on this
    machine unless ``send_images`` says otherwise.

    Args:
        url: base of the server's addresses, such as ``http://localhost:8000/v1``.
        model: which of its models.
        send_images: whether images leave this machine; for data of patients this needs a permission
            that no program can give.
        key_variable: environment variable that holds the key; none is sent where it is not set.
        timeout_s: how long an answer may take.
        max_tokens: longest answer.

    Raises:
        SegprefError: the address is not http or https.
    """

    def __init__(
        self,
        url: str,
        model: str,
        send_images: bool = False,
        key_variable: str = "OPENAI_API_KEY",
        timeout_s: float = 60.0,
        max_tokens: int = 80,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise SegprefError(
                f"{url!r} is not the address of a server: give one such as http://localhost:8000/v1"
            )
        self.url = url.rstrip("/")
        self.model = model
        self.send_images = send_images
        self.key_variable = key_variable
        self.timeout_s = timeout_s
        self.max_tokens = max_tokens

    def __call__(self, image: Float[Tensor, "channel H W"], question: str) -> str:
        """The answer.

        Raises:
            SegprefError: the server can't be reached or says something else than an answer.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": question}]
        if self.send_images:
            content.append({"type": "image_url", "image_url": {"url": _data_url(image)}})
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if secret := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {secret}"
        request = urllib.request.Request(
            f"{self.url}/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                found = json.load(response)
            return str(found["choices"][0]["message"]["content"]).strip()
        except OSError as error:
            raise SegprefError(
                f"{self.url} does not answer ({error}): start the server, or correct its address or key"
            ) from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise SegprefError(
                f"{self.url} answers in another form than OpenAI's chat protocol: check the address"
            ) from error

    def key(self) -> dict[str, object]:
        """What the answers depend on."""
        return {"endpoint": self.url, "model": self.model, "images": self.send_images}


def _picture(image: Float[Tensor, "channel H W"]) -> Image.Image:
    pixels = rgb(image[None])[0].movedim(0, -1).mul(255).round().to(torch.uint8)
    return Image.fromarray(np.asarray(pixels.cpu()))


def _data_url(image: Float[Tensor, "channel H W"]) -> str:
    buffer = io.BytesIO()
    _picture(image).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
