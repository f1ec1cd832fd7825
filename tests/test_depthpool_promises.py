"""What a pool promises of jobs and visits, in tasks and in threads."""

import functools
from contextvars import ContextVar, copy_context
from dataclasses import replace
from typing import Any

import pytest

from safeconc import (
    Context,
    ContextCancelled,
    DepthPoolStatistics,
    Job,
    Visit,
    current_context,
)
from tests.worlds import World, in_every_world

UNTOUCHED = DepthPoolStatistics(0, 0, 0, 0, (), (), 0, 0, 0, 0, 0, 0)

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


async def echo(job: Job[Any]) -> Any:
    """Return the item."""
    return job.item


async def digits(job: Job[str]) -> int:
    """Be a number; the children have one digit more."""
    for digit in "01":
        job.submit(job.item + digit)
    return len(job.item)


def pool_of(world: World, fn: Any = echo, **options: Any) -> Any:
    """Make a small pool."""
    return world.DepthPool(fn, **({"max_depth": 2, "limit": 3} | options))


# Visits


@in_every_world
async def test_a_visit_tells_where_it_stands(world: World) -> None:
    """Its item, its depth, its parent's item, and what the function returned."""
    async with pool_of(world, digits, max_depth=1, limit=1) as pool:
        assert pool.submit("7")
        visits = [visit async for visit in pool]

    assert visits == [
        Visit("7", 0, None, 1),
        Visit("71", 1, "7", 2),
        Visit("70", 1, "7", 2),
    ]
    assert visits[1].parent == "7"


@in_every_world
async def test_a_job_knows_what_its_visit_tells(world: World) -> None:
    """And it shows that in dumps."""
    seen: list[tuple[object, ...]] = []

    async def page(job: Job[str]) -> None:
        seen.append((job.item, job.depth, job.parent, repr(job)))
        job.submit("b")

    async with pool_of(world, page, max_depth=1, limit=1) as pool:
        pool.submit("a")
        async for _ in pool:
            pass

    assert seen == [
        ("a", 0, None, "<Job 'a' at depth 0>"),
        ("b", 1, "a", "<Job 'b' at depth 1>"),
    ]


@in_every_world
async def test_submit_tells_whether_the_job_was_accepted(world: World) -> None:
    """Too deep, known or over the budget: False, and counted."""
    answers: list[bool] = []

    async def page(job: Job[int]) -> None:
        answers.append(job.submit(job.item + 1))
        answers.append(job.submit(job.item))
        answers.append(job.submit_from([job.item + 2]))

    pool = pool_of(world, page, max_depth=1, key=abs, limit=1)
    async with pool:
        assert pool.submit(0)
        assert not pool.submit(0)
        async for _ in pool:
            pass

    assert answers == [True, False, True, False, False, False, False, False, False]
    assert pool.statistics().too_deep == 6
    assert pool.statistics().duplicates == 2


@in_every_world
async def test_whatever_is_called_by_a_job_is_a_function(world: World) -> None:
    """As with all that takes a function here."""

    async def scaled(job: Job[int], factor: int) -> int:
        return job.item * factor

    async with pool_of(world, functools.partial(scaled, factor=2)) as pool:
        pool.submit(21)

        assert [visit.result async for visit in pool] == [42]


@in_every_world
async def test_the_limit_is_told(world: World) -> None:
    """As it was given."""
    assert pool_of(world, limit=7).limit == 7


# Statistics


@in_every_world
async def test_statistics_before_anything_happened(world: World) -> None:
    """A pool that was not entered has counted nothing."""
    assert pool_of(world).statistics() == UNTOUCHED


@in_every_world
async def test_statistics_of_a_tree(world: World) -> None:
    """What was accepted and what has ended is told by depth."""
    pool = pool_of(world, digits, limit=2, key=str)
    async with pool:
        pool.submit("")
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


@in_every_world
async def test_statistics_while_jobs_run_and_wait(world: World) -> None:
    """Running jobs have not ended, nor have those that wait."""

    async def stay(job: Job[int]) -> None:
        await world.sleep_forever()

    pool = pool_of(world, stay, limit=2)
    async with pool:
        for item in range(5):
            pool.submit(item)
        await world.until(lambda: pool.statistics().running == 2)

        assert replace(pool.statistics(), peak_frontier=5) == DepthPoolStatistics(
            3, 5, 2, 0, (5,), (0,), 0, 0, 0, 0, 0, 0
        )
    assert replace(pool.statistics(), peak_frontier=5) == DepthPoolStatistics(
        0, 5, 0, 0, (5,), (0,), 0, 0, 0, 0, 0, 0
    )


# Contextvars


@in_every_world
async def test_each_job_sees_the_variables_of_its_submit(world: World) -> None:
    """As they were at that moment, from whichever worker it is run."""

    async def page(job: Job[str]) -> str:
        seen = VARIABLE.get()
        VARIABLE.set(job.item)
        job.submit(job.item + "x")
        await world.pause()
        VARIABLE.set("after its submits")
        return seen

    results: dict[str, str] = {}
    reset = VARIABLE.set("unset")
    async with pool_of(world, page, max_depth=1, limit=1) as pool:
        pool.submit("first")
        VARIABLE.set("changed")
        pool.submit("second")
        VARIABLE.set("body")
        async for visit in pool:
            results[visit.item] = visit.result

        assert VARIABLE.get() == "body"
    VARIABLE.reset(reset)
    assert results == {
        "first": "unset",
        "firstx": "first",
        "second": "changed",
        "secondx": "second",
    }


@in_every_world
async def test_items_of_an_iterable_see_the_variables_of_its_submit(
    world: World,
) -> None:
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
    async with pool_of(world, page, limit=1) as pool:
        reset = VARIABLE.set("at the submit")
        pool.submit_from(items())
        VARIABLE.set("afterwards")

        assert [visit.result async for visit in pool] == ["set by 0", "set by 1"]
        assert VARIABLE.get() == "afterwards"
        VARIABLE.reset(reset)
    assert made == ["at the submit", "set by 0"]


@in_every_world
async def test_an_iterable_is_closed_among_the_variables_of_its_submit(
    world: World,
) -> None:
    """Its cleanup finds what its beginning found."""
    closed: list[str] = []

    def items() -> Any:
        try:
            while True:
                yield 1
        finally:
            closed.append(VARIABLE.get())

    async with pool_of(world, limit=1, buffer=0) as pool:
        reset = VARIABLE.set("at the submit")
        pool.submit_from(items())
        VARIABLE.reset(reset)
        await world.until(lambda: pool.statistics().buffered)

    assert closed == ["at the submit"]


@in_every_world
async def test_what_a_key_sets_no_other_job_sees(world: World) -> None:
    """It is called among the variables of the submit, not those of a worker."""

    def key(item: int) -> int:
        VARIABLE.set(f"set by the key of {item}")
        return item

    async def page(job: Job[int]) -> str:
        return VARIABLE.get()

    async with pool_of(world, page, limit=1, key=key, max_jobs=2) as pool:
        variables = copy_context()
        variables.run(pool.submit, 1)
        variables = copy_context()
        variables.run(pool.submit_from, [2, 2, 3])

        assert {visit.item: visit.result async for visit in pool} == {
            2: "set by the key of 2",
            1: "set by the key of 1",
        }


@in_every_world
async def test_the_pool_is_the_context_of_its_jobs(world: World) -> None:
    """Not a narrower one of who submitted, which may end earlier."""

    async def page(job: Job[int]) -> Context | None:
        async with world.context():
            job.submit(job.item + 1)
            job.submit_from([job.item + 10])
        return current_context()

    async with pool_of(world, page, max_depth=1, limit=1) as pool:
        outer = current_context()
        async with world.context():
            pool.submit(0)
            pool.submit_from([5])
        contexts = [visit.result async for visit in pool]

    assert contexts == [outer] * 6


# Misuse


@pytest.mark.parametrize("name", ["max_depth", "max_frontier", "max_jobs", "buffer"])
@in_every_world
async def test_bounds_are_whole_numbers(world: World, name: str) -> None:
    """Negative ones, booleans, floats and words are refused at once."""
    for wrong in (True, 1.0, "1"):
        with pytest.raises(TypeError, match=f"{name} must be a whole number or None"):
            pool_of(world, **{name: wrong})
    with pytest.raises(ValueError, match=f"{name} must be at least . *, not -1"):
        pool_of(world, **{name: -1})


@in_every_world
async def test_a_frontier_has_a_place_at_least(world: World) -> None:
    """With none, not even a root could wait for its worker."""
    with pytest.raises(ValueError, match="max_frontier must be at least 1, not 0"):
        pool_of(world, max_frontier=0)


@in_every_world
async def test_a_limit_is_needed(world: World) -> None:
    """None, zero and what is no number are refused; so is forgetting it."""
    with pytest.raises(TypeError, match="a pool needs a limit"):
        pool_of(world, limit=None)
    for wrong in (True, 1.5, "3"):
        with pytest.raises(TypeError, match="limit must be a whole number"):
            pool_of(world, limit=wrong)
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        pool_of(world, limit=0)
    with pytest.raises(TypeError, match="limit"):
        world.DepthPool(echo, max_depth=1)
    with pytest.raises(TypeError, match="max_depth"):
        world.DepthPool(echo, limit=1)


@in_every_world
async def test_words_are_checked(world: World) -> None:
    """An unknown order, overflow or errors mode is refused at once."""
    with pytest.raises(ValueError, match="order must be"):
        pool_of(world, order="Depth")
    with pytest.raises(ValueError, match="overflow must be"):
        pool_of(world, overflow="block")
    with pytest.raises(ValueError, match="errors must be"):
        pool_of(world, errors="all")


@in_every_world
async def test_functions_are_checked(world: World) -> None:
    """What cannot be called is refused at once."""
    with pytest.raises(TypeError, match="key must be callable, not 'name'"):
        pool_of(world, key="name")
    with pytest.raises(TypeError, match="not 5"):
        pool_of(world, 5)


@pytest.mark.parametrize("items", ["https://example.org/", b"item"])
@in_every_world
async def test_a_string_is_not_an_iterable_of_items(world: World, items: Any) -> None:
    """It would be taken letter by letter, which nobody wants."""
    async with pool_of(world) as pool:
        with pytest.raises(TypeError, match=r"not one: write \["):
            pool.submit_from(items)
        with pytest.raises(TypeError, match="items must be iterable, not 5"):
            pool.submit_from(5)

        assert [visit async for visit in pool] == []


@in_every_world
async def test_before_its_block(world: World) -> None:
    """Neither roots nor a loop; the error says where they belong."""
    pool = pool_of(world, name="site")

    with pytest.raises(RuntimeError, match=r"DepthPool 'site' has not been entered"):
        pool.submit(1)
    with pytest.raises(RuntimeError, match=r"submit inside its '(async )?with' block"):
        pool.submit_from([1])
    with pytest.raises(RuntimeError, match=r"has not been entered.*with"):
        aiter(pool)
    assert pool.statistics() == UNTOUCHED


@in_every_world
async def test_entered_twice(world: World) -> None:
    """A pool has one block."""
    pool = pool_of(world)
    async with pool:
        with pytest.raises(RuntimeError, match="this DepthPool has been entered bef"):
            await pool.__aenter__()
    with pytest.raises(RuntimeError, match="make a new one"):
        await pool.__aenter__()


@in_every_world
async def test_after_the_end(world: World) -> None:
    """When the loop has ended there is nothing more to come."""
    async with pool_of(world) as pool:
        pool.submit(1)
        assert len([visit async for visit in pool]) == 1

        with pytest.raises(RuntimeError, match="has ended"):
            pool.submit(2)
        with pytest.raises(RuntimeError, match="has ended"):
            pool.submit_from([2])
    with pytest.raises(RuntimeError, match="has ended"):
        pool.submit(2)
    assert pool.statistics().accepted == (1,)


@in_every_world
async def test_a_submit_after_the_end_is_no_quiet_end(world: World) -> None:
    """It is a mistake of the body, and leaves the block as such."""
    with pytest.raises(RuntimeError, match="has ended"):
        async with pool_of(world) as pool:
            assert [visit async for visit in pool] == []
            pool.submit(2)


@in_every_world
async def test_after_the_block(world: World) -> None:
    """Visits that were left behind are not given out later."""
    async with pool_of(world) as pool:
        pool.submit(1)
        await world.until(lambda: pool.statistics().buffered)

    with pytest.raises(RuntimeError, match="has ended"):
        await anext(aiter(pool))
    assert pool.statistics().buffered == 0


@in_every_world
async def test_a_job_that_is_over_submits_nothing(world: World) -> None:
    """Whoever kept it is told so, whether the pool goes on or not."""
    jobs: list[Job[int]] = []

    async def page(job: Job[int]) -> None:
        jobs.append(job)

    async with pool_of(world, page) as pool:
        pool.submit(1)
        async for _ in pool:
            with pytest.raises(RuntimeError, match="the job 1 is over"):
                jobs[0].submit(2)
    with pytest.raises(RuntimeError, match="before it returns"):
        jobs[0].submit_from([2])


@in_every_world
async def test_jobs_that_were_stopped_submit_nothing(world: World) -> None:
    """Neither one that was under way, nor one that never began."""
    jobs: list[Job[int]] = []

    async def page(job: Job[int]) -> None:
        jobs.append(job)
        await world.sleep_forever()

    async with pool_of(world, page, limit=1) as pool:
        pool.submit(1)
        pool.submit(2)
        await world.until(lambda: jobs)
        waiting: Any = pool._tree._frontier.waiting[0]

    for job in (*jobs, waiting):
        with pytest.raises(RuntimeError, match="is over"):
            job.submit(3)


@in_every_world
async def test_a_job_submits_nothing_while_it_is_stopped(world: World) -> None:
    """The pool has ended, though the job is still tidying up."""
    errors: list[str] = []
    began = world.event()

    async def page(job: Job[int]) -> None:
        began.set()
        try:
            await world.sleep_forever()
        finally:
            with pytest.raises(RuntimeError) as caught:
                job.submit(2)
            errors.append(str(caught.value))

    async with pool_of(world, page) as pool:
        pool.submit(1)
        await began.wait()

    assert errors[0].startswith("this DepthPool has ended; start work inside its ")


@in_every_world
async def test_a_function_of_other_arguments_fails_the_block(world: World) -> None:
    """The error is the one that a call of it raises."""

    async def page() -> None:
        pytest.fail("was called")

    with pytest.raises(TypeError, match="takes 0 positional arguments but 1 was given"):
        async with pool_of(world, page) as pool:
            pool.submit(1)
            async for _ in pool:
                pytest.fail("nothing was visited")


# Cancelled


@in_every_world
async def test_a_cancelled_loop_does_not_reach_its_body(world: World) -> None:
    """Even when a visit is ready, which is there for the next one."""
    async with pool_of(world) as pool:
        pool.submit(1)
        await world.until(lambda: pool.statistics().buffered)
        with pytest.raises(ContextCancelled):
            async with world.context() as context:
                context.cancel()
                async for _ in pool:
                    pytest.fail("reached the body of a cancelled loop")

        assert [visit.item async for visit in pool] == [1]
