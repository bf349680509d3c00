"""What a command does in one call, for Python and for the command line."""

from segpref.workflows.align import Alignment, align
from segpref.workflows.audit import audit
from segpref.workflows.evaluate import Evaluation, evaluate
from segpref.workflows.fit import Fit, fit
from segpref.workflows.predict import predict

__all__ = ["Alignment", "Evaluation", "Fit", "align", "audit", "evaluate", "fit", "predict"]
