"""The command line: `segpref COMMAND`, one module per command."""
