"""Training tasks, one per file; see :class:`segpref.training.Task`."""
