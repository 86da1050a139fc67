"""A simulated population of a short-video app, with known true probabilities.

It writes what a real app would log: impressions, clicks, watch time, likes and purchases that come hours later, with
duplicates, late lines and broken lines in between. It is the embedded input of the demo and the ground truth of tests.
Everything made from it is simulated and says so (``SIMULATED.json``).
"""

from onehull.world.simulate import WorldSummary, ensure_world, simulate
from onehull.world.summary import summary_table

__all__ = ["WorldSummary", "ensure_world", "simulate", "summary_table"]
