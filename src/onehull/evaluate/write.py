"""Saves a report: all of a file or nothing of it."""

from __future__ import annotations

from pathlib import Path

from onehull.evaluate.page import render_page
from onehull.evaluate.report import Report
from onehull.files import write_whole

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


def write_report(report: Report, out_dir: str | Path) -> tuple[Path, Path]:
    """Writes ``report.json`` and ``report.html``; the same report gives the same bytes.

    Args:
        report: what `evaluate` returned.
        out_dir: directory, made where it is absent.

    Returns:
        Paths of the two files.

    Raises:
        ArtifactError: a file cannot be written; the one that stood there is intact.
    """
    directory = Path(out_dir)
    page = render_page(report)
    data_path, page_path = directory / REPORT_JSON, directory / REPORT_HTML
    write_whole(data_path, report.model_dump_json(indent=2) + "\n")
    write_whole(page_path, page)
    return data_path, page_path
