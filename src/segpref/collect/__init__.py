"""Votes: sets of candidates that people compare, what they said, and where it is kept."""
