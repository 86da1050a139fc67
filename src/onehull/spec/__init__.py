"""What is wanted: one validated document. No framework is imported here."""

from onehull.spec.document import Spec
from onehull.spec.load import dump_spec, load_spec, read_document, validate, with_lines
from onehull.spec.schema import schema_text, spec_schema

__all__ = ["Spec", "dump_spec", "load_spec", "read_document", "schema_text", "spec_schema", "validate", "with_lines"]
