"""What every request to the admin port passes before anything of it is read, and what every answer carries.

A page of another site can make a browser send requests to this port, also by a name that it lets point here (DNS
rebinding). So `Host` must be an address or a name that is known, and what changes something must come from a page of
this port itself, or from no page at all. There are no CORS headers: nobody else's page may read an answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moongate.console.problems import answer

MAX_BODY = 8 * 1024 * 1024
_TOO_LARGE = f"a body may have at most {MAX_BODY} bytes"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = (b"same-origin", b"none")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_UNLESS_SET = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
)


class Gate:
    """See the module. `names`: the host names that may be asked for beside addresses and `localhost`."""

    def __init__(self, app: ASGIApp, names: Callable[[], Collection[str]]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields = dict(scope["headers"])

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                more = [pair for pair in _UNLESS_SET if pair[0] not in own]
                message = {**message, "headers": [*message["headers"], *_HEADERS, *more]}
            await send(message)

        refused = self._refused(scope, fields)
        if refused is not None:
            await answer(*refused)(scope, receive, dressed)
            return
        await self._app(scope, _limited(receive), dressed)

    def _refused(self, scope: Scope, fields: dict[bytes, bytes]) -> tuple[int, str] | None:
        host = fields.get(b"host", b"").decode("latin-1")
        if sum(name == b"host" for name, _ in scope["headers"]) != 1 or not self._is_known(_name(host)):
            return 403, (
                "this host name is not known here; use an address, localhost, or a name in gateway.hosts or "
                "gateway.publicUrl"
            )
        if scope["method"] not in SAFE and not _same_site(fields, host):
            return 403, "the request comes from a page of another site"
        if int(fields.get(b"content-length", b"0") or b"0") > MAX_BODY:
            return 413, _TOO_LARGE
        return None

    def _is_known(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or name.endswith(".localhost") or name in self._names()
        return True


def _name(authority: str) -> str:
    if not set(authority).isdisjoint("@/\\?#"):
        return ""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _same_site(fields: dict[bytes, bytes], host: str) -> bool:
    """Whether no page of another origin sent this: browsers say so, programs send neither header."""
    site, origin = fields.get(b"sec-fetch-site"), fields.get(b"origin")
    if site is not None and site not in _OWN_SITES:
        return False
    return origin is None or origin.decode("latin-1").partition("://")[2].lower() == host.lower()


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            raise HTTPException(413, _TOO_LARGE, headers={"connection": "close"})
        return message

    return counted
