"""The formula that turns the scores of all tasks into one order.

A formula is data: `parse_formula` reads ``click^1.0 * (1 + watch)^0.5 + 4 * like - 20 * hate`` into an immutable
tree, checked against the tasks. A `Formula` prints itself, names its tunable numbers, and computes the same value
in NumPy and, with `tensorflow_ops`, inside a TensorFlow graph. Nothing is ever passed to ``eval``.
"""

from onehull.fusion.formula import Formula, default_formula, parse_formula
from onehull.fusion.tensorflow_ops import tensorflow_ops

__all__ = ["Formula", "default_formula", "parse_formula", "tensorflow_ops"]
