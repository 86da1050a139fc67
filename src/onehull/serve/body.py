"""The bytes of a request body to JSON values: strict, bounded, and never an error that is not the client's."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from starlette.requests import Request

from onehull.serve.refusal import RefusalError, refuse

MAX_BODY_BYTES = 1 << 20
_JSON = "application/json"


async def read_json(request: Request) -> Any:
    """The JSON value of a request's body.

    Raises:
        RefusalError: 413 for more than 1 MiB, 415 for another content type, 400 for text that is not JSON.
    """
    kind = request.headers.get("content-type", "")
    if kind.split(";")[0].strip().lower() != _JSON:
        raise refuse(415, "content-type", f"must be {_JSON}", kind, f"Send the header Content-Type: {_JSON}.")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise refuse(413, "", f"must have at most {MAX_BODY_BYTES} bytes", None, "Send fewer candidates or events.")
        chunks.append(chunk)
    return parse_json(b"".join(chunks))


def parse_json(body: bytes) -> Any:
    """JSON as RFC 8259 has it: no NaN, no number beyond float64, no repeated key, no half of a surrogate pair.

    Raises:
        RefusalError: 400 with the place in the text.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite_float, object_pairs_hook=_unique_keys
        )
        if "\\u" in text:
            # An escape can spell half of a surrogate pair, which no encoder writes again.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RefusalError:
        raise
    except UnicodeDecodeError as error:
        raise refuse(400, "", f"must be UTF-8; byte {error.start} is not") from error
    except UnicodeEncodeError as error:
        raise refuse(400, "", "must not hold half of a surrogate pair") from error
    except RecursionError as error:
        raise refuse(400, "", "must not be nested that deep") from error
    except json.JSONDecodeError as error:
        rule = f"must be JSON; line {error.lineno}, column {error.colno}: {error.msg}"
        raise refuse(400, "", rule) from error
    except ValueError as error:
        raise refuse(400, "", "must not hold an integer of thousands of digits") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise refuse(400, "", "must be JSON, which has no such number", name, "Leave the field out, or send null.")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise refuse(400, "", "must hold numbers that a float64 can hold", text[:40])
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise refuse(400, "", "must name each key once", twice.encode("utf-8", "replace").decode())
    return result
