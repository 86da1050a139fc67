"""Watches what flows: leaks of labels into features, drift, and the counts from raw events to rows.

`guard` looks for features that know too much, and `refuse` stops where one does. `data_report` says what became of the
raw input on its way to the samples table; `write_data_report` writes it as JSON and as one HTML page, and
`data_report_table` shows it in the terminal.
"""

from onehull.monitor.data_report import data_report, write_data_report
from onehull.monitor.findings import FeatureScore, Finding, LeakReport
from onehull.monitor.leakage import guard, refuse
from onehull.monitor.part import assemble_part
from onehull.monitor.report import DataReport, read_data_report
from onehull.monitor.terminal import data_report_table

__all__ = [
    "DataReport",
    "FeatureScore",
    "Finding",
    "LeakReport",
    "assemble_part",
    "data_report",
    "data_report_table",
    "guard",
    "read_data_report",
    "refuse",
    "write_data_report",
]
