"""Stands in for timm.models."""

from __future__ import annotations
