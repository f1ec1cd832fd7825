"""Jobs that submit jobs, over tasks: the engine of DepthPool and crawl."""

from _thread import get_ident
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import Context as ContextVars
from contextvars import copy_context
from functools import partial
from typing import Any, NoReturn, final

from anyio.lowlevel import checkpoint
from typing_extensions import override

from safeconc._callables import is_plain
from safeconc._context import ambient, look
from safeconc._crew import AT_ONCE, Crew, Worker, referents
from safeconc._crew import Job as CrewJob
from safeconc._loop import BUDGET
from safeconc._policy._failures import Mode
from safeconc._policy._frontier import NOTHING, PAUSE, Lazy
from safeconc._policy._passes import Passes
from safeconc._policy._visits import END, ENDED, Visits
from safeconc._siblings import (
    NotACoroutineFunction,
    Siblings,
    call,
    check_function,
    raise_fatal,
)
from safeconc._waiter import Waiter
from safeconc._walk import (
    DepthPoolStatistics,
    Job,
    Visit,
    Walk,
    iterate,
    place_below,
    room_of,
)


class Tree(Walk):
    """Jobs that submit jobs, until none is left: without where the results go."""

    def __init__(
        self,
        kind: str,
        *,
        fn: Callable[[Job[Any]], Awaitable[Any]],
        errors: Mode,
        name: str | None,
        **options: Any,
    ) -> None:
        check_function(fn)
        super().__init__(**options)
        self._fn = fn
        self._plain = is_plain(fn)
        self.siblings = Siblings(kind, name, errors)
        self.siblings.on_over = self._on_over
        self.siblings.find_lost = self._find_lost
        self.siblings.is_done = self.is_done
        self.crew = Crew(self.siblings, self, self, self.limit)
        self.siblings.members = self.crew.members
        self._thread: int | None = None
        self._open_in: int | None = None
        self._untouched: object = None

    def begin(self) -> None:
        """Start, inside the block."""
        self.crew.variables = self.siblings.contextvars()
        self._untouched = referents(self.crew.variables)[-1]
        self._thread = self._open_in = get_ident()

    def end(self) -> None:
        """Keep nothing of the owner alive; the block has been left."""
        self.crew.disband()

    # Submitting

    @override
    def submit(self, item: Any, by: Job[Any] | None) -> bool:
        if get_ident() != self._open_in:
            self._refuse()
        depth, parent = (0, None) if by is None else (by.depth + 1, by.item)
        frontier = self._frontier
        if depth < frontier.easy:
            frontier.accepted[depth] += 1
        elif not frontier.admits(item, depth):
            return False
        # None if a worker's own will do, as nearly always: to keep each copy would
        # give the collector something to walk.
        variables: ContextVars | None = None
        current = copy_context()
        if referents(current)[-1] is not self._untouched:
            variables = self.siblings.adopted(current)
        frontier.waiting.append(self.job(variables, depth, parent, item))
        # A worker that is at a step of its own looks for jobs afterwards, and has
        # others look when it waits.
        if not self.crew.stepping:
            self.crew.call()
        return True

    @override
    def submit_from(self, items: Iterable[Any], by: Job[Any] | None) -> bool:
        if get_ident() != self._open_in:
            self._refuse()
        depth, parent = place_below(by)
        iterator = iterate(items)
        if not self._frontier.admits_lazy(depth):
            return False
        variables = self.siblings.contextvars()

        def make(item: Any) -> Job[Any]:
            return self.job(variables.copy(), depth, parent, item)

        self._frontier.waiting.append(Lazy(depth, iterator, make, variables.run))
        if not self.crew.stepping:
            self.crew.call()
        return True

    def _refuse(self) -> NoReturn:
        if self._thread is None:
            self.siblings.refuse_unentered("submit")
        if get_ident() != self._thread:
            raise RuntimeError(
                f"{self.siblings.label} belongs to an event loop in another thread; "
                "submit with anyio.from_thread.run_sync"
            )
        raise self.siblings.mistake() if self.is_over() else self.siblings.refusal()

    # A source of jobs, and what becomes of them; see _crew

    def jobs(self, worker: Worker) -> Iterator[CrewJob]:
        """Make a job of what may start now."""
        fn, plain, frontier = self._fn, self._plain, self._frontier
        while self.running < self.room:
            try:
                job = frontier.take()
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self._fail_items(exc)
                return
            if job is NOTHING:
                break
            if job is PAUSE:
                yield None, checkpoint(), None
                continue
            self.running += 1
            worker.job = job
            try:
                coroutine: Any = fn(job) if plain else call(fn, job)
            except TypeError:  # it takes other arguments
                coroutine = call(fn, job)
            yield job._variables, coroutine, job
        worker.job = None
        self.check_end()

    def has_jobs(self) -> int:
        """Guess how many jobs may start now."""
        return AT_ONCE if self._frontier.waiting and self.running < self.room else 0

    def failed(self, key: Job[Any] | None, error: BaseException) -> None:
        """Take the error of a job."""
        if self.returns(error) and key is not None:
            self._failures += 1
            self[key] = error
        else:
            self.siblings.fail(error)
            self.cancelled(key)

    def cancelled(self, key: Job[Any] | None) -> None:
        """Note that a job was cancelled; so is everything else."""
        if key is not None:
            self.give_up(key)
            self.running -= 1

    @override
    def returns(self, error: BaseException) -> bool:
        # That one is a mistake, not a failure.
        return super().returns(error) and not isinstance(error, NotACoroutineFunction)

    def _fail_items(self, exc: BaseException) -> None:
        """End the block for an error of an iterable, or go with a cancellation."""
        error = self.siblings.verdict(exc)
        if error is None:
            raise exc
        self.siblings.fail(error)
        raise_fatal(exc)

    def _find_lost(self) -> bool:
        return self.crew.find_lost()

    def _on_over(self) -> None:
        self._open_in = None
        self.crew.close()
        for entry in self._clear():
            try:
                entry.close()
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self.siblings.fail(exc)

    @override
    def at_hand(self) -> Iterable[object]:
        return self.crew.jobs()


@final
class Collected(Tree):
    """The tree of :func:`crawl`: all visits into one list."""

    def __init__(self, **options: Any) -> None:
        self.visits: list[Visit[Any, Any]] = []
        super().__init__("crawl", **options)

    @override
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        self.visits.append(visit)

    @override
    def check_end(self) -> None:
        if self.is_done():
            self.crew.close()


@final
class Streamed(Tree):
    """The tree of :class:`DepthPool`: visits leave one by one."""

    def __init__(self, *, buffer: int | None, **options: Any) -> None:
        self.visits: Visits[Visit[Any, Any]] = Visits()
        self._passes = Passes()
        super().__init__("DepthPool", **options)
        self.room = room_of(self.limit, buffer)

    @override
    def is_over(self) -> bool:
        return self.visits.done

    def statistics(self) -> DepthPoolStatistics:
        """Count the jobs."""
        return self.count(len(self.visits.ready))

    @override
    def _deliver(self, visit: Visit[Any, Any]) -> None:
        if self.visits.deliver(visit):
            self.room -= 1

    @override
    def check_end(self) -> None:
        if self.visits.consumers and self._has_ended():
            self._finish()

    def _has_ended(self) -> bool:
        # Asked only where no visit is ready: by who has looked, or for who waits.
        return not self.visits.hands and self.is_done()

    def _finish(self) -> None:
        self.visits.finish()
        self.siblings.close()

    @override
    def _on_over(self) -> None:
        super()._on_over()
        self.visits.close()

    async def take(self) -> tuple[Any, int]:
        """Wait for the next visit, ``END`` after the last one; and a receipt for it."""
        loop, visits = self.siblings.loop, self.visits
        task = loop.current_task()
        if visits.put_down(task):
            self.check_end()
        passes = self._passes
        if passes.left < 1 or ((context := ambient.get()) and context._end):
            passes = self._passes = await look(loop, passes)
        passes.left -= 1
        if visits.done:
            return END, 0
        if self.siblings.over:
            await self.siblings.refuse()
        if visits.ready:
            visit, receipt = visits.take(task)
            self.room += 1
        elif self._has_ended():
            self._finish()
            return END, 0
        else:
            loop.left = BUDGET  # while it waits, others have their turn
            waiter = Waiter(loop)
            visits.consumers[waiter] = task
            visit, receipt = await waiter.wait(visits.consumers.pop)
            passes.pause()
            if visit is ENDED:
                await self.siblings.refuse()
        if self.has_jobs():
            self.crew.call()
        return visit, receipt

    def let_go(self, receipt: int) -> None:
        """Learn, from any thread, that nobody works any more on what was taken."""
        self.siblings.loop.hop(partial(self._let_go, receipt))

    def _let_go(self, receipt: int) -> None:
        if self.visits.let_go(receipt):
            self.check_end()
