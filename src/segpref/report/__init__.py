"""Tables, charts and pages of runs, audits and studies, from figures that are there."""
