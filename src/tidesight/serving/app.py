"""The HTTP application of one instance: which path is answered by which file.

POST /v1/detect   detect_route.py -> admission.py -> workers.py (threads) -> work.py -> tidesight.detection
GET  /healthz     alive, whatever the load
GET  /readyz      takes requests: the model is loaded and warm, and no drain has begun
GET  /metrics     the catalogue of tidesight.telemetry
GET  /openapi.json, /docs, /    openapi.py and the pages in web/

Before any of them, api_keys.py: the first two need a key where there are keys, and so does whatever is added.
"""

from contextlib import suppress
from time import perf_counter

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from tidesight import telemetry as metrics
from tidesight.errors import InternalError, TidesightError, Unauthorized, Unavailable
from tidesight.serving import pages
from tidesight.serving.answers import SCOPE_KEY, send_until_taken
from tidesight.serving.api_keys import needs_key
from tidesight.serving.detect_route import detect
from tidesight.serving.instance import Instance, State
from tidesight.serving.problems import problem_response
from tidesight.serving.schemas import HealthReply, Problem, ReadyModelReply, ReadyReply, usable_id

# Whatever a picture's or a reply's bytes look like to a browser, they are what their type says.
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_REQUEST_ID = b"x-request-id"
_LEAST_ERROR = 400
DETECT = "/v1/detect"


class _Guarded(Starlette):
    """The application behind what holds for every request and every reply."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request without a key before anything is read or done for it."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _NOSNIFF]
                if message["status"] >= _LEAST_ERROR and _REQUEST_ID not in dict(message["headers"]):
                    given = dict(scope["headers"]).get(_REQUEST_ID, b"").decode("latin-1")
                    message["headers"].append((_REQUEST_ID, usable_id(given).encode()))
            await send_until_taken(send, message)

        instance: Instance = self.state.instance
        path = scope["path"]
        if needs_key(path) and not instance.api_keys.allows(scope["headers"]):
            if path == DETECT:
                instance.telemetry.count(metrics.REQUESTS, "401")
                instance.recorder.refused(401)
            await problem_response(Unauthorized(_KEY_NEEDED))(scope, receive, send_guarded)
            return
        with instance.answers.holding() as held:
            scope[SCOPE_KEY] = held
            await super().__call__(scope, receive, send_guarded)


def create_app(instance: Instance) -> Starlette:
    """The application of an instance."""
    routes = [
        Route(DETECT, detect, methods=["POST"]),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", show_metrics),
        *pages.routes(),
    ]
    handlers = {HTTPException: _http_error, TidesightError: _known_error, Exception: _unknown_error}
    app = _Guarded(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]  # invariant key type
    app.router.redirect_slashes = False  # one path for each thing; a redirect would lose the body
    app.state.instance = instance
    return app


async def healthz(request: Request) -> Response:
    """The process is alive; load has no say in it."""
    return _json(HealthReply("ok"))


async def readyz(request: Request) -> Response:
    """The instance takes requests."""
    instance: Instance = request.app.state.instance
    if instance.state is not State.READY:
        raise Unavailable(f"the instance is {instance.state.value}", retry_after_s=1)
    model = instance.ready.model
    size = [model.input_width_px, model.input_height_px]
    return _json(ReadyReply("ready", ReadyModelReply(model.name, size, list(model.class_names))))


async def show_metrics(request: Request) -> Response:
    """All metrics, the moment's queue among them."""
    instance: Instance = request.app.state.instance
    with suppress(Unavailable):  # no model yet, whatever the state: a drain may begin during the start
        ready = instance.ready
        admission = ready.admission
        instance.telemetry.set(metrics.IN_FLIGHT, admission.in_flight)
        instance.telemetry.set(metrics.QUEUE_LENGTH, admission.queued)
        instance.telemetry.set(metrics.QUEUE_OLDEST, ready.workers.oldest_queued_age_s(perf_counter()))
        instance.telemetry.set(metrics.PREDICTED_WAIT, admission.predicted_wait_s())
    instance.telemetry.set(metrics.CONNECTIONS, instance.connections())
    instance.telemetry.set(metrics.BODY_BYTES, instance.bodies.held_bytes)
    instance.measure_occupancy()
    instance.measure_spool()
    return Response(instance.telemetry.exposition(), media_type=metrics.CONTENT_TYPE)


def _json(reply: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(reply), media_type="application/json")


async def _known_error(request: Request, error: TidesightError) -> Response:
    return problem_response(error)


async def _http_error(request: Request, error: HTTPException) -> Response:
    problem = Problem(title=error.detail, status=error.status_code, detail=_ADVICE.get(error.status_code, error.detail))
    body = msgspec.json.encode(problem)
    return Response(body, error.status_code, error.headers, media_type="application/problem+json")


async def _unknown_error(request: Request, error: Exception) -> Response:
    return problem_response(InternalError("an error of the server; its log says more"))


_KEY_NEEDED = "send an API key that this instance accepts: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
_ADVICE = {404: "no such path; GET /docs lists them", 405: "this path answers other methods; GET /docs lists them"}
