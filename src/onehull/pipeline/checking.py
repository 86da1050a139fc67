"""Every fault of a spec at once: the document, its formula, the files and columns that it names, and its leaks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from onehull.errors import Fault, SpecError
from onehull.spec import Spec, read_document, validate, with_lines

if TYPE_CHECKING:
    from onehull.monitor import LeakReport


def check(
    source: str | Path | Mapping[str, Any], *, data: str | Path | None = None, console: Console | None = None
) -> Spec:
    """Checks a spec as far as it can be.

    Args:
        source: path of a YAML file, or the document as a mapping.
        data: directory of the data. When it is given, files and columns are looked for, and where there is no other
            fault, at most about ``leakage.rows`` samples are assembled and features that tell a label are faults.
        console: where warnings are shown. Default: nowhere.

    Returns:
        The spec, when it has no fault.

    Raises:
        SpecError: with one fault for each broken rule.
        DataError: the spec's file cannot be read, or the data are not as it says.
    """
    document = read_document(source)
    spec, faults = validate(document)
    faults += formula_faults(document)
    if spec is not None and data is not None:
        from onehull.events import data_faults

        faults += data_faults(spec, Path(data)) or ([] if faults else _leak_faults(spec, Path(data), console))
    if spec is None or faults:
        raise SpecError(faults, "spec" if isinstance(source, Mapping) else str(source))
    return spec


def formula_faults(document: Mapping[str, Any]) -> list[Fault]:
    """Faults of the fusion formula: how it is written, and the tasks that it names."""
    from onehull.fusion import parse_formula

    fusion, tasks = document.get("fusion"), document.get("tasks")
    text = fusion.get("formula") if isinstance(fusion, Mapping) else None
    if not isinstance(text, str) or not isinstance(tasks, Mapping):
        return []
    kinds = {str(name): str(task.get("kind")) for name, task in tasks.items() if isinstance(task, Mapping)}
    try:
        parse_formula(text, kinds)
    except SpecError as error:
        return with_lines(error.faults, document)
    return []


def show_warnings(report: LeakReport, console: Console) -> None:
    """What the guard warns of; it holds names of the user's, which are no markup."""
    for warning in report.warnings:
        console.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)


def _leak_faults(spec: Spec, data: Path, console: Console | None) -> list[Fault]:
    from onehull.monitor import assemble_part, guard

    with TemporaryDirectory(prefix="onehull-check-") as directory:
        samples = assemble_part(spec, data, Path(directory), spec.leakage.rows)
        report = guard(spec, samples, data)
    if console is not None:
        show_warnings(report, console)
    return [finding.fault() for finding in report.leaks]
