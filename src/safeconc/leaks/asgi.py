"""A page for who is on call: what is alive in this process, as an ASGI app to mount."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from math import ceil, nan
from typing import Any, TypeAlias, final
from urllib.parse import parse_qs, quote

import anyio

from safeconc._errgroup import ErrGroup
from safeconc._to_thread import to_thread
from safeconc.leaks._access import Access
from safeconc.leaks._diff import diff
from safeconc.leaks._json import as_json
from safeconc.leaks._looks import Look, Looks
from safeconc.leaks._model import Snapshot
from safeconc.leaks._page import STYLE_HASH, page
from safeconc.leaks._pprof import as_pprof
from safeconc.leaks._report import Level, report
from safeconc.leaks._sample import in_slices, look

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Query: TypeAlias = dict[str, list[str]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

LONGEST = 300.0
"""Seconds between the two looks of a profile at most."""

PROFILES = 4
"""Profiles over time that may be under way at once: each keeps a look meanwhile."""

_HEADERS = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'".encode(),
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

_TEXT = b"text/plain; charset=utf-8"
_HTML = b"text/html; charset=utf-8"
_JSON = b"application/json"
_PROTOBUF = b"application/octet-stream"


def debug_app(*, token: str | None = None) -> ASGIApp:
    """Make the app: tasks and threads of this process, grouped, for people and tools.

    Mount it where the service has its other internal pages::

        app.mount("/debug/leaks", safeconc.leaks.asgi.debug_app(token=TOKEN))

    It needs no framework, and runs on asyncio and on trio:

    ======================  ======================================================
    ``/``                   a page: groups, counts, ages, growth since the last look
    ``/tasks?debug=1``      tasks, grouped; ``debug=2`` with stacks, one by one
    ``/threads``            the same for threads
    ``/tasks.json``         tasks, grouped, for programs
    ``/pprof/tasks``        a profile that ``go tool pprof`` opens; with
                            ``?seconds=N`` what has become more in so many seconds
    ======================  ======================================================

    Looking changes nothing. A look at many tasks is taken in slices, and shared by all
    who ask within a second, so that a thousand scrapes cost what one does. Answers are
    bounded, however much is alive, and names of tasks are escaped.

    Without a *token* only this machine may look; with one, only who has it. The
    ``Authorization`` header brings it, as ``Bearer``, or as the password of ``Basic``
    with any user. A reverse proxy on this machine makes everybody seem to be here, so
    what says that it was forwarded is refused without a token.

    It answers on its event loop. When that is blocked, nobody does: that is what
    :func:`safeconc.leaks.on_signal` is for.

    :param token: a secret of 16 characters at least.
    """
    return _App(Access(token))


@final
@dataclass(frozen=True, slots=True)
class _Answer:
    """What is sent back."""

    status: int
    kind: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send, *, head: bool) -> None:
        """Send it; without its body for a HEAD."""
        headers = [
            (b"content-type", self.kind),
            (b"content-length", str(len(self.body)).encode()),
            *_HEADERS,
            *self.headers,
        ]
        start = {"type": "http.response.start", "status": self.status}
        await send({**start, "headers": headers})
        body = b"" if head else self.body
        await send({"type": "http.response.body", "body": body})


@final
class _App:
    def __init__(self, access: Access) -> None:
        self._access = access
        self._looks = Looks(_snapshot)
        self._profiles = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            answer = await self._answer(scope, receive)
            if answer is not None:
                await answer.send(send, head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer | None:
        refusal = self._access.refusal(scope)
        if refusal is not None:
            return _say(refusal.status, refusal.text, *refusal.headers)
        if scope["method"] not in ("GET", "HEAD"):
            return _say(405, "Looking is all there is to do.", (b"allow", b"GET, HEAD"))
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        match _path_below(scope):
            case "":  # the links on the page need the slash
                to = quote(scope.get("root_path", ""))
                return _say(307, "", (b"location", f"{to}/".encode()))
            case "/":
                return _Answer(200, _HTML, await self._looks.body("page", _page))
            case "/tasks" | "/threads" as path:
                return await self._text(path[1:-1], query)
            case "/tasks.json":
                return _Answer(200, _JSON, await self._looks.body("json", _json))
            case "/pprof/tasks":
                return await self._profile(query, receive)
            case _:
                return _say(404, "There is no such page.")

    async def _text(self, kind: str, query: Query) -> _Answer:
        level = query.get("debug", ["1"])[-1]
        if level not in ("1", "2"):
            return _say(400, "debug is 1 or 2.")
        make = partial(_report, kind, 2 if level == "2" else 1)
        return _Answer(200, _TEXT, await self._looks.body((kind, level), make))

    async def _profile(self, query: Query, receive: Receive) -> _Answer | None:
        given = query.get("seconds", ["0"])[-1]
        try:
            seconds = float(given)
        except ValueError:
            seconds = nan
        if not 0 <= seconds <= LONGEST:  # also refuses NaN
            return _say(400, f"seconds is a number from 0 to {LONGEST:.0f}.")
        if not seconds:
            return _Answer(200, _PROTOBUF, await self._looks.body("pprof", _pprof))
        if self._profiles >= PROFILES:
            return _say(
                503,
                f"{PROFILES} profiles are under way; try again when one is done.",
                (b"retry-after", str(ceil(seconds)).encode()),
            )
        self._profiles += 1
        try:
            return await _profile_over(seconds, receive)
        finally:
            self._profiles -= 1


async def _profile_over(seconds: float, receive: Receive) -> _Answer | None:
    """Compare two looks; None if who asked has gone in between."""
    async with ErrGroup(limit=None, name="profile") as group:
        await group.go_background(_await_end, receive, group)
        before = await _snapshot()
        await anyio.sleep(seconds)
        after = await _snapshot()
        body = await to_thread(_pprof_of_both, before, after)
        return _Answer(200, _PROTOBUF, body)
    return None


async def _await_end(receive: Receive, group: ErrGroup) -> None:
    """Cancel *group* when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    group.cancel()


async def _live(receive: Receive, send: Send) -> None:
    """Take part in the protocol by which servers start and stop an app."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _path_below(scope: Scope) -> str:
    """Return the path below where the app is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    rest = path.removeprefix(root)
    return rest if rest in ("", path) or rest.startswith("/") else path


def _say(status: int, text: str, *headers: tuple[bytes, bytes]) -> _Answer:
    return _Answer(status, _TEXT, f"{text}\n".encode(), headers)


def _page(look: Look) -> bytes:
    assert look.snapshot is not None
    return page(look.rows(), look.ago, look.snapshot.notes).encode()


def _report(kind: str, level: Level, look: Look) -> bytes:
    snapshot = _of_kind(look, kind)
    return f"{report(snapshot, level=level, title='Alive')}\n".encode()


def _json(look: Look) -> bytes:
    return as_json(_of_kind(look, "task")).encode()


def _pprof(look: Look) -> bytes:
    return as_pprof(_of_kind(look, "task"))


def _pprof_of_both(before: Snapshot, after: Snapshot) -> bytes:
    return as_pprof(diff(before, after))


def _of_kind(look: Look, kind: str) -> Snapshot:
    assert look.snapshot is not None
    entries = look.snapshot.entries
    kept = tuple(entry for entry in entries if entry.kind == kind)
    return look.snapshot._replace(entries=kept)


async def _snapshot() -> Snapshot:
    return await in_slices(look(), _ignore)


def _ignore(_: float) -> None: ...
