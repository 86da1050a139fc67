"""The bundle that an update begins with: is it of the same model, and what do its statistics weigh today?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from onehull.errors import ArtifactError, Fault, SpecError
from onehull.export import Bundle, open_bundle
from onehull.features import Transform
from onehull.pipeline.cache import fingerprint
from onehull.spec import Spec
from onehull.spec.bundle import ID_COLUMN, POPULARITY_COLUMN, FeatureStatistics, Statistics, TaskStatistics

if TYPE_CHECKING:
    from onehull.train.warm_start import NewIds, Start

_NOT_LEARNED = {
    "features": {"min_count", "max_size", "column"},
    "tasks": {"label", "event", "window", "missing", "value", "scale", "duration", "loss", "huber_delta"},
}
"""Fields of a feature or a task that weights do not depend on: where values come from, and how errors are weighed."""


@dataclass(frozen=True)
class Yesterday:
    """A bundle, and how much of it counts today.

    Attributes:
        bundle: checked.
        decay: what counts and statistics of the bundle are worth today, 0 … 1.
        new_ids: where the rows of new ids start.
    """

    bundle: Bundle
    decay: float
    new_ids: NewIds

    @classmethod
    def open(cls, path: Path, spec: Spec, *, decay: float, new_ids: NewIds, source: str = "spec") -> Yesterday:
        """Opens a bundle that a model of a spec can begin with.

        Args:
            path: of one version, or of all of them: the latest is taken.
            spec: today's.
            decay: see above.
            new_ids: see above.
            source: what the spec is called in messages.

        Raises:
            ArtifactError: there is no bundle, it is damaged, or an older version of OneHull made it.
            SpecError: the spec describes another model; a fault for each difference.
            ValueError: `decay` is not in 0 … 1.
        """
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must be in 0 … 1. Received {decay}.")
        bundle = open_bundle(path)
        faults = list(differences(bundle.spec, spec))
        if faults:
            raise SpecError(faults, source)
        found = cls(bundle, decay, new_ids)
        _ = bundle.counts, found.directory  # asked for before anything is done
        return found

    @property
    def directory(self) -> Path:
        """The bundle's directory; its versions are the children.

        Raises:
            ArtifactError: the bundle does not stand in a directory of its version.
        """
        path = self.bundle.path.resolve()
        if path.name != str(self.bundle.manifest.version):
            rule = f"must be called {self.bundle.manifest.version}, the version that it holds"
            raise ArtifactError(f"{path} {rule}. Name it so, in a directory of its own for all versions.")
        return path.parent

    @cached_property
    def key(self) -> str:
        """Fingerprint of what an update takes from here."""
        return fingerprint(self.bundle.manifest.model_dump(mode="json"), self.decay, self.new_ids)

    def start(self, transform: Transform) -> Start:
        """What today's training begins with.

        Args:
            transform: today's, grown from the bundle's.
        """
        from onehull.train.warm_start import Start

        bundle = self.bundle
        return Start(bundle.keras_path, bundle.slots_path, bundle.transform, transform, self.new_ids)

    def statistics(self, today: Statistics) -> Statistics:
        """Statistics of all days so far, each day weighing `decay` times the one after it."""
        old = self.bundle.statistics
        train, validation = (self._weights(old.rows, today.rows, split) for split in ("train", "validation"))
        features = {
            name: FeatureStatistics(
                missing_share=_mean(old.features[name].missing_share, new.missing_share, train),
                unseen_share=_mean(old.features[name].unseen_share, new.unseen_share, validation),
            )
            for name, new in today.features.items()
        }
        splits = {*old.rows, *today.rows}
        rows = {split: round(sum(self._weights(old.rows, today.rows, split))) for split in sorted(splits)}
        tasks = {name: self._task(old.tasks.get(name), new) for name, new in today.tasks.items()}
        return Statistics(rows=rows, features=features, tasks=tasks)

    def items(self, today: pl.DataFrame | None, statistics: Statistics) -> pl.DataFrame | None:
        """Today's catalogue, with the popularity of all days so far.

        Args:
            today: the catalogue; its popularity is today's.
            statistics: today's, not yet mixed with yesterday's.
        """
        old = self.bundle.items
        if today is None or old is None:
            return today
        weights = self._weights(self.bundle.statistics.rows, statistics.rows, "train")
        before = old.select(ID_COLUMN, pl.col(POPULARITY_COLUMN).alias("before"))
        joined = today.join(before, on=ID_COLUMN, how="left", maintain_order="left")
        mixed = _mean(pl.col("before").fill_null(0.0), pl.col(POPULARITY_COLUMN), weights)
        return joined.with_columns(mixed.alias(POPULARITY_COLUMN)).drop("before")

    def _weights(self, old: Mapping[str, int], new: Mapping[str, int], part: str) -> tuple[float, float]:
        return self.decay * old.get(part, 0), float(new.get(part, 0))

    def _task(self, old: TaskStatistics | None, new: TaskStatistics) -> TaskStatistics:
        if old is None or old.mean_label is None or new.mean_label is None:
            return new
        weights = self.decay * old.labels, float(new.labels)
        mean = _mean(old.mean_label, new.mean_label, weights)
        return TaskStatistics(labels=round(sum(weights)), mean_label=mean, mean_prediction=new.mean_prediction)


def differences(old: Spec, new: Spec) -> Iterator[Fault]:
    """Faults of a spec whose model cannot begin with that of another one."""
    before, after = (_learned(spec) for spec in (old, new))
    remedy = "Take back the change, or train the model anew with: onehull run"
    for place, value in after.items():
        if place not in before:
            yield Fault(place, "must not be there: the bundle's model was trained without it", value, remedy)
        elif before[place] != value:
            yield Fault(place, f"must be {before[place]!r}, as in the bundle that training begins with", value, remedy)
    for place in before:
        if place not in after:
            yield Fault(place, "must be there: the bundle's model was trained with it", remedy=remedy, has_value=False)


def _learned(spec: Spec) -> dict[str, Any]:
    """What the weights of a model depend on, by place in the spec."""
    # The state of a balancer has a place for each task, in their order.
    found: dict[str, Any] = {"name": spec.name, "tasks": list(spec.tasks)}
    document = json.loads(spec.model_dump_json(include={"model", "features", "tasks"}))
    for section, parts in document.items():
        for name, part in parts.items():
            left_out = _NOT_LEARNED.get(section, set())
            if not isinstance(part, dict) or section == "model":
                found[f"{section}.{name}"] = part
            else:
                found.update({f"{section}.{name}.{key}": v for key, v in part.items() if key not in left_out})
    return found


def _mean(old: Any, new: Any, weights: tuple[float, float]) -> Any:
    """Weighted mean; today's value where nothing weighs anything."""
    return (weights[0] * old + weights[1] * new) / sum(weights) if sum(weights) else new
