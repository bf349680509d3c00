"""A backend of ``torch.compile`` that counts what runs compiled, and runs it operation by operation.

Results are those without it to the bit, and nothing takes the time of a compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Counting:
    """A backend that counts what it compiles, and how often that runs."""

    def __init__(self) -> None:
        self.compiled = self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.compiled += 1

        def run(*inputs: Any) -> Any:
            self.runs += 1
            return graph.forward(*inputs)

        return run

    def ran(self, call: Callable[[], Any]) -> tuple[int, Any]:
        """How many graphs ran in a call, and what it gave."""
        before = self.runs
        result = call()
        return self.runs - before, result
