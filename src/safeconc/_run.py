"""Items in, results out: the engine of FanOut and fan_out."""

import math
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, final

import anyio
from typing_extensions import override

from safeconc._callables import is_plain
from safeconc._context import ambient, look, spend
from safeconc._crew import AT_ONCE, Crew, Job, Results, Worker
from safeconc._fan import (
    END,
    Fan,
    Progress,
    check_bound,
    iterate,
    make_window,
    room_for,
)
from safeconc._loop import BUDGET
from safeconc._policy._passes import Passes
from safeconc._policy._window import Window
from safeconc._siblings import (
    NotACoroutineFunction,
    Siblings,
    call,
    check_function,
    raise_fatal,
)
from safeconc._waiter import Waiter

_ENDED: Any = object()
"""The block has ended before a result could be handed over."""


class Run(Fan):
    """Items in, jobs out: what does not depend on where the results go.

    Workers take items straight from a plain iterable. Where something has to be
    waited for first (an async iterable's next item, a rate, a token of a shared
    limiter), one task waits: the feeder. So an async generator is advanced and
    closed by one task only, and may hold a cancel scope across its yields.
    """

    def __init__(
        self,
        kind: str,
        *,
        name: str | None,
        fn: Callable[[Any], Awaitable[Any]],
        items: Iterable[Any] | AsyncIterable[Any],
        limit: int | anyio.CapacityLimiter,
        rate: float | None,
        burst: int,
        progress: bool | Progress,
        return_exceptions: bool,
    ) -> None:
        check_function(fn)
        self.siblings = Siblings(kind, name)
        self.siblings.on_over = self._on_over
        self.siblings.find_lost = self._find_lost
        self.siblings.is_done = self.is_done
        self.limiter: anyio.CapacityLimiter | None = None
        # A shared limiter is asked for each item, and nobody else: its total may
        # change while we run.
        bound: float = math.inf
        if isinstance(limit, anyio.CapacityLimiter):
            self.limiter = limit
        else:
            bound = check_bound(limit)
        super().__init__(
            name=self.siblings.name,
            items=items,
            limit=bound,
            rate=rate,
            burst=burst,
            progress=progress,
            return_exceptions=return_exceptions,
        )
        self._fn = fn
        self._plain = is_plain(fn)
        self._iterator: Any = None
        self._async_iterator: Any = None
        if isinstance(items, AsyncIterable):
            self._async_iterator = aiter(items)
        else:
            self._iterator = iterate(items, "iterable, or async iterable")
        self._fed: deque[tuple[int, Any]] | None = None
        if self._iterator is None or self.rate or self.limiter:
            self._fed = deque()
        self._tokens: dict[int, object] = {}
        self._room: Waiter | None = None
        self._unstarted: anyio.TaskHandle[None] | None = None
        self._exhausted = False
        self.crew = Crew(
            self.siblings,
            self,
            self.results(),
            None if math.isinf(self.limit) else int(self.limit),
        )
        self.siblings.members = self.crew.members

    def begin(self) -> None:
        """Start, inside the block."""
        self.crew.variables = self.siblings.contextvars()
        self.open_bar()
        if self._fed is None:
            self.crew.call()
        else:
            self._unstarted = self.siblings.tasks.create_task(
                self._feed(), name=f"{self.siblings.name}: feeder"
            )

    def end(self) -> None:
        """Finish what is shown; the block has been left."""
        self.close_bar()
        self.crew.disband()

    # What depends on where the results go

    @abstractmethod
    def results(self) -> Results:
        """Return what takes the results of the jobs."""

    @abstractmethod
    def start_item(self) -> int:
        """Note that an item was taken; return its key."""

    def has_room(self) -> bool:
        """Tell whether there is room for one more result."""
        return True

    def is_done(self) -> bool:
        """Tell whether every item there is was taken by a worker."""
        return self._exhausted and not self._fed

    def check_end(self) -> None:
        """Look whether all is done, and say so to who waits for it."""

    # A source of jobs, and what becomes of them; see _crew

    def jobs(self, worker: Worker) -> Iterator[Job]:
        """Make a job of each item that may start now."""
        del worker
        for key, item in self._fed_items() if self._fed is not None else self._items():
            yield None, call(self._fn, item), key
        if self._exhausted and not self.has_jobs():
            self.crew.close()
        self.check_end()

    def has_jobs(self) -> int:
        """Tell how many items may start now; of a plain iterable's, guess."""
        if self._fed is not None:
            return len(self._fed)
        return AT_ONCE if not self._exhausted and self.has_room() else 0

    def failed(self, key: int, error: BaseException) -> None:
        """Take the error of an item."""
        if self.gives_back(error) and not isinstance(error, NotACoroutineFunction):
            self.failures += 1
            self.crew.results[key] = error
        else:
            self.siblings.fail(error)
            self.settled(key)

    def cancelled(self, key: int) -> None:
        """Note that an item's call was cancelled; so is everything else."""
        self.settled(key)

    def settled(self, key: int) -> None:
        """Note that an item has ended: its slot is free, its token goes back."""
        self.finished += 1
        token = self._tokens.pop(key, None)
        if token is not None and self.limiter is not None:
            self.limiter.release_on_behalf_of(token)
        report = self.report
        if report is not None and not self.siblings.over:
            try:
                report(self.statistics())
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self.siblings.fail(exc)
                raise_fatal(exc)
        self.ring()

    def ring(self) -> None:
        """Wake the feeder, if it waits and there is room now."""
        if self._room is not None and not self.siblings.over and self._may_feed():
            room, self._room = self._room, None
            room.hand()

    # The items

    def _items(self) -> Iterator[tuple[int, Any]]:
        iterator: Iterator[Any] = self._iterator
        while not self._exhausted and self.has_room():
            try:
                item = next(iterator, END)
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self._fail_items(exc)
                return
            if item is END:
                self._exhausted = True
                return
            yield self.start_item(), item

    def _fed_items(self) -> Iterator[tuple[int, Any]]:
        assert self._fed is not None
        while self._fed:
            yield self._fed.popleft()

    def _may_feed(self) -> bool:
        return self.started - self.finished < self.limit and self.has_room()

    async def _feed(self) -> None:
        """Be the feeder: take each item as soon as it may start, then close."""
        self._unstarted = None
        failure: BaseException | None = None
        with anyio.CancelScope() as scope:
            try:
                while await self._feed_one():
                    await spend(self.siblings.loop)
            except BaseException as exc:  # noqa: BLE001 - judged below
                failure = exc
            # Not a scope of its own: a generator that holds one open across its
            # yields could not leave it inside of ours.
            scope.shield = True
            await self._aclose()
        self._exhausted = True
        if failure is not None:
            # Here, where the generator's own scopes are closed: it may have been
            # one of them that cancelled us.
            self._fail_items(failure)
        elif not self._fed:
            self.crew.close()
        self.check_end()

    def _fail_items(self, exc: BaseException) -> None:
        """End the block for an error of the iterable, or go with a cancellation."""
        self._exhausted = True
        error = self.siblings.verdict(exc)
        if error is None:
            raise exc
        self.siblings.fail(error)
        raise_fatal(exc)

    async def _feed_one(self) -> bool:
        """Take one item when its time has come; False if there is none."""
        if not self._may_feed():
            self._room = Waiter()
            await self._room.wait()
        token = object()
        if self.limiter is not None:
            await self.limiter.acquire_on_behalf_of(token)
        started = False
        try:
            item = await self._next()
            if item is not END and self.rate is not None:
                await anyio.sleep_until(self.rate.reserve(anyio.current_time()))
            started = item is not END and not self.siblings.over
        finally:
            if self.limiter is not None and not started:
                self.limiter.release_on_behalf_of(token)
        if started and self._fed is not None:
            key = self.start_item()
            self._tokens[key] = token
            self._fed.append((key, item))
            self.crew.call()
        return started

    async def _next(self) -> Any:
        if self._async_iterator is not None:
            return await anext(self._async_iterator, END)
        return next(self._iterator, END)

    async def _aclose(self) -> None:
        aclose = getattr(self._async_iterator, "aclose", None)
        if aclose is not None and isinstance(self._async_iterator, AsyncGenerator):
            try:
                await aclose()
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self.siblings.fail(exc)
                raise_fatal(exc)

    def _find_lost(self) -> bool:
        """Tell whether a task was cancelled before it began."""
        feeder, self._unstarted = self._unstarted, None
        if feeder is not None:
            feeder.coro.close()
        return self.crew.find_lost() or feeder is not None

    def _on_over(self) -> None:
        self._exhausted = True
        self.crew.close()
        for key, _ in self._fed or ():
            self.cancelled(key)
        if self._fed is not None:
            self._fed.clear()
        close = getattr(self._iterator, "close", None)
        if close is not None and isinstance(self._iterator, Generator):
            try:
                close()
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self.siblings.fail(exc)


@final
class Collected(Run):
    """The run of :func:`fan_out`: all results into one list."""

    def __init__(self, **options: Any) -> None:
        self.collected: list[Any] = []
        super().__init__("fan_out", **options)

    @property
    @override
    def started(self) -> int:
        return len(self.collected)

    @override
    def results(self) -> Results:
        # The list itself, unless somebody must hear of each result.
        return self if self._fed is not None or self.report else self.collected

    def __setitem__(self, key: int, value: Any) -> None:
        self.collected[key] = value
        self.settled(key)

    @override
    def start_item(self) -> int:
        self.collected.append(None)
        return len(self.collected) - 1

    @override
    def jobs(self, worker: Worker) -> Iterator[Job]:
        if self._fed is None and self._plain:
            return self._plain_jobs()
        return super().jobs(worker)

    def _plain_jobs(self) -> Iterator[Job]:
        """Do what :meth:`Run.jobs` does, for the common case at half the price.

        A call of a plain coroutine function runs none of its code, so it may be made
        here, and nobody needs to look at what comes out.
        """
        fn = self._fn
        collected, iterator = self.collected, self._iterator
        try:
            for item in iterator:
                key = len(collected)
                collected.append(None)
                try:
                    coroutine: Any = fn(item)
                except TypeError:  # it takes other arguments
                    coroutine = call(fn, item)
                yield None, coroutine, key
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001 - the block's error
            self._fail_items(exc)
        self._exhausted = True
        self.crew.close()


@final
class Streamed(Run):
    """The run of :class:`FanOut`: results leave through a window."""

    def __init__(self, *, ordered: bool, buffer: int | None, **options: Any) -> None:
        self._consumers: OrderedDict[Waiter, None] = OrderedDict()
        self._passes = Passes()
        self.window: Window[Any]
        super().__init__("FanOut", **options)
        self.window, self._buffer = make_window(ordered=ordered, buffer=buffer)

    @property
    @override
    def started(self) -> int:
        return self.window.started

    @override
    def buffered(self) -> int:
        return self.window.buffered

    @override
    def results(self) -> Results:
        return self

    def __setitem__(self, key: int, value: Any) -> None:
        self.window.finish(key, value)
        while self._consumers and self.window.is_ready():
            self._consumers.popitem(last=False)[0].hand(self.window.take())
        self.settled(key)

    @override
    def start_item(self) -> int:
        return self.window.start()

    @override
    def has_room(self) -> bool:
        limit = self.limit if self.limiter is None else self.limiter.total_tokens
        return self.window.outstanding < room_for(limit, self._buffer)

    @override
    def is_done(self) -> bool:
        """Tell whether every item there is was taken, ended, and consumed."""
        return self._exhausted and self.window.outstanding == 0

    @override
    def check_end(self) -> None:
        if self.is_done() and not self.siblings.over:
            while self._consumers:
                self._consumers.popitem(last=False)[0].hand(END)

    @override
    def _on_over(self) -> None:
        super()._on_over()
        self.window.clear()
        while self._consumers:
            self._consumers.popitem(last=False)[0].hand(_ENDED)

    async def take(self) -> Any:
        """Wait for the next result; ``END`` after the last one."""
        passes = self._passes
        if passes.left < 1 or ((context := ambient.get()) and context._end):
            passes = self._passes = await look(self.siblings.loop, passes)
        passes.left -= 1
        if self.siblings.over:
            await self.siblings.refuse()
        if self.window.is_ready():
            result = self.window.take()
        elif self.is_done():
            return END
        else:
            self.siblings.loop.left = BUDGET  # while it waits, others have their turn
            waiter = Waiter(self.siblings.loop)
            self._consumers[waiter] = None
            result = await waiter.wait(self._consumers.pop)
            passes.pause()
            if result is _ENDED:
                await self.siblings.refuse()
        if self._fed is not None:
            self.ring()
        elif self.has_jobs():
            self.crew.call()
        self.check_end()
        return result
