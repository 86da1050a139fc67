"""The HTTP surface: a list of routes that one reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onehull.export import Bundle, open_bundle
from onehull.features.transform import VocabularyTransform
from onehull.serve.about import about
from onehull.serve.body import read_json
from onehull.serve.event_broker import open_events
from onehull.serve.metrics import CONTENT_TYPE, Metrics
from onehull.serve.middleware import Counted, SecurityHeaders
from onehull.serve.monitor import Monitor
from onehull.serve.page_files import PageFile, page_files
from onehull.serve.ranker import Ranker
from onehull.serve.refusal import RefusalError, refuse
from onehull.serve.requests import RankRequest, read_events, read_rank_request
from onehull.serve.service import Service
from onehull.serve.sliders import sliders
from onehull.serve.stored import ItemRefresh, open_stored_users
from onehull.serve.users import MAX_USERS, UserSearch


def create_app(
    bundle: str | Path | Bundle,
    events: str | Path | None = None,
    features: Path | None = None,
    kafka: Mapping[str, str] | None = None,
) -> Starlette:
    """The ranking service of a bundle, as an ASGI application.

    Args:
        bundle: a bundle, or its path.
        events: directory of the event log, or a topic of a broker, see `open_events`. Default: none is kept, and
            feedback is answered with 503.
        features: a feature repository, which knows users and items of now. Default: the bundle's are ranked.
        kafka: settings that pass through to the client of Kafka.

    Raises:
        ArtifactError: the bundle is damaged or has no items, the event log cannot be written, or the feature repository
            is not one of the bundle's spec.
        BrokerError: the broker has no such topic.
        SpecError: `events` is no place for events.
        MissingPartError: a feature repository is named, and Feast is not installed, or a broker, and not its client.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    service = build_service(opened, events, features=features, kafka=kafka)
    # The first call of a model pays for its plan (TensorFlow: a third of a second); no client should.
    service.ranker.rank(RankRequest(user="warm-up", log=False))
    return application(service)


def build_service(
    bundle: Bundle,
    events: str | Path | None,
    ranker: Ranker | None = None,
    features: Path | None = None,
    kafka: Mapping[str, str] | None = None,
) -> Service:
    """The parts of a service, from a bundle; the ranker, too, unless there is one."""
    ranker = ranker or Ranker.open(bundle)
    if features is not None:
        ranker = replace(ranker, stored=open_stored_users(bundle, features))
    monitor = Monitor(bundle.spec.monitoring, bundle.statistics.features)
    kinds = {task.event for task in bundle.spec.tasks.values() if task.event is not None}
    metrics = Metrics(monitor, kinds or {"click", "like", "watch"})
    service = Service(
        ranker=ranker,
        log=open_events(events, partial(metrics.error, "impression_lost"), kafka) if events is not None else None,
        monitor=monitor,
        metrics=metrics,
        users=UserSearch(ranker.users),
        about=about(bundle.manifest, bundle.spec, ranker, _choices(bundle)),
    )
    service.metrics.items(len(ranker.items), datetime.fromisoformat(bundle.manifest.created).timestamp())
    if features is not None and bundle.spec.data.tables.item is not None:
        service.refresh = ItemRefresh(features, service.take_items)
    return service


def application(service: Service) -> Starlette:
    """The ASGI application of a service."""
    pages = page_files()
    routes = [
        Route("/rank", partial(rank, service), methods=["POST"]),
        Route("/events", partial(events, service), methods=["POST"]),
        Route("/users", partial(users, service)),
        Route("/formula", partial(formula, service)),
        Route("/about", partial(about_model, service)),
        Route("/healthz", partial(healthz, service)),
        Route("/metrics", partial(metrics, service)),
        Route("/", partial(page, pages["index.html"])),
        *(Route(f"/page/{name}", partial(page, file)) for name, file in pages.items()),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    paths = frozenset(route.path for route in routes)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(SecurityHeaders), Middleware(Counted, service.metrics, paths)],
        exception_handlers={RefusalError: _rejected, HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def rank(service: Service, request: Request) -> Response:
    """``POST /rank``: items in fused order."""
    wanted = read_rank_request(await read_json(request))
    # On the loop itself: a request takes about a millisecond, and the way to another thread and back costs more.
    return _json(service.rank(wanted).body())


async def events(service: Service, request: Request) -> Response:
    """``POST /events``: feedback, durably appended before the answer."""
    count = await run_sync(service.feedback, read_events(await read_json(request)))
    return _json({"accepted": count}, 202)


async def users(service: Service, request: Request) -> Response:
    """``GET /users?q=&limit=``: users to be."""
    limit = _limit(request.query_params.get("limit", "50"))
    return _json(await run_sync(service.users.find, request.query_params.get("q", "")[:200], limit))


async def formula(service: Service, _: Request) -> Response:
    """``GET /formula``: text, and its weights as sliders."""
    current = service.ranker.formula
    return _json({"text": current.text, "tasks": list(current.tasks), "weights": sliders(current.weights)})


async def about_model(service: Service, _: Request) -> Response:
    """``GET /about``: the model."""
    return _json(service.about)


async def healthz(service: Service, _: Request) -> Response:
    """``GET /healthz``: ok, or degraded with reasons."""
    return _json(await run_sync(service.health))


async def metrics(service: Service, _: Request) -> Response:
    """``GET /metrics``: Prometheus text."""
    return Response(await run_sync(service.metrics.text), headers={"content-type": CONTENT_TYPE})


async def page(file: PageFile, request: Request) -> Response:
    """A file of the page."""
    headers = {"etag": file.tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "content-type": file.media_type})


def _choices(bundle: Bundle) -> dict[str, list[str]]:
    """Known values of context features, most frequent first."""
    found = {name: bundle.transform.features[name] for name in bundle.manifest.context_features}
    return {name: list(f.values) for name, f in found.items() if isinstance(f, VocabularyTransform)}


def _limit(text: str) -> int:
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= limit <= MAX_USERS:
        raise refuse(422, "limit", f"must be a whole number from 1 to {MAX_USERS}", text)
    return limit


async def _rejected(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)  # noqa: S101  registered for this class only
    return _json(error.body(), error.status)


async def _http_error(request: Request, error: Exception) -> Response:
    """404 and 405 in the shape of every other error."""
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class only
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        rejection = refuse(405, "", f"{request.url.path} must be asked with {allowed}", request.method)
    else:
        remedy = "Known: /rank, /events, /users, /formula, /about, /healthz, /metrics and / for the page."
        rejection = refuse(error.status_code, "", "no such path", request.url.path, remedy)
    return _json(rejection.body(), error.status_code, error.headers)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # A path of the client may hold what is not text; an answer must be UTF-8 all the same.
    content = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(content, status, {**(headers or {}), "content-type": "application/json"})
