"""Logs in, samples out: impressions joined with the feedback that belongs to them, missing labels kept missing.

`assemble` makes one table from an event log (JSON Lines, plain or gzip) or from ready-made tables; `data_faults` says
beforehand what the data lack. The way through the room::

    lines ─► decode ─► join ─► labels ─┐
                                       ├─► split ─► entities ─► samples.parquet, report.json
    tables ─► columns ─► labels ───────┘
    rejected lines ─► quarantine.jsonl

Every line of a log ends in exactly one count of the report, and every impression in exactly one sample.
"""

from onehull.events.assemble import assemble
from onehull.events.entities import load_entities
from onehull.events.inspect import data_faults
from onehull.events.log import Progress
from onehull.events.report import AssemblyReport, LogBooks, TaskLabels, read_report, report_table
from onehull.events.sources import feature_sources

__all__ = [
    "AssemblyReport",
    "LogBooks",
    "Progress",
    "TaskLabels",
    "assemble",
    "data_faults",
    "feature_sources",
    "load_entities",
    "read_report",
    "report_table",
]
