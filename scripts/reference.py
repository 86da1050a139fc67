"""Writes what is generated from the code: ``spec.schema.json``, and the pages of the spec and of the command line.

``python scripts/reference.py`` writes the files; a test compares them, so that they cannot drift.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from onehull.cli.app import VERBS, build_app
from onehull.spec import schema_text, spec_schema

ROOT = Path(__file__).parents[1]


def generated() -> dict[Path, str]:
    """Every generated file and what it must contain."""
    return {
        ROOT / "spec.schema.json": schema_text(),
        ROOT / "docs" / "reference" / "spec.md": "\n".join(_spec_page()) + "\n",
        ROOT / "docs" / "reference" / "command-line.md": "\n".join(_command_page()) + "\n",
    }


def _spec_page() -> Iterator[str]:
    schema = spec_schema()
    yield "# The spec"
    yield ""
    yield "One YAML file, or the same objects in Python (`onehull.Spec`). A key that is not known is a fault."
    yield "This page is generated from the code (`make reference`)."
    for name, section in schema["properties"].items():
        yield from ["", f"## `{name}`", ""]
        if "description" in section:
            yield section["description"]
        for definition in _definitions(section, schema):
            yield from _section(definition, schema["$defs"][definition], schema)


def _section(name: str, section: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    yield from ["", f"### {name}", "", section.get("description", "").replace("\n", " "), ""]
    yield "| key | type | default | |"
    yield "|---|---|---|---|"
    for key, value in section.get("properties", {}).items():
        if "const" in value:
            yield f"| `{key}` | `{value['const']}` | | |"
            continue
        default = f"`{value['default']}`" if "default" in value and value["default"] not in (None, {}) else ""
        required = "required" if key in section.get("required", ()) else default
        text = " ".join(value.get("description", "").split()).replace("|", "\\|")
        yield f"| `{key}` | {_type(value, schema)} | {required} | {text} |"


def _definitions(section: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Definitions that a section refers to, nested ones after it, each once."""
    found: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, Mapping):
            reference = node.get("$ref")
            if isinstance(reference, str):
                name = reference.rsplit("/", 1)[-1]
                if name not in found:
                    found.append(name)
                    visit(schema["$defs"][name])
            for key, value in node.items():
                if key not in ("$ref", "discriminator"):
                    visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(section)
    return found


def _type(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in value:
        return f"[{value['$ref'].rsplit('/', 1)[-1]}](#{value['$ref'].rsplit('/', 1)[-1].lower()})"
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    options = value.get("anyOf") or value.get("oneOf")
    if options:
        names = [_type(option, schema) for option in options if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(names))
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}), schema)}"
    return str(value.get("type", "value"))


def _command_page() -> Iterator[str]:
    # The help is rendered at a fixed width and without colour, wherever it runs.
    os.environ.update({"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "_TYPER_FORCE_DISABLE_TERMINAL": "1"})
    runner = CliRunner()
    yield "# Command line"
    yield ""
    yield "Generated from the code (`make reference`). Exit codes: 0 done, 1 an error that the message explains,"
    yield "2 a fault of the spec or of the command line, 130 interrupted (the same command continues)."
    for arguments in ([], *([verb.__name__.rsplit(".", 1)[-1]] for verb in VERBS)):
        result = runner.invoke(build_app(), [*arguments, "--help"], prog_name="onehull", terminal_width=100)
        lines = [line.rstrip() for line in result.output.strip("\n").splitlines()]
        yield from ["", f"## `{' '.join(['onehull', *arguments])}`", "", "```text", *lines, "```"]


def main() -> None:
    """Writes all generated files."""
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
