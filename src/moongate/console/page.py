"""The way in and the first page: `/sign-in`, the overview, signing out; and the short addresses `/` and `/explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError

from moongate.console import signin
from moongate.console.forms import fields
from moongate.console.frame import EXPLAIN, PREFIX, SIGN_IN, is_page, page_router, see_other, sentence, show
from moongate.console.guard import Cookie, Reader
from moongate.console.problems import Refused, text_of
from moongate.console.services import Given, OnPlatform, Services
from moongate.control.platform.failures import Exists, TooMany
from moongate.control.platform.shapes import Addresses, Instance

router = page_router()
_ENDED = "The session has ended; sign in again."
_AT_ONCE = 100


class Served(NamedTuple):
    """An instance as the overview shows it. `token_needed` None: nobody can call it now."""

    name: str
    state: str
    kind: str
    token_needed: bool | None
    addresses: Addresses
    where: str


@router.get("/")
def short_home(request: Request) -> Response:
    """The address that people type."""
    return see_other(_with_query(PREFIX, request))


@router.get("/explain")
def short_explain(request: Request) -> Response:
    """The address that people hand on: `/explain?request=...`."""
    return see_other(_with_query(EXPLAIN, request))


def _with_query(address: str, request: Request) -> str:
    return f"{address}?{request.url.query}" if request.url.query else address


@router.get(SIGN_IN)
def sign_in_page(request: Request) -> Response:
    """The form. A one-time link leads here, too: its code stands behind #."""
    wanted = request.query_params
    return _form({"next": wanted.get("next", "")}, _ENDED if "ended" in wanted else "")


@router.post(SIGN_IN)
async def sign_in(platform: OnPlatform, request: Request) -> Response:
    """Sign in, as the API does."""
    sent = await fields(request)
    wanted = sent.get("next", "")
    entered = see_other(wanted if is_page(wanted) else PREFIX)
    try:
        given = signin.SignIn.model_validate(
            {name: sent[name] for name in ("name", "password", "code") if sent.get(name)}
        )
        await signin.sign_in(platform, request, entered, given)
    except Refused as refused:
        return _form(_used(sent) if refused.status != 422 else sent, sentence(refused.detail), refused.status)
    except Exists as exists:
        return _form(_used(sent), sentence(str(exists)), 409)
    except TooMany as many:
        return _form(sent, sentence(str(many)), 429)
    except (ValidationError, RequestValidationError) as error:
        wrong = {str(each["loc"][-1]): sentence(text_of(each)) for each in error.errors()}
        return _form(sent, "", 422, wrong)
    return entered


def _used(sent: Mapping[str, str]) -> dict[str, str]:
    """Without the code, which is of no use any more."""
    return {**sent, "code": ""}


def _form(
    sent: Mapping[str, str], said: str = "", status: int = 200, wrong: Mapping[str, str] | None = None
) -> Response:
    """The form as it was sent, without the password."""
    errors = {"name": "", "password": "", "code": "", **(wrong or {})}
    kept = {name: sent.get(name, "") for name in ("name", "code")}
    address = sent.get("next", "")
    wanted = address if is_page(address) else ""
    return show("sign-in.html", None, status=status, said=said, errors=errors, next=wanted, **kept)


@router.post(f"{PREFIX}/sign-out")
async def sign_out(platform: OnPlatform, actor: Reader, cookie: Cookie) -> Response:
    """End the session."""
    left = see_other(SIGN_IN)
    await signin.sign_out(platform, left, actor, cookie)
    return left


@router.get(PREFIX)
async def overview(services: Given, platform: OnPlatform, actor: Reader, cursor: str | None = None) -> Response:
    """What is served, and where clients find it."""
    found = await platform.instances.list(limit=_AT_ONCE, cursor=cursor)
    served = [_served(services, one) for one in found.items]
    return show("overview.html", actor, PREFIX, served=served, next=found.next, first_page=cursor is None)


def _served(services: Services, one: Instance) -> Served:
    doors = services.live.doors
    state, kind = ("served", "good") if one.name in doors else ("not in force", "note")
    if not one.enabled:
        state, kind = "disabled", "idle"
    where = one.where if one.source == "file" else ""
    return Served(one.name, state, kind, doors.get(one.name), one.addresses, where)
