"""The frame of all pages: templates, navigation, who is signed in; and what becomes of a page that cannot be shown.

A new page is a template that extends `frame.html`, a route of a router of `page_router` below `PREFIX` that takes
`Reader` (or `Writer`, `Admin`) and ends in `show`, and its line in `NAVIGATION`. Whatever is shown is escaped.
"""

from __future__ import annotations

import http
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from moongate.console import assets
from moongate.console.guard import COOKIE
from moongate.console.live import NoAnswer
from moongate.console.problems import RETRY_SECONDS, Refused
from moongate.console.signin import PAGES
from moongate.control.platform.failures import TooMany
from moongate.control.platform.shapes import Actor
from moongate.errors import ConfigError
from moongate.store.failing import StoreAway

PREFIX = PAGES
SIGN_IN = "/sign-in"
EXPLAIN = f"{PREFIX}/explain"
NAVIGATION = ((PREFIX, "Overview"), (EXPLAIN, "Explain"))

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
# With `no-referrer` browsers send `Origin: null` with a form of our own page, which the gate refuses.
_HEADERS = {"content-security-policy": _POLICY, "referrer-policy": "same-origin"}


def _visible(value: object) -> object:
    """Text with everything that could not be seen, or turns the direction of what follows, spelt out."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(one if one.isprintable() or one in "\n\t" else f"\\u{{{ord(one):x}}}" for one in value)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_TEMPLATES.globals.update(asset=assets.address, home=PREFIX, navigation=NAVIGATION)


def show(template: str, actor: Actor | None, place: str = "", status: int = 200, **values: object) -> HTMLResponse:
    """A page. `actor` is who is signed in, `place` its address in the navigation, `values` are the template's."""
    text = _TEMPLATES.get_template(template).render(actor=actor, place=place, **values)
    return HTMLResponse(text, status, headers=_HEADERS)


def sorry(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A page that says why there is no other."""
    page = show("sorry.html", None, status=status, title=http.HTTPStatus(status).phrase, text=sentence(text))
    page.headers.update(headers or {})
    return page


def see_other(address: str) -> RedirectResponse:
    """To another page, which is asked for with GET."""
    return RedirectResponse(address, 303, headers=_HEADERS)


def is_page(address: str) -> bool:
    """Whether this is the address of a page here: who signs in is sent to nowhere else."""
    begins = address == PREFIX or address.startswith((f"{PREFIX}/", f"{PREFIX}?"))
    return begins and address.isascii() and address.isprintable() and not {"\\", " "} & set(address)


def sentence(text: str) -> str:
    """What stands in an error, as a sentence of its own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


class PageRoute(APIRoute):
    """A route whose failures are pages: to sign in, if nobody is signed in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Refused as refused:
                if refused.status == 401:
                    return _to_sign_in(request)
                return sorry(refused.status, refused.detail, refused.headers)
            except ConfigError as wrong:
                return sorry(422, "; ".join(f"{one.where}: {one.text}" for one in wrong.complaints))
            except (StoreAway, NoAnswer) as away:
                return sorry(503, str(away), {"retry-after": str(RETRY_SECONDS)})
            except TooMany as many:
                return sorry(429, str(many), {"retry-after": str(max(1, round(many.retry_after)))})

        return handled


def page_router() -> APIRouter:
    """A router for pages."""
    return APIRouter(include_in_schema=False, route_class=PageRoute)


def _to_sign_in(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    address = request.url.path + query
    if request.method == "GET" and COOKIE not in request.cookies:
        # A browser keeps the session to itself when a link on another site's page leads here (SameSite=Strict).
        if request.headers.get("sec-fetch-site") == "cross-site":
            return show("again.html", None, address=address)
        return see_other(f"{SIGN_IN}?{urlencode({'next': address})}" if address != PREFIX else SIGN_IN)
    return see_other(f"{SIGN_IN}?{urlencode({'next': request.url.path, 'ended': 'yes'})}")
