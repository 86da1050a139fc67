"""`onehull schema`: the JSON schema of a spec."""

from __future__ import annotations

import sys

EXAMPLES = "[bold]Example[/]  onehull schema > spec.schema.json"


def command() -> None:
    """Print the JSON schema of a spec, so that editors complete and check it."""
    from onehull.spec import schema_text

    sys.stdout.write(schema_text())
