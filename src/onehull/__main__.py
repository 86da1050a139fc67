"""``python -m onehull`` is the command line."""

from onehull.cli import main

main()
