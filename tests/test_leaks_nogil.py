"""Without the GIL a census looks into no other thread, and still tells of most."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from pathlib import Path
from typing import Any, cast
from weakref import ref

import pytest
from typing_extensions import TypeVarTuple, Unpack, override

from safeconc import leaks
from safeconc._frames import Call, can_walk, written
from safeconc.leaks import _ask, _whereabouts
from safeconc.leaks._ask import ask
from safeconc.leaks._census import Census
from safeconc.leaks._model import Entry
from safeconc.leaks._places import function
from tests.together import collect, in_thread

Ts = TypeVarTuple("Ts")

pytestmark = pytest.mark.usefixtures("any_gil")


def found(kind: str, name: str) -> list[Entry]:
    """Look for what has a name."""
    entries = leaks.snapshot().entries
    return [each for each in entries if (each.kind, each.name) == (kind, name)]


class Deaf(asyncio.SelectorEventLoop):
    """A loop that does not answer while somebody keeps what it is asked."""

    calls: list[object] | None = None

    @override
    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Take note of it instead."""
        if self.calls is None:
            return super().call_soon_threadsafe(callback, *args, context=context)
        self.calls.append(callback)
        return asyncio.Handle(callback, args, self)


@contextmanager
def elsewhere(
    main: Callable[[], Any],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Generator[asyncio.AbstractEventLoop, None, None]:
    """Have a loop in another thread that runs *main*, and then stays."""
    loops: list[asyncio.AbstractEventLoop] = []
    over = asyncio.Event()
    begun = threading.Event()

    async def run() -> None:
        kept = await main()
        loops.append(asyncio.get_running_loop())
        begun.set()
        await over.wait()
        del kept

    def work() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(run())

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    try:
        yield loops[0]
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()


@pytest.mark.usefixtures("sees_loops")
def test_tasks_of_another_loop_are_told_with_their_lines() -> None:
    """The loop itself looks at them, some at a time."""

    async def waits() -> None:
        await asyncio.sleep(3600)

    async def main() -> object:
        tasks = [asyncio.create_task(waits(), name="waits") for _ in range(300)]
        await asyncio.sleep(0)
        return tasks

    with elsewhere(main):
        seen = found("task", "waits")

    assert len(seen) == 300
    assert {each.state for each in seen} == {"waiting"}
    assert {each.stack[-1].code.co_name for each in seen} == {"waits"}


@pytest.mark.usefixtures("sees_loops")
def test_async_generators_of_another_loop_are_told() -> None:
    """Those that nobody iterates over."""

    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    async def main() -> None:
        assert await anext(generator) == 1

    generator = numbers()
    with elsewhere(main):
        seen = found("asyncgen", numbers.__qualname__)

    assert [each.state for each in seen] == ["suspended"]


def test_threads_are_told_by_the_lines_of_their_functions() -> None:
    """By qualified names, which is what rules go by."""
    begun, over = threading.Event(), threading.Event()

    class Server:
        def serve(self) -> None:
            begun.set()
            over.wait()

    thread = threading.Thread(target=Server().serve, name="serves")
    thread.start()
    begun.wait()
    [seen] = found("thread", "serves")
    over.set()
    thread.join()

    functions = [function(frame) for frame in seen.stack]
    ours = f"{__name__.rpartition('.')[2]}.{Server.serve.__qualname__}"
    assert [each.removeprefix("tests.") for each in functions][-4:] == [
        ours,
        "threading.Thread.run",
        "threading.Thread._bootstrap_inner",
        "threading.Thread._bootstrap",
    ]


def test_idle_threads_of_a_pool_are_known_as_such() -> None:
    """They are no news when they take up work; the pool is told while it is open."""
    with ThreadPoolExecutor(1, thread_name_prefix="rests") as executor:
        executor.submit(int).result()
        [thread] = found("thread", "rests_0")
        pool = found("executor", "rests")
        while thread.ref in Census().marks():
            time.sleep(0)  # it gets there

    assert len(pool) == 1
    assert found("executor", "rests") == []


@pytest.mark.usefixtures("sees_loops")
def test_a_loop_that_does_not_answer_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many tasks it has; and it is said that they were not seen."""
    monkeypatch.setattr(_ask, "PATIENCE", 0)

    async def main() -> object:
        tasks = [asyncio.create_task(asyncio.sleep(3600), name="?") for _ in range(300)]
        await asyncio.sleep(0)
        return tasks

    with elsewhere(main, Deaf) as loop:
        assert isinstance(loop, Deaf)
        loop.calls = []
        snapshot = leaks.snapshot()
        calls, loop.calls = loop.calls, None

    if not can_walk():
        assert len(calls) == 1
        assert "its 301 tasks were not looked at" in "".join(snapshot.notes)
        assert [each for each in snapshot.entries if each.name == "?"] == []


def test_what_cannot_be_seen_is_noted() -> None:
    """Of other threads, if there are any."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    notes = "".join(leaks.snapshot().notes)
    over.set()
    thread.join()

    assert ("Without the GIL nobody may look into" in notes) is not can_walk()


def test_there_is_nothing_to_note_of_a_single_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody else could be looked into."""
    monkeypatch.setattr(_whereabouts, "written", dict[int, list[Call]])

    assert "Without the GIL" not in "".join(leaks.snapshot().notes)


def test_task_that_is_collected_before_it_is_looked_at_is_left_out() -> None:
    """A look keeps nothing alive."""

    async def end() -> None: ...

    async def main() -> None:
        task = asyncio.create_task(end())
        await task
        marks.add(ref(task))

    marks = set[Any]()
    asyncio.run(main())
    collect()

    assert [*Census()._parted(marks)] == []


# Asking a loop


class Loop:
    """Stands in for a loop: does what it is asked by *how*."""

    def __init__(self, how: Callable[[Callable[[], object]], object]) -> None:
        self.call_soon_threadsafe = how


def asked(
    how: Callable[[Callable[[], object]], object], work: Callable[[], list[int]]
) -> list[int] | None:
    """Ask a loop that does it so."""
    return ask(cast("asyncio.AbstractEventLoop", Loop(how)), work)


def test_error_of_the_work_is_the_askers() -> None:
    """The loop is not to hear of it."""
    with pytest.raises(ZeroDivisionError):
        asked(in_thread, lambda: [1 // 0])


def test_ctrl_c_meanwhile_is_the_loops() -> None:
    """It is raised there, and the asker goes without an answer."""

    def interrupt() -> list[int]:
        raise KeyboardInterrupt

    def run(do: Callable[[], object]) -> None:
        with pytest.raises(KeyboardInterrupt):
            do()

    assert asked(run, interrupt) is None


def test_closed_loop_is_not_waited_for() -> None:
    """Its tasks go nowhere, and nobody is to wait."""

    def closed(_: Callable[[], object]) -> None:
        raise RuntimeError

    assert asked(closed, lambda: [1]) is None


def test_work_that_was_given_up_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that hung for a minute is not to do what nobody waits for."""
    monkeypatch.setattr(_ask, "PATIENCE", 0)
    late: list[Callable[[], object]] = []
    done: list[int] = []

    assert asked(late.append, lambda: done) is None
    for each in late:
        each()
        done.append(1)
    assert len(done) == 1


def test_work_that_has_begun_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once would get into each other's way."""
    monkeypatch.setattr(_ask, "PATIENCE", 0)
    begun, given_up = threading.Event(), threading.Event()

    def begin(do: Callable[[], object]) -> None:
        threading.Thread(target=do).start()
        begun.wait()
        threading.Timer(0, given_up.set).start()

    def work() -> list[int]:
        begun.set()
        given_up.wait()
        return [1]

    assert asked(begin, work) == [1]


# What is written of a thread


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="PyPy writes of no thread by number"
)
def test_written_calls_are_those_of_the_thread() -> None:
    """The innermost first, of the caller as well."""
    calls = written()[threading.get_ident()]
    names = [call.function for call in calls]

    assert names[:2] == ["written", "test_written_calls_are_those_of_the_thread"]
    assert calls[1].file == __file__


@pytest.mark.parametrize("source", ["def f(:", None, "x = 1"])
def test_function_that_is_not_in_its_source_has_its_plain_name(
    tmp_path: Path, source: str | None
) -> None:
    """It was made otherwise, or the file is another one by now."""
    file = tmp_path / "made.py"
    if source is not None:
        file.write_text(source)

    assert _whereabouts._qualified(Call(str(file), "f", 1)) == "f"
