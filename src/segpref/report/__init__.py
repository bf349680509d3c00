"""Tables, charts and pages of runs, audits and studies, from recorded figures."""
