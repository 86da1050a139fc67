"""Yesterday's model as the beginning of today's: every weight in its place, more rows where vocabularies have grown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from onehull.errors import ArtifactError
from onehull.features import Transform, new_rows
from onehull.model import MultiTaskModel
from onehull.records.manifest import file_sha256
from onehull.spec.inputs import ModelInput
from onehull.train.slots import keyed, places_of, restore_slots, row_moves

NewIds = Literal["unseen", "initial"]
"""Where the row of a new id starts: at the row that its id has shared with all unseen ones until now, so that growing
changes no prediction; or at what a model that has never been trained would have there."""

Precision = Literal["float32", "bfloat16"]

_REMEDY = "Train it anew with: onehull run, or go back to the spec of the trained model."
_SHOWN = 8


@dataclass(frozen=True)
class Start:
    """A trained model that training goes on from.

    Attributes:
        model: its file, ``model.keras``.
        slots: file of its optimizers' and balancer's variables (`onehull.train.slots`); None starts those anew.
        before: the transform that it was trained with.
        after: the transform of the rows that it will be trained on, grown from `before`.
        new_ids: where the rows of new ids start.
    """

    model: Path
    slots: Path | None
    before: Transform
    after: Transform
    new_ids: NewIds = "unseen"

    @cached_property
    def digest(self) -> str:
        """Key of everything that the beginning depends on."""
        files = [None if path is None else file_sha256(path) for path in (self.model, self.slots)]
        fresh = {name: hashlib.sha256(rows_N.tobytes()).hexdigest() for name, rows_N in self.fresh.items()}
        return hashlib.sha256(json.dumps([files, fresh, self.new_ids]).encode()).hexdigest()

    @cached_property
    def fresh(self) -> dict[str, np.ndarray]:
        """By feature, rows whose id is new."""
        return new_rows(self.before, self.after)

    def begin(self, *, precision: Precision | None = None) -> MultiTaskModel:
        """The model with its weights and the rows of today's ids; not compiled.

        Args:
            precision: see `grow_model`.

        Raises:
            ArtifactError: the file is absent or damaged.
        """
        old = load_model(self.model)
        return grow_model(old, self.after.inputs, self.fresh, new_ids=self.new_ids, precision=precision)

    def go_on(self, model: MultiTaskModel) -> tuple[str, ...]:
        """Puts slots and balancer state into the model when it is compiled.

        Returns:
            The parts that start anew, because nothing was saved or because they are of another kind.

        Raises:
            ArtifactError: the file is absent or damaged.
        """
        model.build_optimizers()
        if self.slots is None:
            return ("optimizer", "embedding_optimizer", "state", "draws")
        return restore_slots(self.slots, model, self.fresh)


def load_model(path: Path) -> MultiTaskModel:
    """Loads ``model.keras`` without what `compile` added.

    Raises:
        ArtifactError: the file is absent, damaged, or no model of OneHull's.
    """
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path} holds no trained model: {error}. Train it with: onehull run") from error
    if not isinstance(model, MultiTaskModel):
        raise ArtifactError(f"{path} must hold a MultiTaskModel. Received {type(model).__name__}.")
    return model


def grow_model(
    old: MultiTaskModel,
    inputs: Sequence[ModelInput],
    fresh: Mapping[str, np.ndarray] | None = None,
    *,
    new_ids: NewIds = "unseen",
    precision: Precision | None = None,
) -> MultiTaskModel:
    """A model like another one, with more rows; not compiled.

    It is made from the old one's own description. What its heads took from the labels of the first training, such as
    the thresholds of a distribution, is thereby kept: learned weights mean nothing without it.

    Args:
        old: a trained model.
        inputs: of the new model: those of the old one, perhaps with more rows.
        fresh: by feature, rows whose id is new. Default: the rows that the old model has not.
        new_ids: where the rows of new ids start.
        precision: what the layers calculate in, as in `onehull.model.build_model`. Default: as in the old model.

    Raises:
        ArtifactError: the inputs are not those of the old model, or it has more rows.
    """
    config = _with_rows(old.get_config(), {item.name: item for item in inputs})
    if precision is not None:
        config = _with_policy(config, "float32" if precision == "float32" else f"mixed_{precision}")
    grown = MultiTaskModel.from_config(config)
    warm_start(grown, old, fresh, new_ids=new_ids)
    return grown


def warm_start(
    model: keras.Model,
    old: keras.Model,
    fresh: Mapping[str, np.ndarray] | None = None,
    *,
    new_ids: NewIds = "unseen",
) -> None:
    """Copies every variable of a model into one of the same architecture, which may have more rows in its tables.

    Args:
        model: gets the values. It is built; variables are matched by path, rows by feature.
        old: has them.
        fresh: by feature, rows of `model` whose id is new. Default: the rows that the old one has not.
        new_ids: where the rows of new ids start.

    Raises:
        ArtifactError: a variable is in one of the models only, or has another shape; nothing is copied then.
    """
    variables, found = keyed(model.variables), keyed(old.variables)
    try:
        moves = row_moves(model, places_of(old), fresh or {})
    except ValueError as error:
        raise ArtifactError(f"the trained model cannot begin this one: {error} {_REMEDY}") from error
    _check_same(variables, found, set(moves))
    for path, variable in variables.items():
        if path not in moves:
            variable.assign(found[path])
            continue
        moves[path].write(variable, np.asarray(found[path]))
        if new_ids == "unseen":
            moves[path].share_unseen(variable)


def _check_same(variables: Mapping[str, Any], found: Mapping[str, Any], tables: set[str]) -> None:
    faults = [
        *(f"{path} is new" for path in variables if path not in found),
        *(f"{path} is gone" for path in found if path not in variables),
        *(
            f"{path} was {tuple(found[path].shape)} and is {tuple(variable.shape)}"
            for path, variable in variables.items()
            if path in found and path not in tables and found[path].shape != variable.shape
        ),
    ]
    if faults:
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        rule = "the trained model must have the variables of this one"
        raise ArtifactError(f"{rule}. Received: {'; '.join(faults[:_SHOWN])}{more}. {_REMEDY}")


def _with_rows(config: Any, wanted: Mapping[str, ModelInput]) -> Any:
    """A model's description in which every encoded input has today's number of rows, wherever it stands."""
    if isinstance(config, list | tuple):
        return [_with_rows(part, wanted) for part in config]
    if not isinstance(config, dict):
        return config
    if config.keys() != ModelInput.model_fields.keys():
        return {key: _with_rows(part, wanted) for key, part in config.items()}
    item = wanted.get(config["name"])
    if item is None or item.model_dump(mode="json", exclude={"rows"}) != {
        k: v for k, v in config.items() if k != "rows"
    }:
        received = "none" if item is None else repr(item)
        rule = f"must be as the trained model has it, {config}, with no fewer rows"
        raise ArtifactError(f"input {config['name']!r} {rule}. Received {received}. {_REMEDY}")
    return {**config, "rows": item.rows}


def _with_policy(config: Any, policy: str) -> Any:
    """A model's description whose layers calculate by another policy; those that need float32 keep it themselves."""
    if isinstance(config, list | tuple):
        return [_with_policy(part, policy) for part in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {"name": policy}}
    return {key: _with_policy(part, policy) for key, part in config.items()}
