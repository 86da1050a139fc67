"""What every benchmark shares: the profile option, the machine's description, the table and the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

DATA = Path(os.environ.get("ONEHULL_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Where the public data sets are; they are not part of the repository."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments of every benchmark: ``--profile`` and ``--save``."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--profile", choices=["fast", "full"], default="fast", help="fast ends within five minutes")
    arguments.add_argument("--save", type=Path, metavar="FILE", help="also write the result, with the machine, here")
    return arguments


def machine() -> dict[str, Any]:
    """Processor, cores and versions: what a figure means nothing without."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("onehull", "tensorflow", "keras", "polars", "numpy")},
        "date": datetime.now(UTC).date().isoformat(),
    }


def finish(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], result: Mapping[str, Any], save: Path | None
) -> None:
    """Prints the table and, on the last line, the result as one JSON object; saves it when asked."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """A table of a page: a name and its value a row."""
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def place(page: Path, name: str, text: str) -> None:
    """Puts text between the marks ``<!-- results:NAME -->`` and ``<!-- /results -->`` of a page.

    Raises:
        ValueError: the page has no such marks.
    """
    head, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- results:{name} -->\n")
    _, end, tail = rest.partition("<!-- /results -->")
    if not mark or not end:
        raise ValueError(f"{page} must have the marks <!-- results:{name} --> and <!-- /results -->.")
    page.write_text(f"{head}{mark}{text}\n{end}{tail}", encoding="utf-8")
