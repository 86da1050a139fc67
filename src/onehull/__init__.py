"""OneHull: multi-task ranking with one shared bottom and a tower for each task.

A model scores each task; a balancer turns task statistics into task weights; a formula turns task scores into one
order. The verbs of the command line are functions of `onehull.pipeline`; the two that are used most stand here::

    import onehull

    onehull.simulate("world", users=500, items=300, days=6)
    result = onehull.run("recipes/video_feed.yaml", data="world", out="runs/feed")
    print(result.report.tasks["click"].metrics["auc"])

Nothing heavy is imported before it is used: ``import onehull`` loads neither TensorFlow nor Polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onehull.errors import OneHullError
    from onehull.export import open_bundle
    from onehull.fusion import parse_formula
    from onehull.model import MultiTaskModel
    from onehull.pipeline import check, run
    from onehull.spec import Spec, load_spec
    from onehull.world import simulate

_HOMES = {
    "MultiTaskModel": "onehull.model",
    "OneHullError": "onehull.errors",
    "Spec": "onehull.spec",
    "check": "onehull.pipeline",
    "load_spec": "onehull.spec",
    "open_bundle": "onehull.export",
    "parse_formula": "onehull.fusion",
    "run": "onehull.pipeline",
    "simulate": "onehull.world",
}

__all__ = [
    "MultiTaskModel",
    "OneHullError",
    "Spec",
    "check",
    "load_spec",
    "open_bundle",
    "parse_formula",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onehull' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
