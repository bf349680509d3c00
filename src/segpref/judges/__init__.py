"""Judges give every candidate of a slate a score; one class per way of judging."""

from segpref.judges.model import ModelJudge
from segpref.judges.oracle import OracleJudge

__all__ = ["ModelJudge", "OracleJudge"]
