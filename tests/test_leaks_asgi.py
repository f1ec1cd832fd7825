"""The debug app: who may look, and what they get."""

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from safeconc.leaks import Entry, Snapshot
from safeconc.leaks import asgi as module
from safeconc.leaks._looks import FRESH, Look, Looks
from safeconc.leaks._page import ROWS
from safeconc.leaks.asgi import LONGEST, PROFILES, ASGIApp, debug_app
from tests.together import hold_the_clock

TOKEN = "correct horse battery"  # noqa: S105 - of nothing but tests

Headers = dict[str, str]


class Client:
    """Sends requests to an app, as a server would."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.gone = anyio.Event()

    async def get(self, path: str, headers: Headers | None = None, **scope: Any) -> Any:
        """Return the status, the headers and the body; None if there was no answer."""
        sent: list[Any] = []
        path, _, query = path.partition("?")
        given = {"host": "localhost:8000"} | (headers or {})

        async def receive() -> dict[str, Any]:
            if not sent and not asked:
                asked.append(1)
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await checkpoint()
            sent.append(message)

        asked: list[int] = []
        base = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
            "client": ("127.0.0.1", 40000),
        }
        await self._app(base | scope, receive, send)
        if not sent:
            return None
        start, body = sent
        return start["status"], dict(start["headers"]), body["body"]


async def status(app: ASGIApp, path: str = "/", **scope: Any) -> int:
    """Return only the status."""
    answer = await Client(app).get(path, **scope)
    return int(answer[0])


def basic(user: str, password: str) -> Headers:
    """Make the header by which browsers send a password."""
    return {
        "authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
    }


# Access


async def test_who_has_the_token_may_look() -> None:
    """As a bearer, or as a password with any user."""
    app = debug_app(token=TOKEN)
    far: Any = {"client": ("203.0.113.9", 1)}

    assert await status(app, headers={"authorization": f"Bearer {TOKEN}"}, **far) == 200
    assert await status(app, headers={"authorization": f"bearer  {TOKEN}"}) == 200
    assert await status(app, headers=basic("any", TOKEN), **far) == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "Bearer wrong"}, id="wrong"),
        pytest.param({"authorization": f"Bearer {TOKEN}x"}, id="longer"),
        pytest.param({"authorization": TOKEN}, id="no scheme"),
        pytest.param({"authorization": f"Digest {TOKEN}"}, id="another scheme"),
        pytest.param({"authorization": "Basic !!!"}, id="no base64"),
        pytest.param(basic(TOKEN, "wrong"), id="as the user"),
        pytest.param({"authorization": "Bearer é"}, id="not ASCII"),
    ],
)
async def test_who_has_not_may_not(headers: Headers) -> None:
    """Not even from this machine; browsers ask for it."""
    code, given, body = await Client(debug_app(token=TOKEN)).get("/", headers)

    assert code == 401
    assert given[b"www-authenticate"].startswith(b"Basic ")
    assert b"token" in body
    assert TOKEN.encode() not in body


async def test_a_token_in_the_query_is_no_token() -> None:
    """Queries are logged."""
    assert await status(debug_app(token=TOKEN), f"/?token={TOKEN}") == 401


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param({"client": ("203.0.113.9", 1)}, id="from elsewhere"),
        pytest.param({"client": None}, id="from a socket file"),
        pytest.param({"client": ("testclient", 1)}, id="from a name"),
        pytest.param({"client": ()}, id="from nowhere"),
        pytest.param({"headers": {"x-forwarded-for": "127.0.0.1"}}, id="forwarded"),
        pytest.param({"headers": {"Forwarded": "for=127.0.0.1"}}, id="or so"),
        pytest.param({"headers": {"host": "evil.example"}}, id="rebound"),
        pytest.param({"headers": {"host": "localhost.evil.example:80"}}, id="alike"),
    ],
)
async def test_without_a_token_only_this_machine_may_look(scope: Any) -> None:
    """A proxy on this machine speaks for everybody, a browser for any page."""
    code, _, body = await Client(debug_app()).get("/", **scope)

    assert code == 403
    assert b"Give debug_app() a token" in body


@pytest.mark.parametrize(
    "client, host",
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]:8000"),
        ("127.8.8.8", "LocalHost"),
        ("::1", "[::1]"),
    ],
)
async def test_this_machine_has_several_names(client: str, host: str) -> None:
    """With a port and without."""
    assert await status(debug_app(), client=(client, 1), headers={"host": host}) == 200


@pytest.mark.parametrize(
    "token, error", [("", ValueError), ("short", ValueError), (b"x" * 20, TypeError)]
)
def test_a_bad_token_is_refused(token: Any, error: type[Exception]) -> None:
    """At the call."""
    with pytest.raises(error):
        debug_app(token=token)


# Pages


async def stay() -> None:
    """Be a task that is found."""
    await anyio.sleep_forever()


async def test_every_page_is_there() -> None:
    """Each with what it is, and what keeps a browser from doing more with it."""
    pages: dict[str, Any] = {}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stay)
        await checkpoint()
        client = Client(debug_app())
        pages |= {
            path: await client.get(path)
            for path in (
                "/",
                "/tasks",
                "/tasks?debug=2",
                "/threads",
                "/tasks.json",
                "/pprof/tasks",
                "/pprof/tasks?seconds=0",
            )
        }
        tasks.cancel_scope.cancel()

    assert {code for code, _, _ in pages.values()} == {200}
    for _, headers, body in pages.values():
        assert headers[b"content-length"] == str(len(body)).encode()
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"cache-control"] == b"no-store"
        assert b"default-src 'none'" in headers[b"content-security-policy"]
    kinds = {path: headers[b"content-type"] for path, (_, headers, _) in pages.items()}
    assert kinds["/"] == b"text/html; charset=utf-8"
    assert kinds["/tasks"] == b"text/plain; charset=utf-8"
    assert kinds["/tasks.json"] == b"application/json"
    bodies = {path: body for path, (_, _, body) in pages.items()}
    for path in ("/", "/tasks", "/tasks?debug=2", "/tasks.json"):
        assert b"test_leaks_asgi.py" in bodies[path]
    assert b"MainThread" in bodies["/threads"]
    assert b"MainThread" not in bodies["/tasks"]
    assert len(bodies["/tasks?debug=2"]) > len(bodies["/tasks"])
    assert json.loads(bodies["/tasks.json"])["total"] > 0
    assert b"stay" in gzip.decompress(bodies["/pprof/tasks"])


@pytest.mark.parametrize(
    "path, code",
    [
        ("/nothing", 404),
        ("/profile", 404),
        ("/tasks?debug=3", 400),
        ("/pprof/tasks?seconds=x", 400),
        ("/pprof/tasks?seconds=nan", 400),
        ("/pprof/tasks?seconds=-1", 400),
        (f"/pprof/tasks?seconds={LONGEST + 1}", 400),
    ],
)
async def test_what_is_not_there_is_refused(path: str, code: int) -> None:
    """In words."""
    assert await status(debug_app(), path) == code


async def test_nothing_can_be_changed() -> None:
    """Only looking is allowed; HEAD looks without taking the body."""
    client = Client(debug_app())

    assert (await client.get("/", method="POST"))[0] == 405
    code, headers, body = await client.get("/tasks", method="HEAD")
    assert (code, body) == (200, b"")
    assert int(headers[b"content-length"]) > 0


async def test_it_can_be_mounted() -> None:
    """Whether the framework leaves the prefix in the path or not."""
    app = debug_app()

    assert await status(app, "/debug/tasks", root_path="/debug") == 200
    assert await status(app, "/tasks", root_path="/debug") == 200
    assert await status(app, "/debugger", root_path="/debug") == 404
    code, headers, _ = await Client(app).get("/debug", root_path="/debug")
    assert (code, headers[b"location"]) == (307, b"/debug/")


async def test_it_takes_part_in_the_start_and_the_end_of_a_server() -> None:
    """And has no websockets."""
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await debug_app()({"type": "lifespan"}, receive, send)
    await debug_app()({"type": "websocket"}, receive, send)

    assert sent == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
        "websocket.close",
    ]


# What is found


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the app find what the test says."""
    there: list[Entry] = []

    def find(*entries: Entry) -> None:
        there[:] = entries

    async def take() -> Snapshot:
        await checkpoint()
        return Snapshot(tuple(there), 0.0, ("Not all was <seen>.",))

    monkeypatch.setattr(module, "_snapshot", take)
    return find


async def test_hostile_names_are_escaped(finds: Callable[..., None]) -> None:
    """They come from users of users."""

    class Broken:
        def __str__(self) -> str:
            raise LookupError

    names: list[Any] = ["<script>alert(1)</script>", "a\nb", "x" * 1_000_000, Broken()]
    finds(*(Entry("task", name, "waiting") for name in names), Entry("timer", "t", ""))
    client = Client(debug_app())

    for path in ("/", "/tasks?debug=2", "/tasks.json", "/pprof/tasks"):
        code, _, body = await client.get(path)
        assert code == 200
        assert len(body) < 20_000
        if path == "/":
            assert b"<script" not in body
            assert b"&lt;script&gt;" in body
            assert b"Not all was &lt;seen&gt;." in body


async def test_the_page_has_the_words_of_the_reports(
    finds: Callable[..., None],
) -> None:
    """What the field calls an open block, nobody calls a primitive."""
    finds(Entry("primitive", "ErrGroup", "open"))

    _, _, body = await Client(debug_app()).get("/")

    assert b"<td>open block <small>ErrGroup</small>" in body
    assert b"primitive" not in body


async def test_the_page_is_bounded(finds: Callable[..., None]) -> None:
    """However many groups there are."""
    from safeconc.leaks import RawFrame
    from safeconc.leaks._model import Named, Stack

    finds(
        *(
            Entry("task", "t", "waiting", Stack([RawFrame(Named("f.py", "run"), line)]))
            for line in range(ROWS + 7)
        )
    )

    _, _, body = await Client(debug_app()).get("/")

    assert b"... and 7 more groups" in body
    assert body.count(b"<tr><td") == ROWS


async def test_the_page_shows_what_has_grown_since_the_last_look(
    finds: Callable[..., None],
) -> None:
    """And when that was."""
    client = Client(debug_app())
    task = Entry("task", "t", "waiting", age=7.0)
    finds(task)
    _, _, first = await client.get("/")
    await anyio.sleep(30)
    finds(task, task, task)
    _, _, second = await client.get("/")

    assert b">change<" in first
    assert b'class="n up"' not in first
    assert b">change in 30.0 s<" in second
    assert b'<td class="n up">+2<' in second
    assert b">7.0 s<" in second


async def test_only_who_looks_at_the_page_has_looked(
    finds: Callable[..., None],
) -> None:
    """What was scraped meanwhile does not count as shown."""
    client = Client(debug_app())
    task = Entry("task", "t", "waiting", age=7.0)
    finds(task)
    await client.get("/")
    await anyio.sleep(20)
    finds(task, task)
    await client.get("/pprof/tasks")
    await anyio.sleep(10)
    finds(task, task, task)
    _, _, body = await client.get("/")

    assert b">change in 30.0 s<" in body
    assert b'<td class="n up">+2<' in body


def shown(look: Look) -> bytes:
    """Show a look."""
    return repr(look.snapshot).encode()


async def test_a_thousand_scrapes_share_a_look() -> None:
    """One is taken, and rendered once for each page."""
    taken = rendered = 0

    async def take() -> Snapshot:
        nonlocal taken
        taken += 1
        await anyio.sleep(0.1)
        return Snapshot(())

    def make(_: object) -> bytes:
        nonlocal rendered
        rendered += 1
        return b"page"

    looks = Looks(take)
    bodies: list[bytes] = []

    async def scrape() -> None:
        bodies.append(await looks.body("page", make))

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(scrape)

    assert bodies == [b"page"] * 1000
    assert (taken, rendered) == (1, 1)
    await anyio.sleep(FRESH)
    await scrape()
    assert taken == 2


async def test_another_page_of_a_fresh_look_takes_one_of_its_own() -> None:
    """Since the first one was let go: it may be large."""
    taken = 0

    async def take() -> Snapshot:
        nonlocal taken
        taken += 1
        return Snapshot(())

    looks = Looks(take)
    for what in ("a", "b", "a"):
        await looks.body(what, shown)

    assert taken == 2
    assert looks._look is not None
    assert looks._look.snapshot is None


async def test_two_pages_that_are_asked_for_at_once_share_a_look() -> None:
    """It is kept for as long as somebody waits for it."""
    taken = 0

    async def take() -> Snapshot:
        nonlocal taken
        taken += 1
        await anyio.sleep(0.1)
        return Snapshot(())

    looks = Looks(take)
    async with anyio.create_task_group() as tasks:
        for what in ("a", "b"):
            tasks.start_soon(looks.body, what, shown)

    assert taken == 1


async def test_a_scrape_that_is_cancelled_leaves_its_look_to_the_next() -> None:
    """Nothing runs that no request waits for, and nobody waits for ever."""
    began: list[int] = []

    async def take() -> Snapshot:
        began.append(1)
        await anyio.sleep(10)
        return Snapshot(())

    looks = Looks(take)
    bodies: list[bytes] = []

    async def scrape() -> None:
        bodies.append(await looks.body("page", lambda _: b"page"))

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as first:
                first.start_soon(scrape)
                await hold_the_clock(lambda: bool(began))
                tasks.start_soon(scrape)
                await anyio.sleep_forever()

    assert bodies == [b"page"]
    assert len(began) == 2


async def test_a_scrape_can_be_cancelled_at_shutdown() -> None:
    """Whatever it was about to do."""
    async with anyio.create_task_group() as tasks:
        for path in ("/", "/tasks", "/pprof/tasks?seconds=30"):
            tasks.start_soon(Client(debug_app()).get, path)
        await checkpoint()
        tasks.cancel_scope.cancel()


# Profiles over time


@pytest.mark.virtual_clock
async def test_a_profile_over_time_has_what_has_become_more(
    finds: Callable[..., None],
) -> None:
    """After so many seconds."""
    task = Entry("task", "t", "waiting")
    finds(task)
    answers: list[Any] = []
    start = anyio.current_time()

    async def ask() -> None:
        answers.append(await Client(debug_app()).get("/pprof/tasks?seconds=30"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(10)
        finds(task, task)

    assert anyio.current_time() - start >= 30
    ((code, _, body),) = answers
    assert code == 200
    assert gzip.decompress(body)


@pytest.mark.virtual_clock
async def test_a_profile_ends_when_the_client_has_gone() -> None:
    """There is nobody to wait for it."""
    client = Client(debug_app())
    start = anyio.current_time()
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await client.get("/pprof/tasks?seconds=300"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(10)
        client.gone.set()

    assert anyio.current_time() - start == 10
    assert answers == [None]


async def test_few_profiles_are_under_way_at_once() -> None:
    """Each keeps a look meanwhile."""
    app = debug_app()
    answers: list[Any] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(PROFILES):
            tasks.start_soon(Client(app).get, "/pprof/tasks?seconds=300")
        await anyio.sleep(1)
        answers.append(await Client(app).get("/pprof/tasks?seconds=20.5"))
        tasks.cancel_scope.cancel()

    ((code, headers, _),) = answers
    assert (code, headers[b"retry-after"]) == (503, b"21")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Client(app).get, "/pprof/tasks?seconds=300")
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()


def test_an_app_can_serve_in_one_loop_after_the_other() -> None:
    """As in tests of a service."""
    app = debug_app()
    for _ in range(2):
        assert anyio.run(status, app) == 200
