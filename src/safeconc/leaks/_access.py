"""Who may look at what a service is doing."""

import hmac
from base64 import b64decode
from binascii import Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, final

SHORTEST = 16
"""Characters of a token at least."""

_FORWARDED = {
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-real-ip",
}
"""What a proxy adds, so that a request is not from where it seems to be."""

_LOCAL = {"localhost", "127.0.0.1", "[::1]"}


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody may not look."""

    status: int
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@final
class Access:
    """Lets in who has the token, or, where there is none, who is on this machine.

    Without a token three things must hold. The connection comes from a loopback
    address; a socket in the file system has none. No header says that a proxy has
    passed it on, for then everybody comes from the proxy's address. And it was sent to
    this machine by name, since a page from elsewhere, whose name its owner has made
    to mean 127.0.0.1, can have a browser here read from it.

    With a token nothing else counts. It comes in the ``Authorization`` header, as
    ``Bearer`` or as the password of ``Basic``, for which browsers ask, and which
    ``go tool pprof`` takes from ``http://any:TOKEN@host``. It does not come in the
    query: queries are written to logs and histories.
    """

    def __init__(self, token: str | None) -> None:
        if token is not None and not isinstance(token, str):
            raise TypeError(f"token must be a string or None, not {type(token)!r}")
        if token is not None and len(token) < SHORTEST:
            raise ValueError(
                f"token must have at least {SHORTEST} characters; make one with "
                "secrets.token_urlsafe()"
            )
        self._token = None if token is None else token.encode()

    def refusal(self, scope: Mapping[str, Any]) -> Refusal | None:
        """Return why the sender of a request may not look; None if it may."""
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        if self._token is not None:
            given = _token_in(headers)
            if given is not None and hmac.compare_digest(given, self._token):
                return None
            return Refusal(
                401,
                "This needs the token that the service gave to debug_app().\n",
                ((b"www-authenticate", b'Basic realm="safeconc", charset="UTF-8"'),),
            )
        if any(name in _FORWARDED for name, _ in headers):
            why = "a proxy has passed the request on"
        elif not _is_loopback(scope.get("client")):
            why = "the request does not come from a loopback address"
        elif not all(_is_local(value) for name, value in headers if name == b"host"):
            why = "the request was sent to another host name"
        else:
            return None
        return Refusal(
            403,
            f"Only from this machine, and {why}. Give debug_app() a token to let "
            "others in.\n",
        )


def _token_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, value = given[0].partition(b" ")
    value = value.strip()
    if scheme.lower() == b"bearer":
        return value
    if scheme.lower() == b"basic":
        try:
            return b64decode(value, validate=True).partition(b":")[2]
        except Error:
            return None
    return None


def _is_loopback(client: Any) -> bool:
    try:
        return ip_address(client[0]).is_loopback
    except (TypeError, ValueError, IndexError):  # a socket file, or a name
        return False


def _is_local(host: bytes) -> bool:
    name = host.decode("latin-1").lower()
    if not name.endswith("]"):
        head, colon, port = name.rpartition(":")
        name = head if colon and port.isdigit() else name
    return name in _LOCAL
