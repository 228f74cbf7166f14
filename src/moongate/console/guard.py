"""Who asks, and whether the role is enough: API keys, cookie sessions, and the command line's own secret.

Every route of the API names its rule by the type of a parameter: `Reader`, `Writer` or `Admin`. The OpenAPI document
says the roles of each (`x-roles`), and a test holds every route to them.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from moongate.console.gate import SAFE
from moongate.console.problems import Refused
from moongate.console.services import Services, of_request
from moongate.control.platform.shapes import LOCAL, Actor, Role

COOKIE = "moongate_session"
_CHALLENGE = {"www-authenticate": 'Bearer realm="moongate admin"'}
_bearer = HTTPBearer(auto_error=False, scheme_name="apiKey", description="An API key, or a session's cookie instead.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, scheme_name="session", description="Set by POST /sign-in.")

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
Cookie = Annotated[str | None, Security(_cookie)]


async def known(request: Request, services: Services, bearer: str | None, cookie: str | None) -> Actor:
    """Who asks. Raises Refused (401), StoreAway."""
    if bearer is not None:
        secret = services.local_admin
        if secret is not None and hmac.compare_digest(bearer.encode(), secret.encode()):
            return LOCAL
        actor = await services.platform.api_keys.check(bearer)
        if actor is None:
            raise Refused(401, "this API key is not known, has expired or is disabled", headers=_CHALLENGE)
        return actor
    if cookie is None:
        raise Refused(401, "sign in, or send an API key: Authorization: Bearer ...", headers=_CHALLENGE)
    fields = request.headers
    if request.method not in SAFE and "origin" not in fields and "sec-fetch-site" not in fields:
        raise Refused(403, "a session is for browsers, which say where a request comes from; programs use an API key")
    actor = await services.platform.sign_ins.check(cookie)
    if actor is None:
        raise Refused(401, "the session has ended; sign in again", headers=_CHALLENGE)
    return actor


class Allowed:
    """A rule: the roles that may."""

    def __init__(self, *roles: Role) -> None:
        self.roles = roles

    async def __call__(self, request: Request, bearer: Bearer, cookie: Cookie) -> Actor:
        """Who asks. Raises Refused (401, 403)."""
        services = of_request(request)
        actor = await known(request, services, None if bearer is None else bearer.credentials, cookie)
        if actor.role not in self.roles:
            raise Refused(403, f"this needs the role {' or '.join(self.roles)}; yours is {actor.role}")
        return actor


READ = Allowed("admin", "operator", "auditor")
WRITE = Allowed("admin", "operator")
ADMIN = Allowed("admin")

Reader = Annotated[Actor, Depends(READ)]
Writer = Annotated[Actor, Depends(WRITE)]
Admin = Annotated[Actor, Depends(ADMIN)]
