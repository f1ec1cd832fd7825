"""Calls that an executor makes: in other threads, processes, or machines."""

import concurrent.futures
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextvars import Context as ContextVars
from typing import Any, Protocol, final

from safeconc.threads._siblings import Siblings
from safeconc.threads._worker import Worker


class Source(Protocol):
    """Where the items come from, and their results go: a fan-out."""

    @property
    def siblings(self) -> Siblings: ...
    @property
    def fn(self) -> Callable[[Any], Any]: ...
    @property
    def what(self) -> str: ...
    @property
    def limit(self) -> float: ...
    @property
    def variables(self) -> ContextVars: ...
    @property
    def exhausted(self) -> bool: ...

    wake: Callable[[], object]

    def take_item(self, worker: Worker) -> tuple[int, Any] | None: ...
    def is_cut_short(self) -> bool: ...
    def note(self, key: int, value: Any) -> bool: ...
    def note_failure(self, key: int, exc: BaseException) -> bool: ...
    def tell(self) -> None: ...


@final
class Pump:
    """Keeps an executor busy, with no more than the limit of a fan-out in its hands.

    One thread takes the items and submits them. The results are put by whoever has
    them, in the callbacks of their futures, which also wake that thread.
    """

    def __init__(self, source: Source, executor: Executor) -> None:
        if not isinstance(executor, Executor):
            raise TypeError(
                "executor must be a concurrent.futures.Executor, such as "
                f"ProcessPoolExecutor(), not {executor!r}"
            )
        self._source = source
        self._executor = executor
        self._submit = executor.submit
        # Contextvars cannot be sent elsewhere, and need not be sent to threads here.
        self._is_near = isinstance(executor, ThreadPoolExecutor) and not isinstance(
            executor, _ELSEWHERE
        )
        self._pending: dict[Future[Any], int] = {}
        self._untold: deque[None] = deque()
        self._call: Callable[[], object]

    def work(self, worker: Worker) -> None:
        """Be the thread that submits."""
        self._call = self._source.wake = worker.call
        contexts = (self._source.siblings.context,)
        try:
            while self._fill(worker):
                worker.rest(contexts)
        finally:
            self._drain(worker)

    def _fill(self, worker: Worker) -> bool:
        """Submit what may be; False if there is nothing more to wait for."""
        source = self._source
        worker.called = False
        self._tell()
        while len(self._pending) < source.limit:
            worker.doing = source.what
            taken = source.take_item(worker)
            worker.doing = None
            if taken is None:
                break
            self._start(*taken)
        if source.siblings.ended:
            # With its hands full it has not asked whether there are more.
            if not source.exhausted:
                source.is_cut_short()
            return False
        return bool(self._pending or self._untold) or not source.exhausted

    def _start(self, key: int, item: Any) -> None:
        source = self._source
        try:
            if self._is_near:
                future = self._submit(source.variables.copy().run, source.fn, item)
            else:
                future = self._submit(source.fn, item)
        except BaseException as exc:  # noqa: BLE001 - the block's error
            source.note_failure(key, exc)
            return
        self._pending[future] = key
        future.add_done_callback(self._end)

    def _end(self, future: Future[Any]) -> None:
        """Put the result of a call; in whatever thread of the executor's."""
        source, key = self._source, self._pending[future]
        if future.cancelled():
            told = source.note_failure(key, self._cancellation())
        elif (error := future.exception()) is not None:
            told = source.note_failure(key, error)
        else:
            told = source.note(key, future.result())
        if told:
            self._untold.append(None)
        del self._pending[future]
        self._call()

    def _cancellation(self) -> BaseException:
        """Make the error for a call that was cancelled: by us, or by somebody else."""
        source = self._source
        if source.siblings.context.done and source.siblings.context.err is not None:
            return source.siblings.context.err
        return CancelledError(
            f"a call of {source.what} was cancelled, and {source.siblings.label} did "
            "not ask for it; was the executor shut down?"
        )

    def _drain(self, worker: Worker) -> None:
        """Cancel the calls that have not begun, and wait for those that have."""
        for future in list(self._pending):
            future.cancel()
        worker.doing = f"{self._source.what} in a {type(self._executor).__name__}"
        worker.called = False
        while self._pending:
            worker.rest()
            worker.called = False  # before the look: who ends a call looks after it
        self._tell()

    def _tell(self) -> None:
        """Have those who want them get the statistics, once for each item."""
        while self._untold:
            self._untold.popleft()
            self._source.tell()


_ELSEWHERE: tuple[type[Executor], ...] = tuple(
    getattr(concurrent.futures, name)
    for name in ("InterpreterPoolExecutor",)
    if hasattr(concurrent.futures, name)
)
"""Those that are pools of threads by descent and share nothing with the caller."""
