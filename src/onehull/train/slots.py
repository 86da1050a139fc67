"""What optimizers and balancers keep beside the weights, in a file that a grown model can take over.

A checkpoint continues the same training and so compares variables by their number; this file starts another one, a day
later: variables are found by name, and the rows of embedding tables by their features.
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.model import FeatureEmbeddings, MultiTaskModel
from onehull.model.embedding_table import Place, write_rows
from onehull.spec.inputs import UNSEEN_ID
from onehull.train.checkpoint import write_atomically

_LOG = logging.getLogger(__name__)
_PLACES = "places"
_COUNTED = re.compile(r"\bseed_generator(_\d+)?\b")
"""Keras numbers the generators of a whole process."""

Places = dict[str, dict[str, Place]]
"""Path of a layer of embeddings → feature → where its rows stand."""


@dataclass(frozen=True)
class RowMoves:
    """Where the rows of a table go when features grow.

    Attributes:
        old_rows: rows of the old table.
        ranges: first row in the new table, first row in the old one, and number of rows, for each feature.
        fresh_N: rows of the new table whose id is new, int64.
        unseen_N: for each of them, the row that its id had shared until now.
    """

    old_rows: int
    ranges: tuple[tuple[int, int, int], ...]
    fresh_N: np.ndarray
    unseen_N: np.ndarray

    def write(self, variable: Any, old: np.ndarray) -> None:
        """Writes the rows of an old table, or of one of its slots, in their new places; new ids keep what they have."""
        value = variable.value
        fresh = tf.gather(value, self.fresh_N)
        for new_start, old_start, rows in self.ranges:
            write_rows(variable, new_start, old[old_start : old_start + rows])
        scatter(variable, self.fresh_N, fresh)

    def share_unseen(self, variable: Any) -> None:
        """Starts new ids from the row that they have shared until now."""
        scatter(variable, self.fresh_N, tf.gather(variable.value, self.unseen_N))


def places_of(model: keras.Model) -> Places:
    """Where the rows of each feature stand, in every layer of embeddings."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, FeatureEmbeddings)]
    return {layer.path: layer.places for layer in layers}


def row_moves(model: keras.Model, old: Places, fresh: Mapping[str, np.ndarray]) -> dict[str, RowMoves]:
    """Where the rows of old tables go in a model.

    Args:
        model: the grown model.
        old: places in the old one.
        fresh: by feature, rows whose id is new (`onehull.features.new_rows`). Default of a feature: the rows that the
            old one has not.

    Returns:
        By path of the table's variable.

    Raises:
        ValueError: a feature is not the old one's, is narrower or wider, or has fewer rows.
    """
    found: dict[str, RowMoves] = {}
    for layer in model._flatten_layers():
        if not isinstance(layer, FeatureEmbeddings):
            continue
        before = old.get(layer.path, {})
        _check_places(layer.path, before, layer.places)
        for table in layer.tables.values():
            found[table.table.path] = _moves_of_table(table.places, before, fresh)
    return found


def save_slots(path: Path, model: MultiTaskModel) -> Path:
    """Writes the optimizers' and the balancer's variables of a compiled model.

    Raises:
        ArtifactError: it cannot be written; an earlier one is intact.
    """
    arrays = {f"{part}/{key}": np.asarray(v) for part, own in _parts(model).items() for key, v in own.items()}
    places = {layer: dict(features) for layer, features in places_of(model).items()}
    arrays[_PLACES] = np.asarray(json.dumps(places))
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays), "The last good one is intact.")
    return path


def restore_slots(path: Path, model: MultiTaskModel, fresh: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Puts saved variables into a compiled model whose optimizers are built.

    An optimizer or a balancer of another kind than the saved one starts anew, and so do the slots of new ids. Where
    the learning rate follows a schedule, the steps are counted from 0: a schedule describes one training.

    Args:
        path: of `save_slots`.
        model: the model, perhaps with more rows.
        fresh: by feature, rows whose id is new.

    Returns:
        The parts that started anew: ``optimizer``, ``embedding_optimizer``, ``state`` (of the balancer), ``draws`` (of
        dropout).

    Raises:
        ArtifactError: the file is absent or damaged.
    """
    arrays, old_places = _read(path)
    moves = {f"{table.replace('/', '_')}_": found for table, found in row_moves(model, old_places, fresh).items()}
    anew = []
    for part, variables in _parts(model).items():
        saved = {key.removeprefix(f"{part}/"): array for key, array in arrays.items() if key.startswith(f"{part}/")}
        plan = {key: _moves_of(key, moves) for key in variables}
        if saved.keys() == variables.keys() and all(_fits(variables[k], saved[k], plan[k]) for k in saved):
            for key, variable in variables.items():
                _put(variable, saved[key], plan[key])
        else:
            anew.append(part)
            _LOG.warning("%s of %s are of another kind than the model's, which start anew", part, path)
    for optimizer in filter(None, (model.optimizer, model.embedding_optimizer)):
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        if isinstance(inner._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            inner.iterations.assign(0)
    return tuple(anew)


def keyed(variables: Iterable[Any], name: str = "path") -> dict[str, Any]:
    """Keras variables under a key that is the same in every process; equal names are numbered."""
    seen: Counter[str] = Counter()
    found = {}
    for variable in variables:
        key = _COUNTED.sub("seed_generator", str(getattr(variable, name)))
        found[f"{key}:{seen[key]}" if seen[key] else key] = variable
        seen[key] += 1
    return found


def scatter(variable: Any, rows_N: np.ndarray, values: Any) -> None:
    """Writes some rows of a Keras variable in place, on every device that has a copy."""
    if len(rows_N):
        for component in getattr(variable.value, "values", (variable.value,)):
            component.scatter_update(tf.IndexedSlices(tf.cast(values, component.dtype), tf.constant(rows_N)))


def _check_places(layer: str, before: Mapping[str, Place], after: Mapping[str, Place]) -> None:
    for name, place in after.items():
        old = before.get(name)
        if old is None or (old.table, old.dim) != (place.table, place.dim) or old.rows > place.rows:
            received = "none" if old is None else f"{old.rows} × {old.dim}"
            rule = f"must have no more rows than now, {place.rows}, and the width {place.dim}"
            raise ValueError(f"{layer}: the old rows of feature {name!r} {rule}. Received {received}.")
    gone = [name for name in before if name not in after]
    if gone:
        raise ValueError(f"{layer}: every feature of the old model must be in this one. Missing: {gone}.")


def _moves_of_table(
    places: Mapping[str, Place], before: Mapping[str, Place], fresh: Mapping[str, np.ndarray]
) -> RowMoves:
    ranges = tuple((place.start, before[name].start, before[name].rows) for name, place in places.items())
    parts: list[np.ndarray] = [np.zeros(0, np.int64)]
    unseen: list[np.ndarray] = [np.zeros(0, np.int64)]
    for name, place in places.items():
        rows_N = np.asarray(fresh.get(name, np.arange(before[name].rows, place.rows)), np.int64)
        parts.append(place.start + rows_N)
        unseen.append(np.full(len(rows_N), place.start + UNSEEN_ID))
    old_rows = sum(rows for _, _, rows in ranges)
    return RowMoves(old_rows, ranges, np.concatenate(parts), np.concatenate(unseen))


def _parts(model: MultiTaskModel) -> dict[str, dict[str, Any]]:
    """Variables by part and key; what the spec sets and what counts mishaps of this run is left out.

    Of the model's own variables, ``draws`` has the states of dropout, which Keras does not save with its layers.
    """
    optimizers = {"optimizer": model.optimizer, "embedding_optimizer": model.embedding_optimizer}
    parts = {name: keyed(one.variables, "name") for name, one in optimizers.items() if one is not None}
    for variables in parts.values():
        variables.pop("learning_rate", None)
    state = {key: variable for key, variable in model.training_state.items() if key != "not_finite"}
    draws = {key: v for key, v in keyed(model.non_trainable_variables).items() if "seed_generator" in key}
    return {**parts, "state": state, "draws": draws}


def _moves_of(key: str, moves: Mapping[str, RowMoves]) -> RowMoves | None:
    """The moves of the table that a slot belongs to."""
    return next((found for prefix, found in moves.items() if key.startswith(prefix)), None)


def _fits(variable: Any, saved: np.ndarray, moves: RowMoves | None) -> bool:
    shape = tuple(variable.shape)
    return saved.shape == shape if moves is None else saved.shape == (moves.old_rows, *shape[1:])


def _put(variable: Any, saved: np.ndarray, moves: RowMoves | None) -> None:
    if moves is None:
        variable.assign(saved)
    else:
        moves.write(variable, saved)


def _read(path: Path) -> tuple[dict[str, np.ndarray], Places]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        places = json.loads(str(arrays.pop(_PLACES)))
        return arrays, {k: {name: Place(*place) for name, place in v.items()} for k, v in places.items()}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path} holds no optimizer of a trained model: {error}. Export the bundle again."
        ) from error
