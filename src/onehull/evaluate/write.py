"""Saves a report: all of a file or nothing of it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from onehull.errors import ArtifactError
from onehull.evaluate.page import render_page
from onehull.evaluate.report import Report

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
    _replace(data_path, report.model_dump_json(indent=2) + "\n")
    _replace(page_path, page)
    return data_path, page_path


def _replace(path: Path, text: str) -> None:
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        remedy = "Free some space or choose another directory."
        raise ArtifactError(f"{path} cannot be written: {error}. An older one is intact. {remedy}") from error
