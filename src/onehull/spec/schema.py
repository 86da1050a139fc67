"""The JSON schema of a spec, for editors, and a walk over it that tells which keys a place knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from onehull.spec.document import Spec


@cache
def spec_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the whole document."""
    schema = Spec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "OneHull spec"}


def schema_text() -> str:
    """The schema as it is committed in ``spec.schema.json``."""
    return json.dumps(spec_schema(), indent=2, ensure_ascii=False) + "\n"


def keys_at(schema: Mapping[str, Any], document: Any, path: Sequence[int | str]) -> list[str]:
    """Keys that the schema allows at a place of the document."""
    node: Any = _resolve(schema, schema, document)
    value = document
    for part in path:
        value = value[part] if value is not None else None
        node = _resolve(schema, _child(node, part), value)
    return list(node.get("properties", {}))


def _child(node: Mapping[str, Any], part: int | str) -> Mapping[str, Any]:
    """Schema of a named property, of any value of a mapping, or of an item of a list."""
    patterns = list(node.get("patternProperties", {}).values())
    options = [node.get("properties", {}).get(part), *patterns, node.get("additionalProperties"), node.get("items")]
    return next((option for option in options if isinstance(option, Mapping)), {})


def _resolve(root: Mapping[str, Any], node: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """Follows references, and picks the branch of a union that the document's own tag names."""
    if "$ref" in node:
        return _resolve(root, root["$defs"][node["$ref"].rsplit("/", 1)[-1]], value)
    tagged = node.get("discriminator")
    if tagged:
        tag = value.get(tagged["propertyName"]) if isinstance(value, Mapping) else None
        reference = tagged["mapping"].get(tag) or _default_branch(root, tagged)
        return _resolve(root, {"$ref": reference}, value) if reference else node
    for option in node.get("anyOf", ()):
        resolved = _resolve(root, option, value)
        if "properties" in resolved:
            return resolved
    return node


def _default_branch(root: Mapping[str, Any], tagged: Mapping[str, Any]) -> str | None:
    """The branch of a union that a document without a tag means: the one whose tag has a default."""
    for reference in tagged["mapping"].values():
        branch = root["$defs"][reference.rsplit("/", 1)[-1]]
        if "default" in branch["properties"][tagged["propertyName"]]:
            return str(reference)
    return None
