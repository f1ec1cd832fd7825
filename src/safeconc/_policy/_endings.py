"""How contexts end, in which order, and who hears of it.

* What ends a context is one object, an :data:`End`. Whoever puts it into the
  context's dict first has won; that ``setdefault`` is the only decision, and it
  is atomic. No lock is taken anywhere, so a signal handler, a ``__del__`` and
  any thread may end a context at any moment.
* A context that nobody waits on is not known to its parents at all: it looks at
  them when asked. It registers with them once it has children, waiters or
  registrations of its own, so ending a parent costs as much as there is to wake,
  and forgetting a child costs nothing.
* Whoever registers looks at the state again afterwards; whoever ends a context
  publishes the state first and wakes afterwards. One of the two sees the other.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import inf
from typing import Any, Protocol
from weakref import ref

Clock = Callable[[], float]

End = tuple[str, BaseException | None]
"""Why a context is over, and the cause. Made anew by each call that ends one, so
that its identity tells who was first; shared by all that this call ended."""

CANCELLED = "was cancelled"
EXPIRED = "ran past its deadline"
LEFT = "is over: the block it belongs to has been left"


class Call(Protocol):
    """A function that is to be called at the end."""

    def _run(self) -> None: ...


class Bound(Protocol):
    """An open block that is to end with its context."""

    def wake(self) -> None: ...


class Node:
    """The state of a context, and its place among its parents and children.

    It has no constructor: a second call, for each of a hundred thousand children,
    would cost a tenth of what making them costs. Who inherits sets all of these.
    """

    __slots__ = (
        "__weakref__",
        "_bound",
        "_clock",
        "_deadline",
        "_end",
        "_others",
        "_parent",
        "_state",
    )

    # Whose end ends this one. Nearly all have one parent or none; the collector
    # would visit a tuple in each as often as the context itself.
    _parent: "Node | None"
    _others: tuple["Node", ...]

    _end: End | None
    _bound: Bound | None

    # "end", "err", "timed", "at": how and when it ended. "linked", "children",
    # "held": who hears of it. "wakers", "calls", "helper": what is to be done then.
    _state: dict[str, Any]

    _clock: Clock | None
    _deadline: float

    @property
    def done(self) -> bool:
        """Whether it has ended. Costs less than three ``Event.is_set()``."""
        if self._end is None:
            parent = self._parent
            if parent is not None:
                if parent._end is not None:
                    return self._look()
                for other in self._others:
                    if other._end is not None:
                        return self._look()
            if self._clock is None or self._clock() < self._deadline:
                return False
            self._look()
        return True

    @property
    def _parents(self) -> tuple["Node", ...]:
        return () if self._parent is None else (self._parent, *self._others)

    def _deadline_on(self, clock: Clock) -> float:
        """Tell the deadline on another clock: the time that remains is the same."""
        own = self._clock
        if own is None or self._deadline == inf:
            return inf
        if own is clock or own == clock:  # a bound method equals itself, as a rule anew
            return self._deadline
        return clock() + self._deadline - own()

    @property
    def _ending(self) -> End:
        """Why it is over, once it is."""
        return self._state["end"]  # type: ignore[no-any-return]

    def _look(self) -> bool:
        """Look at the parents and the clock; publish the end that is found."""
        for parent in self._parents:
            if parent._end is not None:
                self._finish(self._end_after(parent, parent._end))
                return True
        if self._clock is not None and self._clock() >= self._deadline:
            self._finish((EXPIRED, None))
        return self._end is not None

    def _end_after(self, parent: "Node", end: End) -> End:
        """Choose between a parent's end and the own deadline: the earlier one."""
        state = parent._state
        if self._clock is None or state.get("timed") != self._clock:
            return end
        return (EXPIRED, None) if self._deadline <= state.get("at", -inf) else end

    def _finish(self, end: End) -> bool:
        """End this context and its children; True if nobody was faster."""
        if not self._publish(end):
            return False
        # Most contexts end with nobody to tell: then "end" is all there is.
        if len(self._state) > 1 or self._bound is not None:
            self._tell(end)
        return True

    def _leave(self) -> None:
        """End this context, since its block is over."""
        if not self.done:
            self._publish((LEFT, None))
        # Also if it had ended: a KeyboardInterrupt may have kept who ended it from
        # telling of it.
        if len(self._state) > 1:
            self._tell(self._ending)

    def _tell(self, end: End) -> None:
        """End the children, wake the waiters, run the functions, in this order.

        Whoever is woken finds the whole tree ended. A Ctrl-C may come out of any step;
        another call goes on then where this one was. So what is to be told is forgotten
        only after it was.
        """
        ended: list[Node] = self._state.setdefault("ended", [self])
        for context in ended:
            children = context._state.get("children")
            if children:
                for child in list(children):
                    alive = child()
                    if alive is not None and alive._end is None:
                        ended.append(alive)
                        alive._publish(alive._sooner(end))
                    children.discard(child)
        for context in ended:
            bound = context._bound
            if bound is not None:
                bound.wake()
            wakers = context._state.get("wakers")
            if wakers:
                for key, wake in reversed(list(wakers.items())):
                    wake()
                    wakers.pop(key, None)
        callers = [each._run_calls for each in ended if "calls" in each._state]
        if callers:
            _run_all(callers)
        self._state.pop("ended", None)

    def _publish(self, end: End) -> bool:
        """Decide how this context ended. The first call wins, the rest learn it."""
        state = self._state
        if "timed" in state and "end" not in state:
            state.setdefault("at", state["timed"]())
        self._end = first = state.setdefault("end", end)
        return first is end

    def _sooner(self, end: End) -> End:
        """Choose between what ends the parent now and a deadline that has passed."""
        if self._clock is None or self._clock() < self._deadline:
            return end
        return (EXPIRED, None)

    def _run_calls(self) -> None:
        """Run what is registered, newest first, and all of it whatever happens."""
        _run_all(call._run for call, _ in _drain(self._state["calls"]))
        self._hold()

    def _add_waker(self, key: object, wake: Callable[[], object]) -> None:
        """Have *wake* called once when the context ends; at once if it has."""
        wakers = self._state.setdefault("wakers", {})
        wakers[key] = wake
        self._hold()
        if self.done and wakers.pop(key, None) is not None:
            wake()

    def _drop_waker(self, key: object) -> None:
        # Interrupted, who adds one may drop it before it is there.
        self._state.setdefault("wakers", {}).pop(key, None)
        self._hold()

    def _forget_call(self, call: Call) -> bool:
        calls = self._state["calls"]
        forgotten = calls.pop(call, calls) is None
        self._hold()
        return forgotten

    def _link(self) -> None:
        """Make the parents tell us of their end; theirs do, since they have a child."""
        for parent in self._parents:
            children = parent._state.setdefault("children", set())
            children.add(ref(self, children.discard))
        self._state["linked"] = True
        # Who ended before we were known to it will not tell us.
        self._look()

    def _is_busy(self) -> bool:
        """Tell whether anything hangs on this context."""
        return self._end is None and (
            self._is_awaited()
            or any(
                child() is not None for child in list(self._state.get("children", ()))
            )
        )

    def _is_awaited(self) -> bool:
        state = self._state
        return self._bound is not None or bool(
            state.get("wakers") or state.get("calls") or state.get("held")
        )

    def _hold(self) -> None:
        """Have the parents hold us exactly while somebody waits for our end.

        Two threads may come and go here at once. Each acts on what it saw and
        then looks again, so the last one to look leaves it right.
        """
        if self._parent is None:
            return
        if "linked" not in self._state:
            self._link()
        unsettled: list[Node] = [self]
        while unsettled:
            context = unsettled.pop()
            awaited = context._is_awaited()
            for parent in context._parents:
                held = parent._state.setdefault("held", {})
                if (context in held) != awaited:
                    if awaited:
                        held[context] = None
                    else:
                        held.pop(context, None)
                    unsettled.append(parent)
            if awaited != context._is_awaited():
                unsettled.append(context)


def _run_all(functions: Iterable[Callable[[], None]]) -> None:
    """Call all of them; then raise the first KeyboardInterrupt or its like."""
    fatal: BaseException | None = None
    for function in functions:
        try:
            function()
        except BaseException as exc:  # noqa: BLE001 - raised below
            fatal = fatal or exc
    if fatal is not None:
        raise fatal


def _drain(items: Any) -> Iterator[Any]:
    """Take items out one by one, each by exactly one caller; latest first of a dict."""
    take: Callable[[], Any] = getattr(items, "popitem", items.pop)
    with suppress(KeyError):  # another thread took the last one
        while items:
            yield take()
