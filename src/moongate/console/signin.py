"""`/sign-in`, `/sign-out`, `/me`: how a person gets a session.

The first one comes by a one-time link, which the gateway prints at its first start, and makes an account with it.
"""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from moongate.console.guard import COOKIE, Cookie, Reader
from moongate.console.problems import Refused
from moongate.console.services import OnPlatform
from moongate.control.platform.failures import Exists
from moongate.control.platform.platform import Platform
from moongate.control.platform.shapes import UNNAMED as GUEST
from moongate.control.platform.shapes import (
    Actor,
    OperatorName,
    OperatorNew,
    OperatorPatch,
    Output,
    Password,
    Person,
    Role,
)
from moongate.control.schema.values import Strict

log = logging.getLogger("moongate")

router = APIRouter(tags=["sign-in"])
# Nothing else on this host, or on another port of it, gets the cookie by the way: cookies know paths, but no ports.
PATH = "/api/v1"
PAGES = "/console"
_NO = "the name, the password or the code is wrong, or the code was used or has expired"


class SignIn(Strict):
    """`name` and `password` of an account; or the `code` of a one-time link; or both, which makes that account.

    A link of an admin also gives an account that exists its new password.
    """

    code: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    name: Person | None = None
    password: Annotated[str | None, Field(min_length=1, max_length=1024)] = None


class Me(Output):
    """Who asks. `how`: with a session or with an API key."""

    name: str
    role: Role
    how: Literal["session", "key"]


class PasswordChange(Strict):
    """One's own password, and the one that replaces it."""

    current: Annotated[str, Field(min_length=1, max_length=1024)]
    password: Password


class _NewAccount(Strict):
    name: OperatorName
    password: Password


@router.post("/sign-in")
async def sign_in(platform: OnPlatform, request: Request, response: Response, given: SignIn) -> Me:
    """Get a session: its cookie comes with the answer."""
    if given.code is not None:
        actor, account = await _by_code(platform, given, request)
    elif given.name is not None and given.password is not None:
        found = await platform.operators.check(given.name, given.password, _source(request))
        if found is None:
            raise _refused(request)
        actor, account = found, True
    else:
        raise Refused(422, "either a code, or name and password are needed")
    await _begin_session(platform, request, response, actor, account=account)
    return Me(name=actor.name, role=actor.role, how="session")


def _source(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _refused(request: Request) -> Refused:
    # Not the name: it may be a password that was typed into the wrong field.
    log.warning("a sign-in from %s was refused", _source(request))
    return Refused(401, _NO)


async def _begin_session(
    platform: Platform, request: Request, response: Response, actor: Actor, *, account: bool = True
) -> None:
    value = await platform.sign_ins.start(actor, account=account)
    # A page that came over https (through a proxy) says so; then the cookie is never sent without it.
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    for path in (PATH, PAGES):
        response.set_cookie(COOKIE, value, path=path, httponly=True, samesite="strict", secure=secure)


async def _by_code(platform: Platform, given: SignIn, request: Request) -> tuple[Actor, bool]:
    if (given.name is None) != (given.password is None):
        raise Refused(422, "a new account needs both a name and a password")
    account = None if given.name is None else _new_account(given)
    role = await platform.codes.redeem(given.code or "", _source(request))
    if role is None:
        raise _refused(request)
    if account is None:
        return Actor(GUEST, role), False
    new = OperatorNew(name=account.name, role=role, password=account.password)
    maker = Actor(GUEST, "admin")  # an admin made the code, or there is nobody yet
    try:
        made = await platform.operators.create(new, maker)
    except Exists:
        if role != "admin":
            raise
        made = await platform.operators.patch(new.name, OperatorPatch(password=new.password), maker)
        if not made.enabled:
            raise Refused(403, "this account is disabled") from None
    return Actor(made.name, made.role), True


def _new_account(given: SignIn) -> _NewAccount:
    """Raises RequestValidationError."""
    try:
        return _NewAccount.model_validate({"name": given.name, "password": given.password})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None


@router.post("/sign-out", status_code=204)
async def sign_out(platform: OnPlatform, response: Response, _: Reader, cookie: Cookie) -> None:
    """End the session."""
    if cookie is not None:
        await platform.sign_ins.end(cookie)
    for path in (PATH, PAGES):
        response.delete_cookie(COOKIE, path=path, httponly=True, samesite="strict")


@router.put("/me/password", status_code=204)
async def change_password(
    platform: OnPlatform, request: Request, response: Response, actor: Reader, given: PasswordChange
) -> None:
    """Another password for one's own account; all its other sessions end."""
    if await platform.operators.check(actor.name, given.current, _source(request)) is None:
        raise Refused(403, "this is not the password of your account")
    await platform.operators.patch(actor.name, OperatorPatch(password=given.password), actor)
    await _begin_session(platform, request, response, actor)


@router.get("/me")
async def get_me(actor: Reader, request: Request) -> Me:
    """Who asks, and with which role."""
    return Me(name=actor.name, role=actor.role, how="key" if "authorization" in request.headers else "session")
