"""The table that assembly writes and everything after it reads: column names and id text.

One row a sample, one Parquet file, columns:

- ``sample``   String: id of the impression, or the row number of a ready-made table
- ``split``    String: ``train``, ``validation`` or ``test``
- ``time``     Datetime(us, UTC), null where the input has none
- ``user``, ``item``  String ids, null where the input has none
- ``x.NAME``   raw value of feature NAME: String (categorical), Float64 (numeric), List(String) (list),
  List(Float32) (vector); null is missing
- ``y.NAME``   Float64 label of task NAME on the label's own scale; null is a missing label
- ``repeats``  String, only where a task has ``late``: the task for which the training row repeats an earlier one, whose
  label was not final; its other labels are null. Null in all other rows
"""

from __future__ import annotations

import math
from typing import Literal, get_args

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)

SAMPLE, SPLIT, TIME, USER, ITEM = "sample", "split", "time", "user", "item"
REPEATS = "repeats"


def feature_column(feature: str) -> str:
    """Column of the samples table that holds a feature's raw value."""
    return f"x.{feature}"


def label_column(task: str) -> str:
    """Column of the samples table that holds a task's label."""
    return f"y.{task}"


def id_text(value: object) -> str | None:
    """The one text form of an id, so that 7, 7.0 and "7" are the same id everywhere; None is missing.

    Booleans are ``true`` and ``false``; an empty text, NaN and infinities are missing.
    """
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)
