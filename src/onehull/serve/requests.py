"""What clients send: rank requests and feedback events, as strict models."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from onehull.errors import Fault, suggest
from onehull.serve.refusal import RefusalError
from onehull.spec.events import IMPRESSION
from onehull.spec.samples import id_text

MAX_WEIGHT = 1e6
MAX_EVENTS = 1000
_MAX_ID_CHARACTERS = 256
_CLOCK_SKEW = timedelta(minutes=5)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def _read_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("must be an id: text or a number")
    if isinstance(value, int) and value.bit_length() > 128:
        raise ValueError("must be an id: text or a number of at most 128 bits")
    text = id_text(value)
    if text is None:
        raise ValueError("must not be empty")
    if len(text) > _MAX_ID_CHARACTERS:
        raise ValueError(f"must have at most {_MAX_ID_CHARACTERS} characters")
    return text


def _read_moment(value: object) -> datetime:
    moment = _parse_moment(value)
    if moment < _EARLIEST:
        raise ValueError("must not be before the year 2000 (seconds since 1970, or ISO 8601)")
    if moment > datetime.now(UTC) + _CLOCK_SKEW:
        # The log counts as complete up to its latest event: one from the future would close every label's window.
        raise ValueError("must not be in the future")
    return moment


def _parse_moment(value: object) -> datetime:
    rule = "must be ISO 8601 text, or seconds since 1970"
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(rule) from error
    raise ValueError(rule)


def _read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("must be a number that a float64 can hold") from error
    if not math.isfinite(number):
        raise ValueError("must be finite")
    return number


def _bounded(value: float) -> float:
    if abs(value) > MAX_WEIGHT:
        raise ValueError(f"must lie between -{MAX_WEIGHT:g} and {MAX_WEIGHT:g}")
    return value


def _not_impression(value: str) -> str:
    if value == IMPRESSION:
        raise ValueError("must be a kind of feedback: impressions are logged by the service itself")
    return value


Id = Annotated[str, BeforeValidator(_read_id)]
Number = Annotated[float, BeforeValidator(_read_number)]
Weight = Annotated[Number, AfterValidator(_bounded)]
Moment = Annotated[datetime, BeforeValidator(_read_moment)]
Kind = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64), AfterValidator(_not_impression)]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


class RankRequest(_Message):
    """Rank candidates for a user, now."""

    user: Id
    """Who is asking; one that training never saw is ranked like any other."""
    context: dict[str, Any] = {}
    """What is known of the moment, by column of the log; a field that is left out is missing."""
    candidates: list[Id] | None = None
    """Ids of the items to rank. Default: recalled from the catalogue."""
    k: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Items wanted. Default: the spec's."""
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Items of the order to skip, for the next page of a feed."""
    weights: dict[str, Weight] = {}
    """Numbers of the formula to replace, for this request."""
    formula: Annotated[str, Field(max_length=8000)] | None = None
    """Another formula, for this request."""
    log: bool = True
    """False for a preview: what is returned does not count as shown and gets no impression ids."""


class FeedbackEvent(_Message):
    """What came of an impression."""

    event: Kind
    impression: Id
    time: Moment | None = None
    """Default: when it arrives."""
    value: Number | None = None
    """For example seconds watched."""
    id: Id | None = None
    """Makes delivery idempotent: an event seen twice counts once."""


_Model = TypeVar("_Model", bound=BaseModel)


def read_rank_request(document: object) -> RankRequest:
    """Checks a rank request.

    Raises:
        RefusalError: 422 with every fault.
    """
    return _read(RankRequest, document)


def read_events(document: object) -> list[FeedbackEvent]:
    """Checks one event, or a list of at most 1,000; a fault in one refuses all.

    Raises:
        RefusalError: 422 with every fault.
    """
    if not isinstance(document, list):
        return [_read(FeedbackEvent, document)]
    if not 1 <= len(document) <= MAX_EVENTS:
        rule = f"must hold between 1 and {MAX_EVENTS} events"
        raise RefusalError(422, [Fault("", rule, len(document), "Send them in several requests.")])
    events: list[FeedbackEvent] = []
    faults: list[Fault] = []
    for number, item in enumerate(document):
        try:
            events.append(_read(FeedbackEvent, item, f"{number}."))
        except RefusalError as rejection:
            faults += rejection.faults
    if faults:
        raise RefusalError(422, faults[:_SHOWN_FAULTS])
    return events


_SHOWN_FAULTS = 20


def _read(model: type[_Model], document: object, prefix: str = "") -> _Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        known = list(model.model_fields)
        details = error.errors(include_url=False)[:_SHOWN_FAULTS]
        raise RefusalError(422, [_fault(detail, known, prefix) for detail in details]) from error


def _fault(detail: ErrorDetails, known: list[str], prefix: str) -> Fault:
    path = (prefix + ".".join(str(part) for part in detail["loc"])).rstrip(".")
    match detail["type"]:
        case "extra_forbidden":
            return Fault(path, "is not a known field", detail["input"], suggest(detail["loc"][-1], known))
        case "missing":
            return Fault(path, "is required", has_value=False)
        case "model_type":
            return Fault(path, "must be a JSON object", detail["input"])
        case _:
            message = detail["msg"].removeprefix("Value error, ").replace("Input should", "must")
            return Fault(path, message.replace("String should", "must"), detail["input"])
