"""For whom tests and fixtures run: what they start inherits it, and tells of it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager
from functools import lru_cache, wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from types import MethodType, TracebackType
from typing import Any, TypeAlias, final

from safeconc.leaks._origins import owner

Step: TypeAlias = Callable[[], AbstractContextManager[object]]
"""Makes a block for each stretch in which a function runs."""


@final
class owning:  # noqa: N801 - used like a function
    """A block in which all that is started is *who*'s; nobody's if that is None."""

    def __init__(self, who: str | None) -> None:
        self._who = who

    def __enter__(self) -> None:
        self._before = owner.get()
        owner.set(self._who)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Not reset(): the block may be left in a copy of the context.
        owner.set(self._before)


def stepwise(fn: Any, step: Step) -> Any:
    """Return an async function with each of its stretches in a block.

    It stays what it is (a coroutine function, an async generator function, a method),
    since by that pytest's plugins tell who is to run it.
    """
    if isinstance(fn, MethodType):
        return MethodType(stepwise(fn.__func__, step), fn.__self__)
    if iscoroutinefunction(fn):
        return _coroutine(fn, step)
    return _generator(fn, step)


@lru_cache(maxsize=1024)
def has_steps(fn: Any) -> bool:
    """Tell whether *fn* is an async function: it takes a while to find out."""
    return iscoroutinefunction(fn) or isasyncgenfunction(fn)


def _coroutine(fn: Callable[..., Awaitable[Any]], step: Step) -> Any:
    @wraps(fn)
    async def stepped(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with step():
            return await fn(*args, **kwargs)

    return stepped


def _generator(fn: Callable[..., AsyncGenerator[Any, Any]], step: Step) -> Any:
    @wraps(fn)
    async def stepped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        __tracebackhide__ = True
        generator = fn(*args, **kwargs)
        go_on, args = generator.asend, (None,)
        while True:
            try:
                with step():
                    value = await go_on(*args)
            except StopAsyncIteration:
                return
            try:
                go_on, args = generator.asend, ((yield value),)
            except BaseException as exc:  # noqa: BLE001 - of all sorts, to be passed on
                go_on, args = generator.athrow, (exc,)

    return stepped
