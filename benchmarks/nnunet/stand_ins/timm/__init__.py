"""Stands in for timm, which needs torchvision.

nnU-Net imports it to look for any trainer but its first; no network that is built here uses it.
"""

from __future__ import annotations
