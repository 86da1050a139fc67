"""The report on a part of the samples: metrics on each task's own rows, comparison with confidence, one HTML page.

`evaluate` computes a `Report`, which is data (``report.json``); `write_report` also draws it as one HTML file that
needs nothing from the network; `report_table` shows it in the terminal.
"""

from onehull.evaluate.evaluation import evaluate
from onehull.evaluate.report import Report
from onehull.evaluate.table import report_table
from onehull.evaluate.write import write_report

__all__ = ["Report", "evaluate", "report_table", "write_report"]
