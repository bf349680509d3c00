"""What a training learns: one task per file; see :class:`segpref.training.Task`."""
