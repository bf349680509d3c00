"""The version of segpref, which the package takes from here."""

__all__ = ["__version__"]

__version__ = "0.2.0"
