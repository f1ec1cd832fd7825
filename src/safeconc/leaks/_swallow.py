"""Which call keeps a task alive that was cancelled: by the source, since nothing tells.

A cancellation is an exception. It ends a task unless somebody catches it and goes on,
or takes long in a cleanup. Both stand in the source: the line at which a call waits is
inside a handler or a ``finally``, or at or after a ``try`` whose handler takes
cancellations and raises nothing.
"""

import ast
import linecache
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

CANCELLATIONS = {
    "BaseException",
    "CancelledError",
    "Cancelled",
    "get_cancelled_exc_class",
}
"""What a handler names that takes cancellations, be it of asyncio, trio or anyio."""


_With = ast.With | ast.AsyncWith


@final
@dataclass(frozen=True, slots=True)
class Swallower:
    """A call that a cancellation does not get past."""

    index: int
    """Which one of the stack."""

    line: int
    """Where its handler or its cleanup begins."""

    cleans_up: bool
    """It is in a handler or a ``finally``, which may end; else it has gone on."""


def find_swallower(stack: Sequence[tuple[str, int]]) -> Swallower | None:
    """Find the innermost call of *stack* that holds a cancellation up.

    :param stack: the file and the line of each call, outermost first.
    """
    for index in reversed(range(len(stack))):
        file, line = stack[index]
        found = _find_in(file, line)
        if found is not None:
            return Swallower(index, *found)
    return None


def _find_in(file: str, line: int) -> tuple[int, bool] | None:
    source = "".join(linecache.getlines(file))
    try:
        function = _function_at(ast.parse(source), line)
    except (SyntaxError, ValueError, RecursionError):
        return None
    if function is None:
        return None
    nodes = [
        each
        for each in _own(function)
        if isinstance(each, (ast.Try, ast.With, ast.AsyncWith))
    ]
    # What comes later in the source is further in, and nearer to the wait.
    nodes.sort(key=_later_first)
    for node in nodes:
        if isinstance(node, ast.Try):
            for start, body in _cleanups(node):
                if _spans(body, line):
                    return start, True
    for node in nodes:
        for start in _swallowing(node):
            if _may_be_past(function, node, line):
                return start, False
    return None


def _later_first(node: ast.stmt) -> int:
    return -node.lineno


def _cleanups(node: ast.Try) -> Iterator[tuple[int, list[ast.stmt]]]:
    """Yield what runs when the body is cancelled, each with its first line."""
    for handler in node.handlers:
        if _takes(handler.type):
            yield handler.lineno, handler.body
    if node.finalbody:
        yield node.finalbody[0].lineno, node.finalbody


def _swallowing(node: ast.Try | _With) -> Iterator[int]:
    """Yield the lines after which a cancellation is no more."""
    if isinstance(node, ast.Try):
        for handler in node.handlers:
            if _takes(handler.type) and not _raises(handler):
                yield handler.lineno
        return
    for item in node.items:
        call = item.context_expr
        if (
            isinstance(call, ast.Call)
            and "suppress" in _names(call.func)
            and any(map(_takes, call.args))
        ):
            yield call.lineno


def _function_at(
    tree: ast.AST, line: int
) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the innermost function around *line*."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and _spans(node.body, line)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what stands in a function, but not in the functions in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(
            child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
        ):
            yield child
            yield from _own(child)


def _spans(body: Sequence[ast.stmt], line: int) -> bool:
    return body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)


def _takes(caught: ast.expr | None) -> bool:
    """Tell whether it is a cancellation that is caught; no name at all takes it."""
    return caught is None or not _names(caught).isdisjoint(CANCELLATIONS)


def _names(expression: ast.expr) -> set[str]:
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(expression)
        if isinstance(node, (ast.Name, ast.Attribute))
    }


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(
        isinstance(node, (ast.Raise, ast.Return))
        for statement in handler.body
        for node in (statement, *_own(statement))
    )


def _may_be_past(function: ast.AST, each: ast.stmt, line: int) -> bool:
    """Tell whether *line* can run after the handlers of a ``try`` have."""
    if line > (each.end_lineno or each.lineno):
        return True
    # Before it, or in it again: by a loop around both.
    return any(
        isinstance(node, (ast.While, ast.For, ast.AsyncFor))
        and _spans(node.body, line)
        and _spans(node.body, each.lineno)
        for node in _own(function)
    )
