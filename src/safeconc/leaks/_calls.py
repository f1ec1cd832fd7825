"""Calls of which the interpreter tells, from Python 3.12 on.

It is asked about a few functions and no others, so that the rest of a program runs as
fast as before.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, Literal, TypeAlias, final

Event: TypeAlias = Literal["PY_START", "PY_RETURN"]
"""That a function begins, or that it is about to return."""


@final
class Calls:
    """Listens to calls, from :meth:`open` to :meth:`close`.

    :param name: who listens.
    :param tools: numbers that it may have, of those that :mod:`sys.monitoring` leaves
        to whoever comes first.
    """

    def __init__(self, name: str, tools: Sequence[int]) -> None:
        self._name = name
        self._tools = tools
        self._tool: int | None = None
        self._codes: list[CodeType] = []

    @property
    def heard(self) -> bool:
        """Whether the interpreter tells."""
        return self._tool is not None

    def open(
        self, told: Mapping[Event, tuple[Callable[..., object], Sequence[CodeType]]]
    ) -> None:
        """Listen, if the interpreter can tell and a number is free.

        :param told: who is told of an event, and in which functions.
        """
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring is None:  # before Python 3.12, and on PyPy
            return
        for tool in self._tools:
            if monitoring.get_tool(tool) is None:
                break
        else:
            return
        monitoring.use_tool_id(tool, self._name)
        for name, (callback, codes) in told.items():
            event = getattr(monitoring.events, name)
            monitoring.register_callback(tool, event, callback)
            for code in codes:
                monitoring.set_local_events(tool, code, event)
            self._codes += codes
        self._tool = tool

    def close(self) -> None:
        """Listen no more, and give the number back."""
        if self._tool is None:
            return
        monitoring: Any = vars(sys)["monitoring"]
        for code in self._codes:
            monitoring.set_local_events(self._tool, code, 0)
        for event in (monitoring.events.PY_START, monitoring.events.PY_RETURN):
            monitoring.register_callback(self._tool, event, None)
        monitoring.free_tool_id(self._tool)
        self._codes.clear()
        self._tool = None
