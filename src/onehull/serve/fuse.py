"""The formula of a request, and its value over the scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from onehull.errors import Fault, SpecError
from onehull.fusion import Formula, parse_formula
from onehull.serve.engine import Array
from onehull.serve.refusal import RefusalError
from onehull.serve.requests import RankRequest


def request_formula(default: Formula, request: RankRequest, tasks: Mapping[str, str]) -> Formula:
    """The formula of a request: another one, or other weights, where it asks for them.

    Raises:
        RefusalError: 422 with the faults of the formula and its weights.
    """
    try:
        formula = default if request.formula is None else parse_formula(request.formula, tasks)
    except SpecError as error:
        faults = [Fault("formula", fault.rule, fault.value, fault.remedy) for fault in error.faults]
        raise RefusalError(422, faults) from error
    try:
        return formula.with_weights(request.weights) if request.weights else formula
    except SpecError as error:
        places = [fault.place.removeprefix("formula.") for fault in error.faults]
        faults = [Fault(p, f.rule, f.value, f.remedy) for p, f in zip(places, error.faults, strict=True)]
        raise RefusalError(422, faults[:20]) from error


def fused_scores(formula: Formula, scores: Mapping[str, Array], count: int) -> NDArray[np.float64]:
    """The formula's value of each candidate, float64 ``(K,)``."""
    fused = formula({task: values for task, values in scores.items() if values.ndim == 1})
    return np.array(np.broadcast_to(fused, (count,)), dtype=np.float64)
