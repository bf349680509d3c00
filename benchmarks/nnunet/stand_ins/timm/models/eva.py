"""Every name that is asked for is an empty class."""

from __future__ import annotations

from timm.layers import __getattr__  # noqa: F401
