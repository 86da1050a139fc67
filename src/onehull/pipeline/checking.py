"""Every fault of a spec at once: the document, its formula, and the files and columns that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onehull.errors import Fault, SpecError
from onehull.spec import Spec, read_document, validate, with_lines


def check(source: str | Path | Mapping[str, Any], *, data: str | Path | None = None) -> Spec:
    """Checks a spec as far as it can be.

    Args:
        source: path of a YAML file, or the document as a mapping.
        data: directory of the data; files and columns are looked for when it is given.

    Returns:
        The spec, when it has no fault.

    Raises:
        SpecError: with one fault for each broken rule.
        DataError: the spec's file cannot be read.
    """
    document = read_document(source)
    spec, faults = validate(document)
    faults += formula_faults(document)
    if spec is not None and data is not None:
        from onehull.events import data_faults

        faults += data_faults(spec, Path(data))
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
