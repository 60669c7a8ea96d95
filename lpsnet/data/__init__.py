"""Data sets, their samples and their transforms."""
