"""What is to be called: by which name, and whether it is of the right kind."""

from functools import partial
from inspect import CO_COROUTINE, iscoroutine
from types import CoroutineType, FunctionType, MethodType
from typing import NoReturn


def name_of(fn: object) -> str:
    """Name a callable: a partial by its function, an instance by its class."""
    name: str | None = getattr(fn, "__qualname__", None)
    if name is not None:
        return name
    return name_of(fn.func) if isinstance(fn, partial) else type(fn).__qualname__


def is_plain(fn: object) -> bool:
    """Tell whether a call of *fn* only makes a coroutine and runs no code yet."""
    if isinstance(fn, MethodType):
        fn = fn.__func__
    # By the code's own flag: a sync wrapper may be marked as a coroutine function.
    return isinstance(fn, FunctionType) and bool(fn.__code__.co_flags & CO_COROUTINE)


def check_blocking(fn: object, advice: str) -> None:
    """Refuse what makes coroutines: it is no work for a thread.

    :param advice: what to do with it instead; goes on with "..., which".
    """
    function = fn
    while isinstance(function, partial):
        function = function.func
    if iscoroutine(fn):
        check_returned(fn, advice)
    if is_plain(function):
        _refuse(f"the coroutine function {name_of(function)}", advice)
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {fn!r}")


def check_returned(value: object, advice: str) -> None:
    """Refuse a coroutine, which a function has returned that did not look like it."""
    if type(value) is CoroutineType:
        value.close()
        _refuse(f"the coroutine {value.__qualname__}()", advice)


def _refuse(what: str, advice: str) -> NoReturn:
    raise TypeError(f"expected a function that blocks, got {what}, which {advice}")
