"""Items in, results out, over threads: the engine of FanOut and fan_out.

There are two locks. That of the items is held while an item is taken, which may block
for as long as the iterable likes; inside of it the block's own may be taken, which
guards where the results go.
"""

import time
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor
from contextvars import Context as ContextVars
from threading import Lock
from types import CoroutineType, GeneratorType
from typing import Any, final

import anyio
from typing_extensions import override

from safeconc._callables import check_blocking, check_returned, name_of
from safeconc._context import check
from safeconc._fan import (
    END,
    Fan,
    FanOutStatistics,
    Progress,
    check_bound,
    iterate,
    make_window,
    room_for,
)
from safeconc._policy._window import Window
from safeconc.threads._crew import Crew
from safeconc.threads._pump import Pump
from safeconc.threads._siblings import Siblings
from safeconc.threads._waiter import ADVICE, Waiter
from safeconc.threads._worker import Worker

_COROUTINE: type = CoroutineType

_ENDED: Any = object()
"""The block has ended before a result could be handed over."""

_NOTHING: Any = object()
"""There is no result: the call of the item failed, or none was taken."""

_NO_RESULTS = (_NOTHING, _ENDED, END)
"""What a consumer may be left with in place of one."""


class Run(Fan):
    """Items in, calls out: what does not depend on where the results go.

    Each worker takes an item, calls the function, and puts the result. The first
    worker starts the second one when it has its first item, and so on: so there are
    never more of them than items.
    """

    def __init__(
        self,
        kind: str,
        *,
        name: str | None,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        limit: int,
        rate: float | None,
        burst: int,
        progress: bool | Progress,
        return_exceptions: bool,
        executor: Executor | None,
    ) -> None:
        check_blocking(fn, ADVICE)
        if isinstance(limit, anyio.CapacityLimiter):
            raise TypeError(
                "an anyio.CapacityLimiter belongs to an event loop; a limit of threads "
                "is a whole number"
            )
        if isinstance(items, AsyncIterable):
            raise TypeError(
                f"threads cannot await the items of {items!r}; use safeconc.{kind}, "
                "in a task"
            )
        self.siblings = Siblings(kind, name)
        self.siblings.on_over = self.on_over
        self.siblings.on_gone = self._close_items
        super().__init__(
            name=self.siblings.name,
            items=items,
            limit=check_bound(limit),
            rate=rate,
            burst=burst,
            progress=progress,
            return_exceptions=return_exceptions,
        )
        self.fn = fn
        self.what = name_of(fn)
        self.iterator = iterate(items, "iterable")
        self.turn = Lock()
        self.exhausted = False
        if executor is None:
            self.crew = Crew(self.siblings, self.work, limit)
        else:
            self.crew = Crew(self.siblings, Pump(self, executor).work, 1)
        self.wake: Callable[[], object] = self.crew.wake
        self._reporting = Lock()

    variables: ContextVars
    """What each call gets a copy of."""

    variables_of_items: ContextVars
    """What the iterable runs in, whichever thread advances it."""

    def begin(self) -> None:
        """Start, inside the block."""
        self.variables = self.crew.variables = self.siblings.contextvars()
        self.variables_of_items = self.siblings.contextvars()
        self.open_bar()
        self.hire()

    def end(self) -> None:
        """Finish what is shown; the block has been left."""
        self.close_bar()

    @override
    def statistics(self) -> FanOutStatistics:
        with self.siblings.lock:  # all at one and the same moment
            return super().statistics()

    # What depends on where the results go

    @abstractmethod
    def start_item(self) -> int:
        """Note that an item was taken; return its key."""

    @abstractmethod
    def put(self, key: int, value: Any) -> None:
        """Put a result; under the lock."""

    def has_room(self) -> bool:
        """Tell whether there is room for one more result."""
        return True

    def room_is_left(self) -> None:
        """Have somebody use what room there is; under the lock."""

    def on_over(self) -> None:
        """Send the workers home; nothing more is to start."""
        self.crew.close()

    # In the threads

    def work(self, worker: Worker) -> None:
        """Be a worker."""
        worker.doing = self.what
        while True:
            taken = self.take_item(worker)
            if taken is None:
                if not self._rest(worker):
                    return
                continue
            key, item = taken
            try:
                value: object = self.variables.copy().run(self.fn, item)
                if type(value) is _COROUTINE:
                    self.refuse_coroutine(value)
            except BaseException as exc:  # noqa: BLE001 - judged there
                self.failed(key, exc)
            else:
                self.settle(key, value)
            taken = item = value = None

    def take_item(self, worker: Worker) -> tuple[int, Any] | None:
        """Take an item in its turn and time; None if there is none, or no room."""
        self.wait_turn(worker)
        try:
            if self.exhausted or self.is_cut_short() or not self.has_room():
                return None
            item = self.variables_of_items.run(next, self.iterator, END)
            if item is END:
                self.exhaust()
                return None
            if self.rate is not None:
                now = time.monotonic()
                self.siblings.context.sleep(self.rate.reserve(now) - now)
            key = self.start_item()
        except BaseException as exc:  # noqa: BLE001 - the block's error
            self.fail_items(exc)
            return None
        finally:
            self.turn.release()
        self.grow(worker)
        return key, item

    def wait_turn(self, worker: Worker) -> None:
        """Wait until nobody else takes an item."""
        if not self.turn.acquire(blocking=False):
            doing, worker.doing = worker.doing, None  # it is not this one that blocks
            self.turn.acquire()
            worker.doing = doing

    def is_cut_short(self) -> bool:
        """Tell whether the block has ended, and note that not all was done then."""
        if not self.siblings.ended:
            return False
        self.siblings.cut_short = True
        return True

    def grow(self, worker: Worker) -> None:
        """Have one more worker, once for each that has found something to do."""
        if worker.job is None:
            try:
                if self.hire():
                    worker.job = self
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self.siblings.fail(exc)

    def hire(self) -> bool:
        """Have one more worker look for items; False if there is no room for it yet."""
        with self.siblings.lock:
            if self.crew.closed:
                return True
            if not self.has_room():
                return False
            worker = self.crew.hire()
        if worker is not None:
            self.crew.start(worker, _nothing)
        return True

    def exhaust(self) -> None:
        """Note that no further item will be taken."""
        with self.siblings.lock:
            self.exhausted = True
            self.crew.close()
            self.check_end()

    def check_end(self) -> None:
        """Look whether all is done, and say so to who waits for it; under the lock."""

    def fail_items(self, exc: BaseException) -> None:
        """End the block for an error of the iterable, or go with a cancellation."""
        self.exhaust()
        self.fail(exc)

    def fail(self, exc: BaseException) -> None:
        """End the block for an error, unless it came of the end."""
        error = self.siblings.without_cancellation(exc)
        if error is None:
            self.siblings.cut_short = True
        else:
            self.siblings.fail(error)

    def refuse_coroutine(self, value: object) -> None:
        """End the block because the function makes coroutines: a mistake."""
        try:
            check_returned(value, ADVICE)
        except TypeError as exc:
            self.siblings.fail(exc)

    def failed(self, key: int, exc: BaseException) -> None:
        """Take the error of an item: it is the block's, or its result."""
        if self.note_failure(key, exc):
            self.tell()

    def note_failure(self, key: int, exc: BaseException) -> bool:
        """Take it, and leave it to the caller to tell of it, if that is to be."""
        if self.gives_back(exc) and not self.siblings.is_aftermath(exc):
            return self.note(key, exc, failures=1)
        self.fail(exc)
        return self.note(key, _NOTHING)

    @override
    def gives_back(self, error: BaseException) -> bool:
        # An executor that is broken calls nothing any more.
        return super().gives_back(error) and not isinstance(error, BrokenExecutor)

    def settle(self, key: int, value: Any, *, failures: int = 0) -> None:
        """Note that an item has ended, put its result, and tell of it."""
        if self.note(key, value, failures=failures):
            self.tell()

    def note(self, key: int, value: Any, *, failures: int = 0) -> bool:
        """Note that an item has ended, and put its result; True if it is to be told."""
        with self.siblings.lock:
            over = self.siblings.over
            self.finished += 1
            self.failures += failures
            if value is not _NOTHING and not over:  # else nobody would take it
                self.put(key, value)
                self.room_is_left()
                self.check_end()
        return self.report is not None and not over

    def tell(self) -> None:
        """Report the statistics to whoever wants them."""
        assert self.report is not None
        with self._reporting:
            try:
                self.report(self.statistics())
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self.siblings.fail(exc)

    def _rest(self, worker: Worker) -> bool:
        """Wait until there may be items to take; False if there will be none."""
        with self.siblings.lock:
            if not self.exhausted and not self.siblings.ended and self.has_room():
                return True
            resting = self.crew.line_up(worker)
        if resting:
            worker.rest()
            worker.doing = self.what
        return resting

    def _close_items(self) -> None:
        """Close a generator that was not read to its end, once nobody is in it."""
        items = self.iterator
        # A thread that was given up may stand in there for ever.
        if isinstance(items, GeneratorType) and not items.gi_running:
            self.variables_of_items.run(items.close)


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
    def start_item(self) -> int:
        self.collected.append(None)
        return len(self.collected) - 1

    @override
    def put(self, key: int, value: Any) -> None:
        self.collected[key] = value

    @override
    def work(self, worker: Worker) -> None:
        if self.report is None and self.rate is None:
            self._work_plainly(worker)
        else:
            super().work(worker)

    def _work_plainly(self, worker: Worker) -> None:
        """Do what :meth:`Run.work` does, for the common case, where nobody counts."""
        fn, copy, collected = self.fn, self.variables.copy, self.collected
        take, iterator = self.variables_of_items.run, self.iterator
        take_turn, give_turn = self.turn.acquire, self.turn.release
        context = self.siblings.context
        worker.doing = self.what
        while True:
            if not take_turn(False):  # noqa: FBT003 - as the lock has it
                self.wait_turn(worker)
            try:
                if self.exhausted or (context.done and self.is_cut_short()):
                    return
                item = take(next, iterator, END)
                if item is END:
                    self.exhaust()
                    return
                key = len(collected)
                collected.append(None)
            except BaseException as exc:  # noqa: BLE001 - the block's error
                self.fail_items(exc)
                return
            finally:
                give_turn()
            if worker.job is None:
                self.grow(worker)
            try:
                value: object = copy().run(fn, item)
                collected[key] = value
                if type(value) is _COROUTINE:
                    self.refuse_coroutine(value)
            except BaseException as exc:  # noqa: BLE001 - judged there
                self.failed(key, exc)
            item = value = None


@final
class Streamed(Run):
    """The run of :class:`FanOut`: results leave through a window."""

    def __init__(self, *, ordered: bool, buffer: int | None, **options: Any) -> None:
        self._consumers: OrderedDict[Waiter, None] = OrderedDict()
        self.window: Window[Any]
        super().__init__("FanOut", **options)
        self.window, buffer = make_window(ordered=ordered, buffer=buffer)
        self._room = room_for(self.limit, buffer)
        self.siblings.ends_with_body = True

    @property
    @override
    def started(self) -> int:
        return self.window.started

    @override
    def buffered(self) -> int:
        return self.window.buffered

    @override
    def start_item(self) -> int:
        with self.siblings.lock:
            return self.window.start()

    @override
    def has_room(self) -> bool:
        return self.window.outstanding < self._room

    @override
    def put(self, key: int, value: Any) -> None:
        self.window.finish(key, value)
        while self._consumers and self.window.is_ready():
            self._consumers.popitem(last=False)[0].hand(self.window.take())

    @override
    def room_is_left(self) -> None:
        if self.has_room() and not self.exhausted:
            self.wake()

    def has_ended(self) -> bool:
        """Tell whether every item there is was taken, ended, and consumed."""
        return self.exhausted and self.window.outstanding == 0

    @override
    def check_end(self) -> None:
        if self.has_ended():
            while self._consumers:
                self._consumers.popitem(last=False)[0].hand(END)

    @override
    def on_over(self) -> None:
        super().on_over()
        self.window.clear()
        while self._consumers:
            self._consumers.popitem(last=False)[0].hand(_ENDED)

    def take(self) -> Any:
        """Wait for the next result; ``END`` after the last one."""
        check()
        siblings = self.siblings
        result, waiter = _NOTHING, None
        try:
            with siblings.lock:
                ended = siblings.ended
                if ended:
                    result = _ENDED
                elif self.window.is_ready():
                    result = self.window.take()
                    self.room_is_left()
                    self.check_end()
                elif self.has_ended():
                    result = END
                else:
                    waiter = Waiter()
                    self._consumers[waiter] = None
            if waiter is not None:
                result = siblings.wait(waiter, self._consumers.pop)
        except BaseException:
            self._abandon(result, waiter)
            raise
        if result is _ENDED:
            siblings.refuse()
        return result

    def _abandon(self, result: Any, waiter: Waiter | None) -> None:
        """See that no result goes to a consumer that will not come, after a Ctrl-C."""
        with self.siblings.lock:
            if waiter is not None:
                self._consumers.pop(waiter, None)
                if waiter._handed:
                    result = waiter._value
            if self.siblings.over or any(result is each for each in _NO_RESULTS):
                return
            if self._consumers:
                self._consumers.popitem(last=False)[0].hand(result)
            else:
                self.window.put_back(result)


def _nothing() -> None:
    """Take nothing back: a worker of a fan-out has no job yet."""
