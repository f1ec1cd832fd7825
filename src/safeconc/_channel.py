"""A bounded queue whose end always arrives."""

from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, final

import anyio
from typing_extensions import override

from safeconc._context import (
    Context,
    DeadlineExceeded,
    ambient,
    check_seconds,
    look,
    spend,
)
from safeconc._loop import Loop, here, running_loop
from safeconc._policy._channel import AnyChannel, ChannelClosed, check_error
from safeconc._policy._exchange import EMPTY, END, REFUSED
from safeconc._policy._passes import Passes
from safeconc._siblings import as_coroutine, check_function
from safeconc._waiter import Waiter

T = TypeVar("T")


@final
class Channel(AnyChannel[T]):
    """Hand items from task to task, at most *capacity* of them ahead.

    ::

        numbers = Channel[int](100)
        async with ErrGroup(limit=None) as group:
            await group.go(consume, numbers, handle)
            async with numbers:
                for number in range(1000):
                    await numbers.send(number)

    Items arrive in the order in which they were sent, each exactly once; among
    several receivers, or senders, who has waited longest comes first. A call that
    is cancelled has done nothing: the item is still the sender's, or still here.

    Leaving the block closes the channel. Receivers get what is buffered and then
    the end: ``async for`` stops, :meth:`receive` raises :exc:`ChannelClosed`. If
    an error or a cancellation left the block, both raise :exc:`ChannelClosed` from
    it, so a stream that was cut off is never taken for a whole one. The block is
    entered once: with several producers, put their group inside it, and that of
    the consumers outside.

    It belongs to the tasks of one event loop, and owns no task itself.

    :param capacity: items that may wait in the channel; with 0 a sender waits
        until a receiver takes its item.
    :param name: shown in errors and dumps.
    """

    def __init__(self, capacity: int, *, name: str | None = None) -> None:
        super().__init__(capacity, name=name)
        self._sends = Passes()
        self._receives = Passes()
        self._loop: Loop | None = None
        self._cancelled_class: type[BaseException]

    # Sending

    async def send(self, item: T) -> None:
        """Send *item*, as soon as there is room for it.

        Raises :exc:`ChannelClosed` if the channel is closed, or gets closed while
        this waits; the item has not been sent then.
        """
        passes = self._sends
        if passes.left < 1 or ((context := ambient.get()) and context._end):
            loop = self._own_loop()
            passes = self._sends = await look(loop, self._sends)
        passes.left -= 1
        exchange = self._exchange
        buffer = exchange.buffer
        if len(buffer) < exchange.easy:
            buffer.append(item)
        else:
            self._check_loop()
            if not exchange.put(item):
                await self._wait_to_send(item)

    def send_nowait(self, item: T) -> None:
        """Send *item*; :exc:`anyio.WouldBlock` if there is no room for it now."""
        self._check_loop()
        self._send_now(item)

    # Receiving

    def receive(self) -> Coroutine[Any, Any, T]:
        """Return the next item, as soon as there is one.

        Raises :exc:`ChannelClosed` when there will be none any more.
        """
        return self._receive(ChannelClosed)

    @override
    def receive_nowait(self) -> T:
        """Return the next item; :exc:`anyio.WouldBlock` if there is none now."""
        self._check_loop()
        return self._receive_now()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self._receive(StopAsyncIteration)

    async def _receive(self, end: type[Exception]) -> T:
        passes = self._receives
        if passes.left < 1 or ((context := ambient.get()) and context._end):
            loop = self._own_loop()
            passes = self._receives = await look(loop, self._receives)
        passes.left -= 1
        exchange = self._exchange
        ready = exchange.ready
        if ready:
            return ready.popleft()
        self._check_loop()
        item = exchange.take()
        return await self._wait_to_receive(end) if item is EMPTY else item

    # Its end

    def close(self, error: BaseException | None = None) -> None:
        """Let nothing more be sent, and tell all who wait.

        The first call decides: a channel that is closed stays as it is.

        :param error: why the items are not complete; receivers get it, after what
            is buffered, as the cause of their :exc:`ChannelClosed`.
        """
        check_error(error)
        self._check_loop()
        self._close(error)

    async def __aenter__(self) -> Self:
        await spend(running_loop())
        self._enter()
        self._cancelled_class = anyio.get_cancelled_exc_class()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, self._cancelled_class):
            exc = self._cut_off()
        self.close(exc)

    # Below: how it works

    def _own_loop(self) -> Loop:
        """Return the running loop; the channel is that one's from now on.

        A call that looked at nothing may come from another one than those before.
        """
        loop = self._loop
        if loop is None or not loop.is_here():
            self._check_loop()
            loop = self._loop = running_loop()
            self._sends, self._receives = Passes(), Passes()  # not another loop's
        return loop

    def _check_loop(self) -> None:
        """Refuse to wake the tasks of another loop: only that loop's thread may."""
        exchange = self._exchange
        if (exchange.senders or exchange.receivers) and here() is not self._loop:
            raise RuntimeError(
                f"tasks of another event loop wait at {self._label}; call it from there"
            )

    async def _wait_to_send(self, item: T) -> None:
        exchange = self._exchange
        if not exchange.closed:
            waiter = Waiter(self._own_loop())
            exchange.join_senders(waiter, item)
            answer = await waiter.wait(exchange.leave)
            self._sends.pause()
            if answer is not REFUSED:
                return
        await self._give_way()
        self._refuse()

    async def _wait_to_receive(self, end: type[Exception]) -> T:
        exchange = self._exchange
        item = END
        if not exchange.closed:
            waiter = Waiter(self._own_loop())
            exchange.join_receivers(waiter)
            item = await waiter.wait(exchange.leave)
            self._receives.pause()
        if item is END:
            await self._give_way()
            self._end(end)
        return item  # type: ignore[no-any-return]

    def _give_way(self) -> Awaitable[None]:
        """Let a cancellation go before the end, which has no effect that it would undo.

        What cancels a producer mostly cancels its consumers, too, some of them in the
        same step after it has closed the channel. That is no error of theirs.
        """
        return spend(self._own_loop())

    @override
    def _put_back(self, item: T) -> None:
        self._exchange.put_back(item)


async def consume(
    channel: Channel[T],
    handler: Callable[[T], Awaitable[object]],
    *,
    drain: float | None = None,
) -> None:
    """Await ``handler(item)`` for every item of *channel*, until its end.

    ::

        await group.go(consume, orders, ship)
        await group.go_background(partial(consume, events, log, drain=5))

    When it is cancelled, the item in hand is cancelled as any await is. With
    *drain*, what was buffered at that moment is still handed to *handler*, shielded
    from the cancellation, before this goes on to end by it. What the time does not
    suffice for stays in the channel, counted in its :meth:`Channel.statistics`.

    :param drain: seconds for that; None drops nothing and handles nothing more.

    Raises what *handler* raises, and :exc:`ChannelClosed` from its error if the
    channel was closed with one.
    """
    if not isinstance(channel, Channel):
        raise TypeError(f"expected a Channel, not {channel!r}")
    check_function(handler)
    if drain is not None:
        check_seconds("drain", drain)
    # Asked now: nobody answers a coroutine that is closed after its loop.
    cancelled_class = anyio.get_cancelled_exc_class()
    unbegun: list[T] = []
    try:
        async for item in channel:
            if drain is not None:
                # What was handed over in the moment of the cancellation is drained,
                # too: else what is sent last before a stop would be lost.
                unbegun.append(item)
                await spend(running_loop())
                unbegun.clear()
            await as_coroutine(handler, handler(item))
    except cancelled_class:
        if drain is not None:
            await _drain(channel, unbegun, handler, drain)
        raise


async def _drain(
    channel: Channel[T],
    unbegun: list[T],
    handler: Callable[[T], Awaitable[object]],
    seconds: float,
) -> None:
    """Handle what is there now; of the seconds that takes, at most so many."""
    buffered = channel.statistics().buffered
    # A root, too: a context that has ended would end all that a handler opens.
    context = Context.root(timeout=seconds, name="consume: drain")
    with anyio.CancelScope(shield=True):
        try:
            async with context:
                for item in channel._leftovers(unbegun, buffered, context):
                    await as_coroutine(handler, handler(item))
        except DeadlineExceeded as exc:
            if exc is not context.err:
                raise
