"""Make medical image segmenters better from preferences instead of pixel labels."""

__version__ = "0.1.0"
