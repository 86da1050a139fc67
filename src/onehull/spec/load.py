"""From a YAML file, or a mapping, to a `Spec`, with every fault reported at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from onehull.errors import DataError, Fault, SpecError, suggest
from onehull.spec.check import cross_faults
from onehull.spec.document import Spec
from onehull.spec.draft import Draft
from onehull.spec.schema import keys_at, spec_schema


def load_spec(source: str | Path | Mapping[str, Any]) -> Spec:
    """Reads and checks a spec.

    Args:
        source: path of a YAML file, or the document as a mapping.

    Returns:
        The validated, frozen document.

    Raises:
        SpecError: with one `Fault` for each broken rule.
        DataError: the file cannot be read.
    """
    spec, faults = validate(read_document(source))
    if spec is None or faults:
        raise SpecError(faults, "spec" if isinstance(source, Mapping) else str(source))
    return spec


def read_document(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """The raw document; a mapping passes through.

    Raises:
        SpecError: the file is not YAML, or not a mapping.
        DataError: the file cannot be read.
    """
    return source if isinstance(source, Mapping) else _read_yaml(Path(source))


def validate(document: Mapping[str, Any]) -> tuple[Spec | None, list[Fault]]:
    """Checks a document; returns the spec (None if its structure is wrong) and all faults."""
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        details = error.errors()
        faulty = [_document_path(d["loc"], document, missing=d["type"] == "missing") for d in details]
        across = cross_faults(Draft.from_document(document, faulty))
        return None, [_fault(d, document) for d in details] + with_lines(across, document)
    return spec, with_lines(cross_faults(Draft.from_spec(spec)), document)


def dump_spec(spec: Spec) -> str:
    """The spec as JSON text that `load_spec` reads back (JSON is YAML)."""
    return json.dumps(spec.model_dump(mode="json"), indent=2) + "\n"


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark is not None else 1
        fault = Fault(f"line {line}", f"is not valid YAML: {error.problem}", has_value=False)
        raise SpecError([fault], str(path)) from error
    if not isinstance(document, Mapping):
        fault = Fault("the document", "must be a mapping of sections", document)
        raise SpecError([fault], str(path))
    return document


def _fault(details: ErrorDetails, document: Mapping[str, Any]) -> Fault:
    path = _document_path(details["loc"], document, missing=details["type"] == "missing")
    place = _place(path, document)
    match details["type"]:
        case "extra_forbidden":
            known = keys_at(spec_schema(), document, path[:-1])
            return Fault(place, "is not a known key", details["input"], suggest(path[-1], known))
        case "missing":
            return Fault(place, "is required", has_value=False)
        case "union_tag_invalid" | "union_tag_not_found":
            context = details.get("ctx", {})
            key = str(context.get("discriminator", "kind")).strip("'")
            known = [tag.strip("'") for tag in str(context.get("expected_tags", "")).split(", ") if tag]
            tag = context.get("tag")
            known = known or keys_at(spec_schema(), document, path)
            if tag is None:
                return Fault(f"{place}.{key}", "is required", has_value=False, remedy=suggest("", known))
            return Fault(f"{place}.{key}", "is not a known kind", tag, suggest(tag, known))
        case _:
            return Fault(place, _rule(details["msg"]), details["input"])


def _rule(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "must be").replace("Input should", "must")
    message = message.replace("String should", "must").replace("Dictionary should", "must")
    message = message.replace("Tuple should", "must")
    return message[:1].lower() + message[1:]


def _document_path(loc: tuple[int | str, ...], document: Any, *, missing: bool) -> tuple[int | str, ...]:
    """Drops from pydantic's location what is not in the document (the tags of unions)."""
    path: list[int | str] = []
    node = document
    for index, part in enumerate(loc):
        present = isinstance(node, Mapping) and part in node
        present = present or (isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node))
        if present:
            node = node[part]
            path.append(part)
        elif missing and index == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _place(path: tuple[int | str, ...], document: Any) -> str:
    line = _line(path, document)
    dotted = ".".join(str(part) for part in path) or "the document"
    return f"line {line}: {dotted}" if line else dotted


def _line(path: tuple[int | str, ...], document: Any) -> int | None:
    """Line of the deepest key of the path that the YAML reader has a position for."""
    line, node = None, document
    for part in path:
        marks = getattr(node, "lc", None)
        if marks is None or marks.data is None or part not in marks.data:
            break
        line = marks.data[part][0] + 1
        node = node[part]
    return line


def with_lines(faults: Iterable[Fault], document: Any) -> list[Fault]:
    """Adds line numbers to faults whose place is a dotted path."""
    return [replace(fault, place=_place(tuple(fault.place.split(".")), document)) for fault in faults]
