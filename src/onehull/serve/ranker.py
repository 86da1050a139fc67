"""Recall → score → fuse → order.

Shape suffixes: K candidates, N rows of the catalogue, F features, T tasks.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onehull.errors import Fault
from onehull.export import Bundle, open_bundle
from onehull.fusion import Formula
from onehull.serve.catalogue import EntityTable
from onehull.serve.context import ContextReader
from onehull.serve.engine import Array, Encoder, Scorer, open_engine
from onehull.serve.fuse import fused_scores, request_formula
from onehull.serve.presence import Presence
from onehull.serve.recall import Recall, most_popular
from onehull.serve.refusal import RefusalError
from onehull.serve.requests import RankRequest
from onehull.serve.response import RankedItem, RankResponse, Trace
from onehull.serve.stored import store_note
from onehull.store import StoredUsers, UserRead

_NO_ROWS: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for."""

    k: int = 20
    recall: int = 500
    max_candidates: int = 2000


@dataclass(frozen=True)
class Ranker:
    """Ranks items for a user.

    Attributes:
        model: name and version, for the answers.
        tasks: kind of each task.
        items: the catalogue.
        users: known users; None where the model has no user features.
        context: reads the context of a request.
        row_encoder: makes the scorer's inputs of one row of user and context.
        scorer: inputs → scores of every task.
        formula: scores → one number.
        recall: candidates where a request names none.
        row_ids: makes ids of that row, for the monitors; None where the row encoder does.
        unseen_in: features with a vocabulary.
        user_features: features that come from the user.
        user_id_features: those of them that read the user's id itself.
        limits: how much one request may ask for.
        encode_items: a table of items → a catalogue.
        stored: reads users' attributes of now; None: the bundle's are used.
    """

    model: Mapping[str, Any]
    tasks: Mapping[str, str]
    items: EntityTable
    users: EntityTable | None
    context: ContextReader
    row_encoder: Encoder
    scorer: Scorer
    formula: Formula
    recall: Recall
    row_ids: Encoder | None = None
    unseen_in: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ()
    user_id_features: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    encode_items: Callable[[pl.DataFrame], EntityTable] | None = None
    stored: StoredUsers | None = None

    @classmethod
    def open(cls, bundle: str | Path | Bundle, engine: Literal["litert", "savedmodel"] | None = None) -> Ranker:
        """Opens a bundle and encodes its catalogue.

        Args:
            bundle: a bundle, or its path.
            engine: what scores. Default: the spec's.

        Raises:
            ArtifactError: the bundle is damaged, or has no items to rank.
        """
        from onehull.serve.build import ranker_of

        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        return ranker_of(opened, open_engine(opened, engine or opened.spec.serving.engine))

    @property
    def features(self) -> tuple[str, ...]:
        """Every feature, in the order of the trace's counts: user, item, context."""
        return (*self.user_features, *self.items.features, *self.context.features)

    def with_items(self, items: pl.DataFrame) -> Ranker:
        """The same ranker on another table of items.

        Args:
            items: ``id``, ``x.FEATURE`` and ``show.FIELD``; how popular an item is, stays what the bundle says.

        Raises:
            ArtifactError: the table is empty, or lacks a feature.
        """
        assert self.encode_items is not None  # noqa: S101  the builder gives it
        catalogue = self.encode_items(items)
        return replace(self, items=catalogue, recall=most_popular(catalogue.popularity, catalogue.id_order_N))

    def rank(self, request: RankRequest) -> RankResponse:
        """Ranks.

        Raises:
            RefusalError: 422 with every fault of context, formula, weights and limits.
        """
        clock = _Clock()
        with clock.stage("encode"):
            formula, context = self._checked(request)
            rows_K, unknown = self._candidates(request)
            one, presence, read = self._one_row(request.user, context)
        with clock.stage("score"):
            scores = self._score(one, rows_K)
        with clock.stage("fuse"):
            fused_K = fused_scores(formula, scores, len(rows_K))
            order_K = np.lexsort((self.items.id_order_N[rows_K], np.where(np.isnan(fused_K), np.inf, -fused_K)))
        with clock.stage("answer"):
            answer = self._answer(request, formula, rows_K, unknown, scores, fused_K, order_K)
            notes = [*self._user_notes(request.user, read), *answer.pop("notes")]
        trace = replace(self._trace(rows_K, presence, scores, fused_K, clock.seconds), stored=read)
        return RankResponse(**answer, notes=notes, trace=trace)

    def _checked(self, request: RankRequest) -> tuple[Formula, Mapping[str, Any]]:
        """The request's formula and context; all their faults at once."""
        faults: list[Fault] = []
        formula, context = self.formula, {}
        try:
            formula = request_formula(self.formula, request, self.tasks)
        except RefusalError as rejection:
            faults += rejection.faults
        try:
            context = self.context.read(request.context)
        except RefusalError as rejection:
            faults += rejection.faults
        if request.candidates is not None and len(request.candidates) > self.limits.max_candidates:
            rule = f"must hold at most {self.limits.max_candidates} ids (serving.max_candidates)"
            faults.append(Fault("candidates", rule, len(request.candidates)))
        if faults:
            raise RefusalError(422, faults)
        return formula, context

    def _candidates(self, request: RankRequest) -> tuple[NDArray[np.int64], list[str]]:
        """Rows of the catalogue, each once, and the ids that are not in it."""
        if request.candidates is None:
            count = min(self.limits.recall, self.limits.max_candidates)
            return self.recall(request.user, count), []
        ids = dict.fromkeys(request.candidates)
        rows = [self.items.row_of[key] for key in ids if key in self.items.row_of]
        unknown = [key for key in ids if key not in self.items.row_of]
        return np.array(rows, dtype=np.int64) if rows else _NO_ROWS, unknown

    def _one_row(self, user: str, context: Mapping[str, Any]) -> tuple[dict[str, Array], Presence, UserRead | None]:
        """Inputs ``(1, …)`` of user and context, what of them is missing or unseen, and what the store said."""
        read = self.stored.read(user) if self.stored is not None else None
        values = read.values if read is not None else {}
        # What the store does not know, or does not say in time, the bundle may: an attribute of then, rather than none.
        known = self.users.row_of.get(user) if self.users is not None and not values else None
        raw = {name: [value] for name, value in context.items()}
        if known is None:
            own = {name: [user if name in self.user_id_features else values.get(name)] for name in self.user_features}
            raw |= own
        encoded = self.row_encoder.encode(raw, 1)
        one = {name: encoded[name] for name in raw}
        ids = encoded if self.row_ids is None else self.row_ids.encode(raw, 1)
        presence = Presence.measure(raw, ids, tuple(raw), self.unseen_in, 1)
        if known is not None and self.users is not None:
            one |= {name: self.users.inputs[name][known : known + 1] for name in self.user_features}
            presence = self.users.presence.row(known).beside(presence)
        return one, presence, read

    def _score(self, one: Mapping[str, Array], rows_K: NDArray[np.int64]) -> Mapping[str, Array]:
        if not len(rows_K):
            return {task: np.zeros(0, dtype=np.float32) for task in self.tasks}
        inputs = {name: np.repeat(value, len(rows_K), axis=0) for name, value in one.items()}
        inputs |= {name: table[rows_K] for name, table in self.items.inputs.items()}
        scores = self.scorer(inputs)
        return {task: scores[task] for task in self.tasks}

    def _answer(
        self,
        request: RankRequest,
        formula: Formula,
        rows_K: NDArray[np.int64],
        unknown: list[str],
        scores: Mapping[str, Array],
        fused_K: NDArray[np.float64],
        order_K: NDArray[np.int64],
    ) -> dict[str, Any]:
        """Fields of the response: one page of the order."""
        identity = secrets.token_hex(8)
        first = request.offset
        page = order_K[first : first + (request.k or self.limits.k)]
        columns = {task: _json_scores(values[page]) for task, values in scores.items()}
        records = self.items.records(rows_K[page].tolist())
        items = [
            RankedItem(
                id=record.id,
                rank=first + place + 1,
                score=_finite(fused_K[page[place]]),
                scores={task: values[place] for task, values in columns.items()},
                show=record.show,
                attributes=record.attributes,
                impression=f"{identity}-{first + place + 1}" if request.log else None,
            )
            for place, record in enumerate(records)
        ]
        return {
            "request": identity,
            "model": self.model,
            "formula": formula.text,
            "items": items,
            "candidates": len(rows_K),
            "unknown_candidates": unknown,
            "notes": self._notes(request, unknown, fused_K),
        }

    def _notes(self, request: RankRequest, unknown: Sequence[str], fused_K: NDArray[np.float64]) -> list[str]:
        notes = []
        if unknown:
            notes.append(f"{len(unknown)} candidates are not in the catalogue and were not ranked.")
        absent = [field for field in self.context.fields if request.context.get(field) is None]
        if absent:
            notes.append(f"Context not given, counted as missing: {', '.join(absent)}.")
        broken = int(np.isnan(fused_K).sum())
        if broken:
            notes.append(f"{broken} candidates have scores that are not numbers; they stand last.")
        return notes

    def _user_notes(self, user: str, read: UserRead | None) -> list[str]:
        """What an answer says of where the user's attributes come from; nothing where they are as they should be."""
        in_bundle = self.users is not None and user in self.users.row_of
        if read is not None:
            return store_note(read, in_bundle=in_bundle)
        if self.users is None or in_bundle:
            return []
        return ["This user is not in the bundle's table: their attributes count as missing."]

    def _trace(
        self,
        rows_K: NDArray[np.int64],
        one: Presence,
        scores: Mapping[str, Array],
        fused_K: NDArray[np.float64],
        seconds: Mapping[str, float],
    ) -> Trace:
        missing: dict[str, float] = {}
        unseen: dict[str, float] = {}
        for presence, rows, repeat in ((one, None, len(rows_K)), (self.items.presence, rows_K, 1)):
            counts = presence.total(rows, repeat)
            missing |= dict(zip(presence.features, counts[0].tolist(), strict=True))
            unseen |= dict(zip(presence.features, counts[1].tolist(), strict=True))
        means = {task: float(np.nansum(values)) for task, values in scores.items() if values.ndim == 1}
        return Trace(len(rows_K), missing, unseen, means, int(np.isnan(fused_K).sum()), dict(seconds))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _json_scores(values: Array) -> list[Any]:
    """Scores as JSON numbers; what is not finite is null."""
    if values.ndim > 1:
        return [_json_scores(row) for row in values]
    return [_finite(value) for value in values.tolist()]


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
