"""Watches what flows: leaks of labels into features, drift, and the counts from raw events to rows."""
