"""Trees of contexts, deep, wide and random, against a model of how each one ends."""

import dataclasses
import math
import weakref
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from safeconc import Context, ContextCancelled, ContextStatistics, DeadlineExceeded
from safeconc._policy._endings import CANCELLED
from tests.together import collect

DEPTH = 5000
WIDTH = 10_000


def _chain(top: Context) -> Context:
    """Make a chain of descendants; return the last."""
    for _ in range(DEPTH):
        top = Context(top)
    return top


# Deep and wide


@pytest.mark.parametrize("awaited", [False, True], ids=["forgotten", "awaited"])
def test_deep_chain_ends_from_the_top(*, awaited: bool) -> None:
    """Nothing here recurses, so the depth of a tree is not limited by the stack."""
    cause = ValueError()
    root = Context()
    leaf = _chain(root)
    seen: list[object] = []
    if awaited:
        leaf.after(lambda: seen.append(leaf.cause))

    root.cancel(cause)

    assert leaf.cause is cause
    assert seen == [cause] * awaited


def test_deep_chain_is_collected() -> None:
    """Its end is no deeper than its beginning."""
    root = Context()
    leaf = _chain(root)
    leaf.after(lambda: None).stop()
    forgotten = weakref.ref(leaf)

    del leaf
    collect(forgotten)

    assert forgotten() is None
    assert root.statistics().children == 0


async def test_block_at_the_end_of_a_deep_chain_is_cut_short() -> None:
    """Our own awaits look all the way up."""
    root = Context()
    leaf = _chain(root)

    with pytest.raises(ContextCancelled):
        async with leaf:
            root.cancel()
            await leaf.wait_cancelled()
            pytest.fail("passed")


def test_wide_tree_ends_from_the_top() -> None:
    """Children that wait for something, and children that do not."""
    root = Context()
    children = [Context(root) for _ in range(WIDTH)]
    seen: list[int] = []
    for index, child in enumerate(children[::2]):
        child.after(lambda index=index: seen.append(index))  # type: ignore[misc]
    known = root.statistics()

    root.cancel()

    assert known == ContextStatistics(children=WIDTH // 2, waiters=0, registrations=0)
    assert {child.done for child in children} == {True}
    assert len(seen) == WIDTH // 2


# Random


@dataclasses.dataclass(eq=False)
class _Model:
    """What is known of a context by the plain reading of its promises."""

    parents: list["_Model"]
    deadline: float
    children: list["_Model"] = dataclasses.field(default_factory=list["_Model"])
    end: tuple[type[Exception], BaseException | None] | None = None

    def finish(
        self, error: type[Exception], cause: BaseException | None = None
    ) -> None:
        """Decide, if nothing did before, and take the children along."""
        if self.end is None:
            self.end = (error, cause)
            for child in self.children:
                child.finish(error, cause)


class _World:
    """Contexts beside their models; the models look at every instant."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Context, _Model]] = []
        self.ran: list[int] = []
        self.registered: set[int] = set()
        self.entered: set[int] = set()
        self.start = anyio.current_time()

    def make(self, indices: list[int], timeout: float | None) -> None:
        pairs = [self.pairs[index % len(self.pairs)] for index in indices]
        # Of parents that ended long ago nobody promises to know who was first.
        if all(model.end is not None for _, model in pairs):
            pairs = pairs[:1]
        context = (
            Context(*(each for each, _ in pairs), timeout=timeout)
            if pairs
            else Context.root(timeout=timeout)
        )
        own = math.inf if timeout is None else anyio.current_time() + timeout
        parents = [model for _, model in pairs]
        model = _Model(parents, min([own, *(each.deadline for each in parents)]))
        for parent in parents:
            parent.children.append(model)
        for parent in parents:
            if parent.end is not None:
                model.finish(*parent.end)
        self.pairs.append((context, model))

    def cancel(self, index: int) -> None:
        context, model = self.pairs[index % len(self.pairs)]
        cause = ValueError()
        won = model.end is None
        model.finish(ContextCancelled, cause)

        assert context.cancel(cause) == won

    async def leave(self, index: int) -> None:
        index %= len(self.pairs)
        if index not in self.entered:
            self.entered.add(index)
            context, model = self.pairs[index]
            async with context:
                pass
            model.finish(ContextCancelled)

    def register(self, index: int) -> None:
        index %= len(self.pairs)
        if index not in self.registered:
            self.registered.add(index)
            self.pairs[index][0].after(lambda: self.ran.append(index))

    def look(self, index: int) -> None:
        index %= len(self.pairs)
        context, model = self.pairs[index]
        error = context.err

        seen = None if error is None else (type(error), context.cause)
        assert context.done == (model.end is not None)
        assert seen == model.end
        assert context.deadline == model.deadline

    async def sleep(self, seconds: int) -> None:
        """Let time pass, one instant after the other for the models."""
        await anyio.sleep(seconds)
        due = [
            model for _, model in self.pairs if model.deadline <= anyio.current_time()
        ]
        for model in sorted(due, key=lambda each: each.deadline):
            model.finish(DeadlineExceeded)


_indices = st.integers(0, 100)
_steps = st.one_of(
    st.tuples(
        st.just("make"),
        st.lists(_indices, max_size=2),
        st.none() | st.integers(1, 6),
    ),
    st.tuples(st.just("cancel"), _indices),
    st.tuples(st.just("leave"), _indices),
    st.tuples(st.just("register"), _indices),
    st.tuples(st.just("look"), _indices),
    st.tuples(st.just("sleep"), st.integers(1, 3)),
)


@pytest.mark.virtual_clock
@given(steps=st.lists(_steps, max_size=30))
@example(
    # A parent's instant must be its own, not that of who told it next.
    steps=[
        ("make", [0], None),
        ("cancel", 1),
        ("make", [1], 1),
        ("sleep", 2),
        ("cancel", 0),
        ("look", 2),
    ]
)
@settings(
    max_examples=50,
    deadline=None,
    # The backend is the same for all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_random_tree_ends_as_the_model_says(
    anyio_backend: tuple[str, dict[str, Any]], steps: list[Any]
) -> None:
    """Whenever one looks, each has ended by what came first for it, or lives."""
    world = _World()
    world.make([], None)
    for name, *arguments in steps:
        result = getattr(world, name)(*arguments)
        if result is not None:
            await result

    for index in range(len(world.pairs)):
        world.look(index)
    ended = {index for index, pair in enumerate(world.pairs) if pair[1].end is not None}
    assert sorted(world.ran) == sorted(world.registered & ended)


@pytest.mark.parametrize("which", [0, 1])
def test_end_of_any_parent_is_seen_before_it_is_told(which: int) -> None:
    """A signal handler may look between the two halves of a cancel."""
    parents = Context.root(), Context.root()
    child = Context(*parents)

    parents[which]._publish((CANCELLED, None))

    assert child.done
    assert isinstance(child.err, ContextCancelled)
