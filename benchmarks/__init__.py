"""Benchmarks: ``python -m benchmarks.NAME`` prints a table, then one JSON object on the last line."""
