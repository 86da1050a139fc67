"""The command line: one verb a file, the same verbs as the Python functions."""

from onehull.cli.app import main

__all__ = ["main"]
