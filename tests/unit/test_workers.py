"""The worker pool: every job is answered once, on its loop, whatever happens to it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import pytest

from tidesight.detection.detector import Detector
from tidesight.errors import BadImage, Overloaded, WorkerFailed
from tidesight.serving.workers import Job, WorkerPool

WAIT_S = 10


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    first = Detector.open(Path("fake"), engine="fake")
    running = WorkerPool([first, first.clone()])
    running.start()
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

    asyncio.run(main())
    assert len(pool) == 2


def test_threads_work_side_by_side_each_with_its_own_detector(pool: WorkerPool) -> None:
    together = threading.Barrier(2, timeout=WAIT_S)

    def meet(detector: Detector) -> int:
        together.wait()
        return id(detector)

    async def main() -> None:
        detectors = await asyncio.gather(*(answer(pool, job(meet)) for _ in range(2)))
        assert len(set(detectors)) == 2

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


def test_a_job_past_its_deadline_is_not_begun(pool: WorkerPool) -> None:
    begun: list[Detector] = []

    async def main() -> None:
        late = job(begun.append, expires_in_s=-0.001)
        with pytest.raises(Overloaded) as refused:
            await answer(pool, late)
        assert refused.value.retry_after_s == 1
        assert late.service_s is None

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
