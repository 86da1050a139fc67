"""The bundle: SavedModel, LiteRT model, spec, transform, formula, metrics and statistics in one checked directory.

`open_bundle` reads one without TensorFlow; `export_bundle` writes the next version and refuses to finish
when the exported forms disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onehull.export.bundle import Bundle, bundle_versions, open_bundle

if TYPE_CHECKING:
    from onehull.export.write import export_bundle

__all__ = ["Bundle", "bundle_versions", "export_bundle", "open_bundle"]


def __getattr__(name: str) -> Any:
    # Writing needs TensorFlow, reading must not load it.
    if name == "export_bundle":
        from onehull.export.write import export_bundle

        return export_bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
