"""DepthPool: what it takes, what it gives, and what it refuses."""

import functools
import threading
from collections.abc import Awaitable
from contextvars import ContextVar, copy_context
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc import (
    Context,
    DepthPool,
    DepthPoolStatistics,
    Job,
    Visit,
    current_context,
)
from tests.together import in_thread

UNTOUCHED = DepthPoolStatistics(0, 0, 0, 0, (), (), 0, 0, 0, 0, 0, 0)

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


async def _echo(job: Job[int]) -> int:
    await checkpoint()
    return job.item


async def _digits(job: Job[str]) -> int:
    """Be a number; the children have one digit more."""
    for digit in "01":
        job.submit(job.item + digit)
    await checkpoint()
    return len(job.item)


def _pool(fn: Any = _echo, **options: Any) -> DepthPool[Any, Any]:
    pool: Any = DepthPool
    return pool(fn, **({"max_depth": 2, "limit": 3} | options))  # type: ignore[no-any-return]


# Visits


async def test_a_visit_tells_where_it_stands() -> None:
    """Its item, its depth, its parent's item, and what the function returned."""
    async with DepthPool(_digits, max_depth=1, limit=1) as pool:
        assert pool.submit("7")
        visits = [visit async for visit in pool]

    assert visits == [
        Visit("7", 0, None, 1),
        Visit("71", 1, "7", 2),
        Visit("70", 1, "7", 2),
    ]
    assert visits[1].parent == "7"


async def test_a_job_knows_what_its_visit_tells() -> None:
    """And it shows that in dumps."""
    seen: list[tuple[object, ...]] = []

    async def page(job: Job[str]) -> None:
        seen.append((job.item, job.depth, job.parent, repr(job)))
        job.submit("b")

    async with DepthPool(page, max_depth=1, limit=1) as pool:
        pool.submit("a")
        async for _ in pool:
            pass

    assert seen == [
        ("a", 0, None, "<Job 'a' at depth 0>"),
        ("b", 1, "a", "<Job 'b' at depth 1>"),
    ]


async def test_submit_tells_whether_the_job_was_accepted() -> None:
    """Too deep, known or over the budget: False, and counted."""
    answers: list[bool] = []

    async def page(job: Job[int]) -> None:
        answers.append(job.submit(job.item + 1))
        answers.append(job.submit(job.item))
        answers.append(job.submit_from([job.item + 2]))

    pool = _pool(page, max_depth=1, key=abs, limit=1)
    async with pool:
        assert pool.submit(0)
        assert not pool.submit(0)
        async for _ in pool:
            pass

    assert answers == [True, False, True, False, False, False, False, False, False]
    assert pool.statistics().too_deep == 6
    assert pool.statistics().duplicates == 2


@pytest.mark.virtual_clock
async def test_visits_come_as_the_jobs_end() -> None:
    """Who is ready first leaves first."""

    async def nap(job: Job[float]) -> None:
        await anyio.sleep(job.item / 1000)

    async with DepthPool(nap, max_depth=0, limit=3) as pool:
        for delay in (3, 1, 2):
            pool.submit(delay)

        assert [visit.item async for visit in pool] == [1, 2, 3]


async def _scaled(job: Job[int], factor: int) -> int:
    return job.item * factor


def _make_scaled(job: Job[int]) -> Awaitable[int]:
    return _scaled(job, factor=2)


class _Scale:
    async def __call__(self, job: Job[int]) -> int:
        return 2 * job.item

    async def method(self, job: Job[int]) -> int:
        return 2 * job.item


class _Later:
    def __init__(self, value: int) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from checkpoint().__await__()
        return self.value


def _scale_later(job: Job[int]) -> "_Later":
    return _Later(2 * job.item)


@pytest.mark.parametrize(
    "make",
    [
        lambda: functools.partial(_scaled, factor=2),
        lambda: _make_scaled,
        _Scale,
        lambda: _Scale().method,
        lambda: _scale_later,
    ],
    ids=["partial", "function", "object", "method", "awaitable"],
)
async def test_whatever_makes_an_awaitable_is_a_function(make: Any) -> None:
    """As with all that takes a coroutine function here."""
    async with _pool(make()) as pool:
        pool.submit(21)

        assert [visit.result async for visit in pool] == [42]


# Statistics


async def test_statistics_before_anything_happened() -> None:
    """A pool that was not entered has counted nothing."""
    assert _pool().statistics() == UNTOUCHED


async def test_statistics_of_a_tree() -> None:
    """What was accepted and what has ended is told by depth."""
    pool: DepthPool[str, int] = DepthPool(
        _digits, max_depth=2, limit=2, key=lambda item: item
    )
    async with pool:
        pool.submit("")
        assert pool.statistics() == DepthPoolStatistics(
            1, 1, 0, 0, (1,), (0,), 0, 0, 0, 0, 0, 1
        )
        async for visit in pool:
            if visit.depth == 0:
                pool.submit("")

    assert pool.statistics() == DepthPoolStatistics(
        frontier=0,
        peak_frontier=pool.statistics().peak_frontier,
        running=0,
        buffered=0,
        accepted=(1, 2, 4),
        finished=(1, 2, 4),
        failed=0,
        too_deep=8,
        duplicates=1,
        over_budget=0,
        dropped=0,
        keys=7,
    )


async def test_statistics_while_jobs_run_and_wait() -> None:
    """Running jobs have not ended, nor have those that wait."""

    async def stay(job: Job[int]) -> None:
        await anyio.sleep_forever()

    pool = _pool(stay, limit=2)
    async with pool:
        for item in range(5):
            pool.submit(item)
        await anyio.wait_all_tasks_blocked()

        assert pool.statistics() == DepthPoolStatistics(
            3, 5, 2, 0, (5,), (0,), 0, 0, 0, 0, 0, 0
        )
    assert pool.statistics() == DepthPoolStatistics(
        0, 5, 0, 0, (5,), (0,), 0, 0, 0, 0, 0, 0
    )


async def test_statistics_while_a_worker_gives_way() -> None:
    """A job that has ended has, though its worker has not looked for the next one."""
    looks = 0

    async def page(job: Job[int]) -> None:
        job.submit_from(range(job.item))

    pool = _pool(page, max_depth=1, limit=1, buffer=1001)
    async with pool:
        pool.submit_from([1000])
        while (counts := pool.statistics()).buffered < 1001:
            looks += 1
            assert sum(counts.finished) == counts.buffered
            assert sum(counts.accepted) == counts.buffered + counts.running
            await checkpoint()

    assert looks > 1000 // 128


# Contextvars


async def test_each_job_sees_the_variables_of_its_submit() -> None:
    """As they were at that moment, from whichever worker it is run."""

    async def page(job: Job[str]) -> str:
        seen = VARIABLE.get()
        VARIABLE.set(job.item)
        job.submit(job.item + "x")
        await checkpoint()
        VARIABLE.set("after its submits")
        return seen

    results: dict[str, str] = {}
    async with _pool(page, max_depth=1, limit=1) as pool:
        pool.submit("first")
        VARIABLE.set("changed")
        pool.submit("second")
        VARIABLE.set("body")
        async for visit in pool:
            results[visit.item] = visit.result

        assert VARIABLE.get() == "body"
    assert results == {
        "first": "unset",
        "firstx": "first",
        "second": "changed",
        "secondx": "second",
    }


async def test_items_of_an_iterable_see_the_variables_of_its_submit() -> None:
    """So does the iterable itself; what it sets, its jobs see, and nobody else."""

    def items() -> Any:
        for item in range(2):
            made.append(VARIABLE.get())
            VARIABLE.set(f"set by {item}")
            yield item

    async def page(job: Job[int]) -> str:
        seen = VARIABLE.get()
        VARIABLE.set("set by a job")
        return seen

    made: list[str] = []
    async with _pool(page, limit=1) as pool:
        VARIABLE.set("at the submit")
        pool.submit_from(items())
        VARIABLE.set("afterwards")

        assert [visit.result async for visit in pool] == ["set by 0", "set by 1"]
        assert VARIABLE.get() == "afterwards"
    assert made == ["at the submit", "set by 0"]


async def test_an_iterable_is_closed_among_the_variables_of_its_submit() -> None:
    """Its cleanup finds what its beginning found."""
    closed: list[str] = []

    def items() -> Any:
        try:
            while True:
                yield 1
        finally:
            closed.append(VARIABLE.get())

    async with _pool(limit=1, buffer=0) as pool:
        VARIABLE.set("at the submit")
        pool.submit_from(items())
        VARIABLE.set("afterwards")
        await anyio.wait_all_tasks_blocked()

    assert closed == ["at the submit"]


async def test_what_a_key_sets_for_an_iterable_no_other_job_sees() -> None:
    """It is called among the variables of the submit, not those of a worker."""

    def key(item: int) -> int:
        VARIABLE.set(f"set by the key of {item}")
        return item

    async def page(job: Job[int]) -> str:
        return VARIABLE.get()

    async with _pool(page, limit=1, key=key, max_jobs=2) as pool:
        variables = copy_context()
        variables.run(pool.submit, 1)
        variables = copy_context()
        variables.run(pool.submit_from, [2, 2, 3])

        assert {visit.item: visit.result async for visit in pool} == {
            2: "set by the key of 2",
            1: "set by the key of 1",
        }


async def test_the_pool_is_the_context_of_its_jobs() -> None:
    """Not a narrower one of who submitted, which may end earlier."""

    async def page(job: Job[int]) -> Context | None:
        async with Context() as narrow:
            job.submit(job.item + 1)
            job.submit_from([job.item + 10])
            assert current_context() is narrow
        return current_context()

    async with _pool(page, max_depth=1, limit=1) as pool:
        outer = current_context()
        async with Context():
            pool.submit(0)
            pool.submit_from([5])
        contexts = [visit.result async for visit in pool]

    assert contexts == [outer] * 6


# Misuse


@pytest.mark.parametrize("name", ["max_depth", "max_frontier", "max_jobs", "buffer"])
def test_bounds_are_whole_numbers(name: str) -> None:
    """Negative ones, booleans, floats and words are refused at once."""
    for wrong in (True, 1.0, "1"):
        with pytest.raises(TypeError, match=f"{name} must be a whole number or None"):
            _pool(**{name: wrong})
    with pytest.raises(ValueError, match=f"{name} must be at least . *, not -1"):
        _pool(**{name: -1})


def test_a_frontier_has_a_place_at_least() -> None:
    """With none, not even a root could wait for its worker."""
    with pytest.raises(ValueError, match="max_frontier must be at least 1, not 0"):
        _pool(max_frontier=0)


def test_a_limit_is_needed() -> None:
    """None, zero and what is no number are refused; so is forgetting it."""
    with pytest.raises(TypeError, match="a pool needs a limit"):
        _pool(limit=None)
    for wrong in (True, 1.5, "3"):
        with pytest.raises(TypeError, match="limit must be a whole number"):
            _pool(limit=wrong)
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        _pool(limit=0)
    with pytest.raises(TypeError, match="limit"):
        DepthPool(_echo, max_depth=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="max_depth"):
        DepthPool(_echo, limit=1)  # type: ignore[call-overload]


def test_words_are_checked() -> None:
    """An unknown order, overflow or errors mode is refused at once."""
    with pytest.raises(ValueError, match="order must be"):
        _pool(order="Depth")
    with pytest.raises(ValueError, match="overflow must be"):
        _pool(overflow="block")
    with pytest.raises(ValueError, match="errors must be"):
        _pool(errors="all")


def test_functions_are_checked() -> None:
    """What cannot be called is refused at once; a coroutine is explained."""
    coroutine = _echo(Job())

    with pytest.raises(TypeError, match="key must be callable, not 'name'"):
        _pool(key="name")
    with pytest.raises(TypeError, match="expected a coroutine function, not 5"):
        _pool(5)
    with pytest.raises(TypeError, match="got the coroutine"):
        _pool(coroutine)


@pytest.mark.parametrize("items", ["https://example.org/", b"item"])
async def test_a_string_is_not_an_iterable_of_items(items: Any) -> None:
    """It would be taken letter by letter, which nobody wants."""
    pool: Any = _pool()
    async with pool:
        with pytest.raises(TypeError, match=r"not one: write \["):
            pool.submit_from(items)
        with pytest.raises(TypeError, match="items must be iterable, not 5"):
            pool.submit_from(5)

        assert [visit async for visit in pool] == []


async def test_before_its_block() -> None:
    """Neither roots nor a loop; the error says where they belong."""
    pool = _pool(name="site")

    with pytest.raises(RuntimeError, match=r"DepthPool 'site' has not been entered"):
        pool.submit(1)
    with pytest.raises(RuntimeError, match=r"submit inside its 'async with' block"):
        pool.submit_from([1])
    with pytest.raises(RuntimeError, match=r"has not been entered.*async with"):
        aiter(pool)
    assert pool.statistics() == UNTOUCHED


async def test_entered_twice() -> None:
    """A pool has one block."""
    pool = _pool()
    async with pool:
        with pytest.raises(RuntimeError, match="this DepthPool has been entered bef"):
            await pool.__aenter__()
    with pytest.raises(RuntimeError, match="make a new one"):
        await pool.__aenter__()


async def test_after_the_end() -> None:
    """When the loop has ended there is nothing more to come."""
    async with _pool() as pool:
        pool.submit(1)
        assert len([visit async for visit in pool]) == 1

        with pytest.raises(RuntimeError, match="has ended"):
            pool.submit(2)
        with pytest.raises(RuntimeError, match="has ended"):
            pool.submit_from([2])
    with pytest.raises(RuntimeError, match="has ended"):
        pool.submit(2)
    assert pool.statistics().accepted == (1,)


async def test_after_the_block() -> None:
    """Visits that were left behind are not given out later."""
    async with _pool() as pool:
        pool.submit(1)
        await anyio.wait_all_tasks_blocked()

    with pytest.raises(RuntimeError, match="has ended"):
        await anext(aiter(pool))
    assert pool.statistics().buffered == 0


async def test_a_job_that_is_over_submits_nothing() -> None:
    """Whoever kept it is told so, whether the pool goes on or not."""
    jobs: list[Job[int]] = []

    async def page(job: Job[int]) -> None:
        jobs.append(job)
        await checkpoint()

    async with _pool(page) as pool:
        pool.submit(1)
        async for _ in pool:
            with pytest.raises(RuntimeError, match="the job 1 is over"):
                jobs[0].submit(2)
    with pytest.raises(RuntimeError, match="before it returns"):
        jobs[0].submit_from([2])


async def test_jobs_that_were_stopped_submit_nothing() -> None:
    """Neither one that was under way, nor one that never began."""
    jobs: list[Job[int]] = []

    async def page(job: Job[int]) -> None:
        jobs.append(job)
        await anyio.sleep_forever()

    async with _pool(page, limit=1) as pool:
        pool.submit(1)
        pool.submit(2)
        await anyio.wait_all_tasks_blocked()
        waiting = pool._tree._frontier.waiting[0]
        assert isinstance(waiting, Job)

    for job in (*jobs, waiting):
        with pytest.raises(RuntimeError, match="is over"):
            job.submit(3)


async def test_a_job_submits_nothing_while_it_is_stopped() -> None:
    """The pool has ended, though the job is still tidying up."""
    errors: list[str] = []

    async def page(job: Job[int]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with pytest.raises(RuntimeError) as caught:
                job.submit(2)
            errors.append(str(caught.value))

    async with _pool(page) as pool:
        pool.submit(1)
        await anyio.wait_all_tasks_blocked()

    assert errors == [
        "this DepthPool has ended; start work inside its 'async with' block"
    ]


async def test_from_another_thread() -> None:
    """A pool belongs to its loop: the error says how to get there."""
    errors: list[str] = []

    def submit() -> None:
        with pytest.raises(RuntimeError) as caught:
            pool.submit(1)
        errors.append(str(caught.value))
        with pytest.raises(RuntimeError, match="belongs to an event loop in another"):
            pool.submit_from([1])

    async with _pool() as pool:
        in_thread(submit)

        assert [visit async for visit in pool] == []
    assert "from_thread.run_sync" in errors[0]


async def test_from_a_thread_by_way_of_the_loop() -> None:
    """As the error says."""

    async def page(job: Job[int]) -> int:
        if job.depth == 0:
            await anyio.to_thread.run_sync(anyio.from_thread.run_sync, job.submit, 2)
        return threading.get_ident()

    async with _pool(page) as pool:
        pool.submit(1)

        assert {visit.item async for visit in pool} == {1, 2}


async def test_a_function_that_is_not_async_fails_the_block() -> None:
    """It is a mistake, so not a result even where errors are."""

    def page(job: Job[int]) -> int:
        return job.item

    wrong: Any = page
    with pytest.raises(TypeError, match="is not a coroutine function"):
        async with _pool(wrong, return_exceptions=True) as pool:
            pool.submit(1)
            async for _ in pool:
                pytest.fail("nothing was visited")


async def test_a_function_of_other_arguments_fails_the_block() -> None:
    """The error is the one that a call of it raises."""

    async def page() -> None:
        pytest.fail("was called")

    wrong: Any = page
    with pytest.raises(TypeError, match="takes 0 positional arguments but 1 was given"):
        async with _pool(wrong) as pool:
            pool.submit(1)
            async for _ in pool:
                pytest.fail("nothing was visited")


# Checkpoints


async def test_each_visit_is_a_checkpoint() -> None:
    """A cancelled loop never reaches its body, even when a visit is ready."""
    async with _pool() as pool:
        pool.submit(1)
        await anyio.wait_all_tasks_blocked()
        assert pool.statistics().buffered == 1
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in pool:
                pytest.fail("reached the body of a cancelled loop")

        assert scope.cancelled_caught
        assert [visit.item async for visit in pool] == [1]


async def test_the_end_is_a_checkpoint() -> None:
    """To be told once more that nothing is left can be cancelled, too."""
    async with _pool() as pool:
        assert [visit async for visit in pool] == []
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in pool:
                pytest.fail("there is nothing")

    assert scope.cancelled_caught


async def test_a_loop_over_ready_visits_lets_others_run() -> None:
    """Also where neither the jobs nor the body ever wait."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async def page(job: Job[int]) -> None:
        pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        async with _pool(page) as pool:
            pool.submit_from(range(2000))
            async for _ in pool:
                pass
        tasks.cancel_scope.cancel()

    assert turns >= 2000 // 128
