"""Benchmarks: ``python -m benchmarks.NAME [--profile fast|full]`` prints a table, then one JSON object on the last line."""
