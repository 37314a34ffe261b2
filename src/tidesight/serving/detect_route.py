"""`POST /v1/detect`, step by step: admit, read the body, hand it to a worker, store, answer."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from time import perf_counter
from urllib.parse import quote

import msgspec
import pybase64
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tidesight import telemetry as metrics
from tidesight.detection.detector import Detector
from tidesight.errors import (
    InternalError,
    InvalidOption,
    Overloaded,
    SlowBody,
    StoreError,
    TidesightError,
    TooLarge,
    Unavailable,
)
from tidesight.serving.admission import HeldBody
from tidesight.serving.answers import hold_answer
from tidesight.serving.caller import SCOPE_KEY, Caller
from tidesight.serving.instance import Instance, Ready, ServingLimits
from tidesight.serving.problems import problem_response
from tidesight.serving.request_head import check_head, deadline_s, prefers_picture
from tidesight.serving.request_record import RequestRecord
from tidesight.serving.schemas import DetectReply, ImageReply, ModelReply, ObjectReply, ResultReply, usable_id
from tidesight.serving.work import Finding, WorkOrder, perform
from tidesight.serving.workers import Job

log = logging.getLogger(__name__)
_URL_SAFE = ":/?#[]@!$&'()*+,;=%~"  # what a URL may hold as it is; a header holds nothing else
_LEAST_STORING_S = 0.25  # for a result whose deadline the work has used up: the work is done, and half a put is none
_CLIENT_CLOSED = 499  # nginx's word for a caller that left; nobody reads it but the metrics


async def detect(request: Request) -> Response:
    """Answer one detection request; every outcome is counted and carries the request's id."""
    instance: Instance = request.app.state.instance
    started = perf_counter()
    request_id = usable_id(request.headers.get("x-request-id", ""))
    record = instance.recorder.begin(request, request_id, started)
    try:
        response = await _answer(request, instance, record)
        instance.telemetry.observe(metrics.REQUEST_SECONDS, perf_counter() - started)
    except ClientDisconnect:
        response = Response(status_code=_CLIENT_CLOSED)
    except asyncio.CancelledError:  # only the end of a drain cancels
        instance.abandoned += 1
        response = problem_response(Unavailable("the instance had to stop", retry_after_s=1), request_id)
    except TidesightError as error:
        if isinstance(error, Overloaded):
            instance.telemetry.count(metrics.REFUSED, error.reason)
        record.detail = error.detail
        response = problem_response(error, request_id)
    except Exception:  # the HTTP edge: whatever it was, it is counted, logged and answered
        log.exception("a request failed")
        response = problem_response(InternalError("an error of the server; its log says more"), request_id)
    instance.telemetry.count(metrics.REQUESTS, str(response.status_code))
    response.headers.setdefault("X-Request-Id", request_id)
    response.headers["X-Tidesight-Instance"] = instance.name
    instance.recorder.end(record, request, response)
    return response


async def _answer(request: Request, instance: Instance, record: RequestRecord) -> Response:
    """Steps of a request that goes well; whatever goes wrong is raised."""
    ready, started = instance.ready, record.started_s
    check_head(request.headers)
    expires_at_s = started + deadline_s(request.headers, instance.limits.deadline_s)
    ready.admission.check(expires_at_s - started)  # before the body is read; an upload takes no place in the queue
    with instance.occupancy:
        return await _take_in(request, instance, record, expires_at_s)


async def _take_in(request: Request, instance: Instance, record: RequestRecord, expires_at_s: float) -> Response:
    """Steps of a request that was let in."""
    ready, started = instance.ready, record.started_s
    finding, timings_s = await _find(request, instance, started, expires_at_s)
    hold_answer(request.scope, finding.annotated_jpeg)
    reply = _reply(ready, finding, finding.parameters.id or record.request_id)
    reply.timings_ms = _milliseconds(timings_s)
    if finding.parameters.store:
        storing = perf_counter()
        reply.traceparent = record.traceparent or msgspec.UNSET  # for whoever takes the result from the store
        reply.result = await _store(instance, reply, finding, max(_LEAST_STORING_S, expires_at_s - storing))
        timings_s["store"] = perf_counter() - storing
    timings_s["total"] = perf_counter() - started
    reply.timings_ms = _milliseconds(timings_s)
    record.timings_s = timings_s
    _measure(instance, timings_s, len(finding.detections))
    return _response(request, reply, finding)


async def _find(
    request: Request, instance: Instance, started: float, expires_at_s: float
) -> tuple[Finding, dict[str, float]]:
    """Read the body and have it worked on, with the seconds of each stage; the body is gone when this returns."""
    with instance.bodies.holding() as held:
        body = await _read_body(request, instance.limits, held, expires_at_s)
        instance.telemetry.count(metrics.RECEIVED_BYTES, amount=len(body))
        body_s = perf_counter() - started
        job = _job(request, instance, body, expires_at_s)
        finding = await _work(request, instance.ready, job)
    return finding, {"body": body_s, "queue": job.queue_s, **finding.timings_s}


async def _work(request: Request, ready: Ready, job: Job[Finding]) -> Finding:
    """Let a worker do the job, when it can in time and the caller waits for it."""
    caller: Caller = request.scope.get(SCOPE_KEY) or Caller()
    if caller.gone:
        raise ClientDisconnect
    admission, expires_at_s = ready.admission, job.expires_at_s
    predicted_s = admission.admit(expires_at_s - perf_counter())
    job.expires_at_s = admission.latest_start_s(expires_at_s)  # begun later it would be done for nobody
    in_time_s = expires_at_s - perf_counter()
    expiry = asyncio.get_running_loop().call_later(in_time_s, _drop, job)  # workers that are stuck come to nothing
    try:
        with caller.watched(lambda: _drop(job)):
            ready.workers.submit(job)
            finding = await job.answer
    except asyncio.CancelledError:
        if caller.gone:
            raise ClientDisconnect from None
        if job.work is _nobody_waits:
            job.queue_s = perf_counter() - job.submitted_s
            raise Overloaded("the deadline passed in the queue", None, 1.0, reason="expired") from None
        raise
    finally:
        expiry.cancel()
        if job.queue_s:  # a worker came to it, or none did in time
            admission.learn_wait(predicted_s, perf_counter() - job.submitted_s)
        admission.finish(job.service_s, job.worker)
    if caller.gone:
        raise ClientDisconnect
    return finding


def _drop(job: Job[Finding]) -> None:
    """Nobody waits for it: unless a worker is at it already, its place in the queue and its body are free at once."""
    if not job.queue_s:
        job.answer.cancel()
        job.work = _nobody_waits


def _nobody_waits(_: Detector) -> Finding:
    raise Unavailable("the caller left, or its time is over")


def _job(request: Request, instance: Instance, body: bytes, expires_at_s: float) -> Job[Finding]:
    order = WorkOrder(
        body,
        request.headers.get("content-type", ""),
        _query(request),
        prefers_picture(request.headers.get("accept", "")),
        instance.limits.image,
    )
    answer: asyncio.Future[Finding] = asyncio.get_running_loop().create_future()
    return Job(lambda detector: perform(order, detector), answer, expires_at_s)


async def _read_body(request: Request, limits: ServingLimits, held: HeldBody, expires_at_s: float) -> bytes:
    """The whole body, within its size and time limits; its bytes are counted as `held`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_body_bytes:
        raise TooLarge(f"the body has {declared[:20]} bytes; the limit is {limits.max_body_bytes}")
    chunks: list[bytes] = []
    size = 0
    timeout_s = min(limits.body_timeout_s, max(0.0, expires_at_s - perf_counter()))
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.max_body_bytes:
                    raise TooLarge(f"the body is larger than the limit of {limits.max_body_bytes} bytes")
                held.grow(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise SlowBody(f"the body did not arrive within {timeout_s:.3g} s") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _query(request: Request) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise InvalidOption("given twice; separate several classes by commas", field=name[:80])
        values[name] = value
    return values


def _reply(ready: Ready, finding: Finding, request_id: str) -> DetectReply:
    found = finding.detections
    return DetectReply(
        id=request_id,
        model=ModelReply(ready.model.name),
        image=ImageReply(found.image_width_px, found.image_height_px),
        detections=[
            ObjectReply([round(side, 2) for side in box], round(score, 4), class_id, label)
            for box, score, class_id, label in found
        ],
        timings_ms={},
        captured_at=finding.parameters.captured_at or msgspec.UNSET,
    )


async def _store(instance: Instance, reply: DetectReply, finding: Finding, timeout_s: float) -> ResultReply:
    assert finding.annotated_jpeg is not None  # a worker draws whenever a result is to be stored
    now = datetime.now(UTC)
    try:
        async with asyncio.timeout(timeout_s):
            urls = await instance.results.put(reply.id, now, finding.annotated_jpeg, msgspec.json.encode(reply))
    except StoreError as error:
        instance.telemetry.count(metrics.STORED, "failed")
        log.warning("a result was not stored: %s", error.detail)
        raise
    except TimeoutError:
        instance.telemetry.count(metrics.STORED, "failed")
        detail = f"the store did not take the result within {timeout_s:.3g} s, what the deadline left; retry later"
        log.warning("a result was not stored: %s", detail)
        raise StoreError(detail, retry_after_s=1.0) from None
    instance.telemetry.count(metrics.STORED, "stored")
    return ResultReply(urls.image_url, urls.detections_url)


def _milliseconds(timings_s: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(seconds * 1000, 3) for stage, seconds in timings_s.items()}


def _measure(instance: Instance, timings_s: Mapping[str, float], found: int) -> None:
    for stage, seconds in timings_s.items():
        if stage != "total":
            instance.telemetry.observe(metrics.STAGE_SECONDS, seconds, stage)
    instance.telemetry.count(metrics.DETECTIONS, amount=found)


def _response(request: Request, reply: DetectReply, finding: Finding) -> Response:
    named = {"X-Request-Id": reply.id}  # which may be the body's own id
    if finding.annotated_jpeg is not None:
        if prefers_picture(request.headers.get("accept", "")):
            url = reply.result.image_url if isinstance(reply.result, ResultReply) else None
            stored = {"Content-Location": quote(url, safe=_URL_SAFE)} if url else {}
            return Response(finding.annotated_jpeg, headers={**named, **stored}, media_type="image/jpeg")
        if finding.parameters.annotate:
            reply.annotated_image = pybase64.b64encode(finding.annotated_jpeg).decode()
    return Response(msgspec.json.encode(reply), headers=named, media_type="application/json")
