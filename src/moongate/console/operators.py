"""`/operators`, `/api-keys` and `/sign-in-codes`: who may use this API. For admins only."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from moongate.console.guard import Admin
from moongate.console.queries import Expected, Named, tagged
from moongate.console.services import Given, OnPlatform
from moongate.control.platform.shapes import (
    ApiKey,
    ApiKeyMade,
    ApiKeyNew,
    ApiKeyPatch,
    Operator,
    OperatorNew,
    OperatorPatch,
    Output,
    Page,
    Role,
    moment,
)
from moongate.control.schema.values import Strict

router = APIRouter(tags=["operators"])
CODE_SECONDS = 600


class CodeNew(Strict):
    """A one-time link to sign in."""

    role: Role = "admin"
    seconds: Annotated[int, Field(ge=10, le=7 * 86_400)] = CODE_SECONDS


class CodeMade(Output):
    """The code, once. `link` is None where no console listens."""

    code: str
    role: Role
    expires: str
    link: str | None


def sign_in_link(address: str, code: str) -> str:
    """Where a browser signs in with a code; what stands after # is never sent to a server."""
    return f"{address}/sign-in#code={code}"


@router.get("/operators")
async def list_operators(platform: OnPlatform, _: Admin) -> Page[Operator]:
    """All operator accounts."""
    return Page[Operator](items=await platform.operators.list())


@router.post("/operators", status_code=201)
async def create_operator(platform: OnPlatform, actor: Admin, new: OperatorNew) -> Operator:
    """A new account."""
    return await platform.operators.create(new, actor)


@router.get("/operators/{name}")
async def get_operator(platform: OnPlatform, _: Admin, name: Named, response: Response) -> Operator:
    """One account."""
    found = await platform.operators.get(name)
    tagged(response, found.revision)
    return found


@router.patch("/operators/{name}")
async def patch_operator(
    platform: OnPlatform, actor: Admin, name: Named, patch: OperatorPatch, expected: Expected
) -> Operator:
    """Change role or password, disable or enable. Sessions of the account end."""
    return await platform.operators.patch(name, patch, actor, expected)


@router.delete("/operators/{name}", status_code=204)
async def delete_operator(platform: OnPlatform, actor: Admin, name: Named) -> None:
    """Remove an account."""
    await platform.operators.delete(name, actor)


@router.get("/api-keys")
async def list_api_keys(platform: OnPlatform, _: Admin) -> Page[ApiKey]:
    """All API keys, without their values."""
    return Page[ApiKey](items=await platform.api_keys.list())


@router.post("/api-keys", status_code=201)
async def create_api_key(platform: OnPlatform, actor: Admin, new: ApiKeyNew) -> ApiKeyMade:
    """A new key; its value is in this answer and nowhere else."""
    return await platform.api_keys.create(new, actor)


@router.get("/api-keys/{id}")
async def get_api_key(platform: OnPlatform, _: Admin, id: Named, response: Response) -> ApiKey:  # noqa: A002 - the path's
    """One key, without its value."""
    found = await platform.api_keys.get(id)
    tagged(response, found.revision)
    return found


@router.patch("/api-keys/{id}")
async def patch_api_key(
    platform: OnPlatform,
    actor: Admin,
    id: Named,  # noqa: A002 - the path's
    patch: ApiKeyPatch,
    expected: Expected,
) -> ApiKey:
    """Rename, disable or enable, change the expiry."""
    return await platform.api_keys.patch(id, patch, actor, expected)


@router.delete("/api-keys/{id}", status_code=204)
async def delete_api_key(platform: OnPlatform, actor: Admin, id: Named) -> None:  # noqa: A002 - the path's
    """Remove a key."""
    await platform.api_keys.delete(id, actor)


@router.post("/sign-in-codes", status_code=201)
async def create_sign_in_code(services: Given, platform: OnPlatform, _: Admin, new: CodeNew) -> CodeMade:
    """A one-time link for somebody who has no account yet, or has lost its password."""
    code = await platform.codes.make(new.role, new.seconds)
    link = None if services.address is None else sign_in_link(services.address, code)
    return CodeMade(code=code, role=new.role, expires=moment(time.time() + new.seconds), link=link)
