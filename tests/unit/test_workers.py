"""The worker pool: every job is answered once, on its loop, whatever happens to it."""

import asyncio
import ctypes
import io
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from tidesight.detection.detector import Detector
from tidesight.detection.image import ImageLimits
from tidesight.errors import BadImage, Overloaded, WorkerFailed
from tidesight.logs import BackgroundHandler, TextFormatter, request_fields
from tidesight.serving.workers import Job, WorkerPool

WAIT_S = 10
HANG_S = 30.0
LATER_S = HANG_S + WAIT_S  # every job that is under way hangs, when it is asked so long after


def started_pool(workers: int) -> WorkerPool:
    first = Detector.open(Path("fake"), engine="fake")
    pool = WorkerPool([first, *(first.clone() for _ in range(workers - 1))], HANG_S)
    pool.start()
    return pool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    running = started_pool(2)
    yield running
    running.stop()


@pytest.fixture
def single() -> Iterator[WorkerPool]:
    """A pool of one worker."""
    running = started_pool(1)
    yield running
    running.stop()


def job(work: Callable[[Detector], object], expires_in_s: float = WAIT_S) -> Job[object]:
    return Job(work, asyncio.get_running_loop().create_future(), perf_counter() + expires_in_s)


async def answer(pool: WorkerPool, submitted: Job[object]) -> object:
    pool.submit(submitted)
    return await asyncio.wait_for(submitted.answer, WAIT_S)


def test_a_job_gets_a_detector_and_its_answer_and_times(pool: WorkerPool) -> None:
    def look(detector: Detector) -> tuple[str, ...]:
        time.sleep(0.02)
        return detector.class_names

    async def main() -> None:
        submitted = job(look)
        assert await answer(pool, submitted) == ("cat", "dog")
        assert submitted.service_s is not None
        assert 0.02 <= submitted.service_s < WAIT_S
        assert 0 <= submitted.queue_s < WAIT_S
        assert submitted.started_s == pytest.approx(submitted.submitted_s + submitted.queue_s)

    asyncio.run(main())
    assert len(pool) == pool.at_work == 2


def test_threads_work_side_by_side_each_with_its_own_detector(pool: WorkerPool) -> None:
    together = threading.Barrier(2, timeout=WAIT_S)

    def meet(detector: Detector) -> int:
        together.wait()
        return id(detector)

    async def main() -> None:
        jobs = [job(meet) for _ in range(2)]
        detectors = await asyncio.gather(*(answer(pool, one) for one in jobs))
        assert len(set(detectors)) == 2
        assert {one.worker for one in jobs} == {0, 1}

    asyncio.run(main())


def test_errors_on_purpose_reach_the_caller_and_others_become_worker_failed(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Detector) -> None:
        raise BadImage("no picture", field="image")

    def break_down(_: Detector) -> None:
        raise ZeroDivisionError("internal detail")

    async def main() -> None:
        with pytest.raises(BadImage, match="no picture"):
            await answer(pool, job(refuse))
        assert not caplog.records
        with pytest.raises(WorkerFailed) as failed:
            await answer(pool, job(break_down))
        assert "internal detail" not in failed.value.detail
        for _ in range(4):  # both threads live on
            assert await answer(pool, job(lambda _: "well")) == "well"

    asyncio.run(main())
    assert "ZeroDivisionError" in caplog.text


def test_what_a_worker_logs_says_for_which_request(pool: WorkerPool) -> None:
    """Each job has the context it was made in, also when it fails, and one thread's jobs do not share theirs."""

    def look(_: Detector) -> str:
        return request_fields.get().get("request_id", "none")

    async def asked(request_id: str) -> object:
        request_fields.set({"request_id": request_id})
        return await answer(pool, job(look))

    async def main() -> None:
        ids = [f"r{number}" for number in range(20)]
        assert await asyncio.gather(*(asyncio.create_task(asked(one)) for one in ids)) == ids
        assert await answer(pool, job(look)) == "none"

    asyncio.run(main())


def test_lines_about_a_failed_or_a_lost_worker_name_the_request(pool: WorkerPool) -> None:
    stream = io.BytesIO()
    handler = BackgroundHandler(stream)
    handler.setFormatter(TextFormatter())
    log = logging.getLogger("tidesight.serving.workers")
    log.addHandler(handler)

    async def main() -> None:
        request_fields.set({"request_id": "the-failing-one"})
        with pytest.raises(WorkerFailed):
            await answer(pool, job(lambda _: 1 / 0))
        request_fields.set({"request_id": "the-hanging-one"})
        release = threading.Event()
        hanging = job(lambda _: release.wait(WAIT_S))
        pool.submit(hanging)
        while hanging.started_s is None:
            await asyncio.sleep(0.01)
        request_fields.set({"request_id": "another"})
        assert pool.watch(hanging.started_s + LATER_S) == ["hung"]
        with pytest.raises(WorkerFailed):
            await hanging.answer
        release.set()

    asyncio.run(main())
    handler.flush()
    log.removeHandler(handler)
    failed, hung = (line for line in stream.getvalue().decode().splitlines() if " ERROR " in line)
    assert "worker failed" in failed and failed.endswith("request_id=the-failing-one")
    assert "hung" in hung and hung.endswith("request_id=the-hanging-one")


def test_a_job_past_its_deadline_is_not_begun(pool: WorkerPool) -> None:
    begun: list[Detector] = []

    async def main() -> None:
        late = job(begun.append, expires_in_s=-0.001)
        with pytest.raises(Overloaded) as refused:
            await answer(pool, late)
        assert refused.value.retry_after_s == 1
        assert late.service_s is None
        assert late.worker is None

    asyncio.run(main())
    assert begun == []


def test_a_job_whose_caller_left_is_skipped_or_its_answer_dropped(pool: WorkerPool) -> None:
    begun: list[str] = []
    release = threading.Event()

    def hold(_: Detector) -> None:
        begun.append("held")
        release.wait(WAIT_S)

    async def main() -> None:
        held = [job(hold), job(hold)]
        for one in held:
            pool.submit(one)
        while len(begun) < 2:
            await asyncio.sleep(0.001)
        waiting = job(lambda _: begun.append("never"))
        pool.submit(waiting)
        for one in (*held, waiting):
            one.answer.cancel()
        release.set()
        assert await answer(pool, job(lambda _: "next")) == "next"

    asyncio.run(main())
    assert begun == ["held", "held"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_loop_that_is_gone_does_not_end_the_thread(pool: WorkerPool, fails: bool) -> None:
    release = threading.Event()

    def outlive(_: Detector) -> None:
        release.wait(WAIT_S)
        if fails:
            raise BadImage("too late")

    async def leave() -> None:
        for _ in range(2):
            pool.submit(job(outlive))

    async def main() -> None:
        assert await answer(pool, job(lambda _: "alive")) == "alive"

    asyncio.run(leave())
    release.set()
    asyncio.run(main())


def test_stop_finishes_what_is_queued() -> None:
    pool = WorkerPool([Detector.open(Path("fake"), engine="fake")])
    done: list[int] = []

    async def main() -> None:
        for number in range(20):
            pool.submit(job(lambda _, number=number: done.append(number)))  # type: ignore[misc]
        pool.start()
        await asyncio.to_thread(pool.stop)

    asyncio.run(main())
    assert done == list(range(20))  # in order, as there is one thread


class Hold:
    """Work that takes until it is released; `begun` is set when a worker is at it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self, _: Detector) -> str:
        self.thread = threading.current_thread()
        self.begun.set()
        self.release.wait(2 * WAIT_S)
        return "released"

    def end(self) -> None:
        """Release it, and wait until its thread has ended."""
        assert self.thread is not None
        self.release.set()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


async def begin(pool: WorkerPool, count: int = 1) -> tuple[list[Hold], list[Job[object]]]:
    """So much work that takes until it is released, each with a worker at it."""
    holds = [Hold() for _ in range(count)]
    jobs = [job(hold) for hold in holds]
    for one in jobs:
        pool.submit(one)
    await asyncio.to_thread(lambda: [hold.begun.wait(WAIT_S) for hold in holds])
    return holds, jobs


async def settle(pool: WorkerPool, busy: int = 0) -> None:
    """Wait until every worker has begun, and no more than so many are at work: an answer comes before its end."""
    deadline = perf_counter() + WAIT_S
    while not all(one.began for one in pool._workers) or sum(one.job is not None for one in pool._workers) > busy:
        assert perf_counter() < deadline
        await asyncio.sleep(0.001)


async def watch_until_lost(pool: WorkerPool) -> list[str]:
    """Watch until a worker is lost."""
    deadline = perf_counter() + WAIT_S
    while not (lost := pool.watch(perf_counter())):
        assert perf_counter() < deadline
        await asyncio.sleep(0.001)
    return lost


def is_sound(pool: WorkerPool) -> bool:
    """Whether it can go on replacing what it loses."""
    return pool.broken is None


async def failure(of: Job[Any]) -> str:
    """What the caller of a lost worker's job is told."""
    with pytest.raises(WorkerFailed) as told:
        await asyncio.wait_for(of.answer, WAIT_S)
    return told.value.detail


def system_exit(_: Detector) -> None:
    raise SystemExit


def interrupt(_: Detector) -> None:
    raise KeyboardInterrupt


def vanish(_: Detector) -> None:
    ctypes.CDLL(None).pthread_exit(None)


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists its threads")


@pytest.mark.parametrize("end", [system_exit, interrupt, pytest.param(vanish, marks=linux)])
def test_a_thread_that_ends_is_replaced_and_its_caller_told(
    single: WorkerPool, end: Callable[[Detector], None]
) -> None:
    async def main() -> None:
        before = await answer(single, job(id))
        fatal = job(end)
        single.submit(fatal)
        assert await watch_until_lost(single) == ["died"]
        assert "died" in await failure(fatal)
        assert fatal.service_s is None
        after = job(id)
        assert await answer(single, after) != before  # a detector that may be halfway through a picture is not used on
        assert after.worker == 0
        assert single.watch(perf_counter()) == []
        assert is_sound(single)
        assert len(single) == single.at_work == 1

    asyncio.run(main())


def test_an_error_outside_of_the_work_is_a_death_too(single: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        odd = job(lambda _: "never")
        odd.expires_at_s = "noon"  # type: ignore[assignment]  # what the worker's own code trips over
        single.submit(odd)
        waiting = job(lambda _: "next")
        single.submit(waiting)
        assert await watch_until_lost(single) == ["died"]
        await failure(odd)
        assert await asyncio.wait_for(waiting.answer, WAIT_S) == "next"

    asyncio.run(main())
    assert "TypeError" in caplog.text


def test_a_picture_too_large_for_the_memory_costs_no_worker(single: WorkerPool) -> None:
    def exhaust(_: Detector) -> None:
        raise MemoryError

    async def main() -> None:
        before = await answer(single, job(id))
        with pytest.raises(WorkerFailed):
            await answer(single, job(exhaust))
        assert await answer(single, job(id)) == before
        assert single.watch(perf_counter()) == []

    asyncio.run(main())


def test_work_that_hangs_is_given_up_and_its_thread_replaced(pool: WorkerPool) -> None:
    async def main() -> None:
        (hold,), (hung,) = await begin(pool)
        await settle(pool, busy=1)
        assert hung.started_s is not None
        assert pool.watch(hung.started_s + HANG_S - 0.001) == []
        assert not hung.answer.done()
        assert pool.watch(hung.started_s + HANG_S + 0.001) == ["hung"]
        assert "hung" in await failure(hung)
        await settle(pool)
        assert pool.watch(perf_counter() + LATER_S) == []  # it is told once
        together = threading.Barrier(2, timeout=WAIT_S)
        jobs = [job(lambda _: together.wait()) for _ in range(2)]  # there are two workers again
        await asyncio.gather(*(answer(pool, one) for one in jobs))
        assert {one.worker for one in jobs} == {0, 1}
        assert pool.at_work == 2
        hold.end()

    asyncio.run(main())


def test_a_thread_that_comes_back_takes_nothing_more_and_its_answer_is_dropped(single: WorkerPool) -> None:
    async def main() -> None:
        (hold,), (hung,) = await begin(single)
        assert single.watch(perf_counter() + LATER_S) == ["hung"]
        (other,), (held,) = await begin(single)
        waiting = job(lambda _: threading.current_thread())
        single.submit(waiting)
        hold.end()
        assert waiting.started_s is None
        other.release.set()
        assert await asyncio.wait_for(waiting.answer, WAIT_S) is other.thread
        assert await held.answer == "released"
        await failure(hung)
        await settle(single)
        assert single.watch(perf_counter() + LATER_S) == []  # its end is nobody's death

    asyncio.run(main())


def test_waiting_is_not_hanging(pool: WorkerPool) -> None:
    async def main() -> None:
        await settle(pool)
        assert pool.watch(perf_counter() + LATER_S) == []  # two idle workers
        holds, _ = await begin(pool, 2)
        waiting = job(lambda _: "in time", LATER_S)
        waiting.submitted_s -= LATER_S
        pool.submit(waiting)
        assert pool.watch(perf_counter()) == []
        for hold in holds:
            hold.release.set()
        assert await asyncio.wait_for(waiting.answer, WAIT_S) == "in time"
        await settle(pool)
        assert pool.watch(perf_counter() + LATER_S) == []  # nor is having been busy

    asyncio.run(main())


def test_so_many_hung_threads_are_borne_and_no_more(pool: WorkerPool) -> None:
    async def main() -> None:
        holds: list[Hold] = []
        for _ in range(2):
            holds += (await begin(pool, 2))[0]
            assert pool.watch(perf_counter() + LATER_S) == ["hung", "hung"]
        assert is_sound(pool)
        holds[0].end()  # one came back: there is room for another
        (hold,), _ = await begin(pool)
        await settle(pool, busy=1)
        assert pool.watch(perf_counter() + LATER_S) == ["hung"]
        assert is_sound(pool)
        assert pool.at_work == 2
        holds += (await begin(pool, 2))[0]
        holds.append(hold)
        assert pool.watch(perf_counter() + LATER_S) == ["hung", "hung"]
        assert not is_sound(pool)
        assert pool.at_work == 0
        assert pool.watch(perf_counter() + LATER_S) == []
        for one in holds:
            one.release.set()

    asyncio.run(main())


def test_a_detector_that_cannot_be_cloned_breaks_the_pool() -> None:
    class Unique(Detector):
        def clone(self, limits: ImageLimits | None = None) -> Detector:
            raise MemoryError

    detector = Detector.open(Path("fake"), engine="fake")
    detector.__class__ = Unique
    pool = WorkerPool([detector])
    pool.start()

    async def main() -> None:
        pool.submit(job(system_exit))
        assert await watch_until_lost(pool) == ["died"]
        assert is_sound(pool)
        assert await watch_until_lost(pool) == ["died"]  # the new one, and it is the last
        assert not is_sound(pool)
        assert pool.at_work == 0
        assert pool.watch(perf_counter()) == []

    asyncio.run(main())


def test_a_detector_whose_clone_blocks_breaks_the_pool() -> None:
    """As OpenVINO's does, when a hung run holds its last stream."""
    release = threading.Event()

    class Blocking(Detector):
        def clone(self, limits: ImageLimits | None = None) -> Detector:
            release.wait(2 * WAIT_S)
            return super().clone(limits)

    detector = Detector.open(Path("fake"), engine="fake")
    detector.__class__ = Blocking
    pool = WorkerPool([detector], HANG_S)
    pool.start()

    async def main() -> None:
        pool.submit(job(system_exit))
        assert await watch_until_lost(pool) == ["died"]
        assert pool.watch(perf_counter()) == []
        assert is_sound(pool)
        assert pool.watch(perf_counter() + LATER_S) == ["hung"]
        assert not is_sound(pool)
        late = job(lambda _: "never")
        pool.submit(late)
        release.set()
        await asyncio.to_thread(pool.stop)
        assert late.started_s is None  # the new one came after it was given up

    asyncio.run(main())


def test_a_process_that_gets_no_more_threads_breaks_the_pool(
    single: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        (hold,), (hung,) = await begin(single)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert single.watch(perf_counter() + LATER_S) == ["hung"]
        await failure(hung)
        assert "can't start new thread" in str(single.broken)
        assert single.at_work == 0
        hold.release.set()

    asyncio.run(main())


def test_the_age_of_the_oldest_job_that_waits(single: WorkerPool) -> None:
    async def main() -> None:
        now_s = perf_counter()
        assert single.oldest_queued_age_s(now_s) == 0
        (hold,), _ = await begin(single)
        assert single.oldest_queued_age_s(now_s + 5) == 0  # it is being worked on
        waiting = [job(lambda _: None) for _ in range(3)]
        for number, one in enumerate(waiting):
            one.submitted_s = now_s + number
            single.submit(one)
        assert single.oldest_queued_age_s(now_s + 5) == 5
        waiting[0].answer.cancel()  # its caller left
        assert single.oldest_queued_age_s(now_s + 5) == 4
        hold.release.set()
        await asyncio.wait_for(waiting[2].answer, WAIT_S)
        assert single.oldest_queued_age_s(now_s + 5) == 0

    asyncio.run(main())


def test_stop_does_not_wait_for_a_thread_that_hangs(pool: WorkerPool) -> None:
    async def main() -> None:
        (hold,), _ = await begin(pool)
        started = perf_counter()
        await asyncio.to_thread(pool.stop, 0.1)
        assert perf_counter() - started < WAIT_S / 2
        hold.end()
        assert pool.watch(perf_counter() + LATER_S) == []  # an end that was asked for is no loss

    asyncio.run(main())


def test_whatever_the_workers_meet_every_caller_is_answered_once() -> None:
    chance = random.Random(20_261_121)
    pool = started_pool(4)
    works: dict[str, Callable[[Detector], object]] = {
        "fine": lambda _: "done",
        "refused": lambda _: (_ for _ in ()).throw(BadImage("no picture")),
        "dies": system_exit,
        "breaks": lambda _: 1 // 0,
    }
    kinds = chance.choices(list(works), [20, 2, 2, 1], k=400)

    async def main() -> Counter[tuple[str, str]]:
        jobs = [job(works[kind], 10 * WAIT_S) for kind in kinds]
        for one in jobs:
            pool.submit(one)
        lost: list[str] = []
        deadline = perf_counter() + 5 * WAIT_S
        while not all(one.answer.done() for one in jobs):
            assert perf_counter() < deadline
            lost += pool.watch(perf_counter())
            await asyncio.sleep(0.001)
        assert lost == ["died"] * kinds.count("dies")
        told = [type(one.answer.exception()).__name__ for one in jobs]
        return Counter(zip(kinds, told, strict=True))

    outcomes = asyncio.run(main())
    pool.stop()
    expected = {"fine": "NoneType", "refused": "BadImage", "dies": "WorkerFailed", "breaks": "WorkerFailed"}
    assert outcomes == Counter((kind, expected[kind]) for kind in kinds)
