"""Watches what flows: leaks of labels into features, drift, and the counts from raw events to rows.

`guard` looks for features that know too much, `refuse` stops where one does, and the data report says what became of
the raw input on its way to the samples table.
"""

from onehull.monitor.findings import FeatureScore, Finding, LeakReport
from onehull.monitor.leakage import guard, refuse
from onehull.monitor.part import assemble_part

__all__ = ["FeatureScore", "Finding", "LeakReport", "assemble_part", "guard", "refuse"]
