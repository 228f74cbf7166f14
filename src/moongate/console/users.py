"""`/users`, `/groups`, `/tokens` and `/access`: who may call, with what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from moongate.console.guard import Reader, Writer
from moongate.console.queries import Expected, Named, PageQuery, Wanted, tagged
from moongate.console.services import OnPlatform
from moongate.control.platform.shapes import (
    Access,
    AccessPut,
    Group,
    Page,
    Token,
    TokenMade,
    TokenNew,
    TokenPatch,
    User,
    UserNew,
    UserPatch,
    UserPut,
)
from moongate.control.platform.tokens import TokenFilter

router = APIRouter(tags=["users"])


class UserQuery(PageQuery):
    """`q` is part of a name or of the notes."""

    q: Wanted
    group: Wanted


class TokenQuery(PageQuery):
    """`q` is an id, a fingerprint, or part of a name."""

    user: Wanted
    instance: Wanted
    tag: Wanted
    q: Wanted
    enabled: bool | None = None


@router.get("/users")
async def list_users(platform: OnPlatform, _: Reader, query: Annotated[UserQuery, Query()]) -> Page[User]:
    """Users by name."""
    return await platform.users.list(**query.model_dump())


@router.post("/users", status_code=201)
async def create_user(platform: OnPlatform, actor: Writer, new: UserNew) -> User:
    """A new user."""
    return await platform.users.create(new, actor)


@router.get("/users/{name}")
async def get_user(platform: OnPlatform, _: Reader, name: Named, response: Response) -> User:
    """One user."""
    found = await platform.users.get(name)
    tagged(response, found.revision)
    return found


@router.put("/users/{name}")
async def replace_user(platform: OnPlatform, actor: Writer, name: Named, put: UserPut, expected: Expected) -> User:
    """All of a user but the name."""
    return await platform.users.replace(name, put, actor, expected)


@router.patch("/users/{name}")
async def patch_user(platform: OnPlatform, actor: Writer, name: Named, patch: UserPatch, expected: Expected) -> User:
    """Change some of it. A disabled user's tokens are refused."""
    return await platform.users.patch(name, patch, actor, expected)


@router.delete("/users/{name}", status_code=204)
async def delete_user(platform: OnPlatform, actor: Writer, name: Named, expected: Expected) -> None:
    """Remove a user and all tokens of that user."""
    await platform.users.delete(name, actor, expected)


@router.get("/groups")
async def list_groups(platform: OnPlatform, _: Reader) -> Page[Group]:
    """All groups that have a member."""
    return Page[Group](items=await platform.users.groups())


@router.get("/tokens")
async def list_tokens(platform: OnPlatform, _: Reader, query: Annotated[TokenQuery, Query()]) -> Page[Token]:
    """Client tokens, without their values."""
    wanted = TokenFilter(**query.model_dump(exclude={"limit", "cursor"}))
    return await platform.tokens.list(wanted, limit=query.limit, cursor=query.cursor)


@router.post("/tokens", status_code=201)
async def create_token(platform: OnPlatform, actor: Writer, new: TokenNew) -> TokenMade:
    """A new token; its value is in this answer and nowhere else."""
    return await platform.tokens.create(new, actor)


@router.get("/tokens/{id}")
async def get_token(platform: OnPlatform, _: Reader, id: Named, response: Response) -> Token:  # noqa: A002 - the path's
    """One token, without its value."""
    found = await platform.tokens.get(id)
    tagged(response, found.revision)
    return found


@router.patch("/tokens/{id}")
async def patch_token(
    platform: OnPlatform,
    actor: Writer,
    id: Named,  # noqa: A002 - the path's
    patch: TokenPatch,
    expected: Expected,
) -> Token:
    """Disable or enable it, change its expiry, tags, instances; in force within a second."""
    return await platform.tokens.patch(id, patch, actor, expected)


@router.delete("/tokens/{id}", status_code=204)
async def delete_token(
    platform: OnPlatform,
    actor: Writer,
    id: Named,  # noqa: A002 - the path's
    expected: Expected,
) -> None:
    """Remove a token; it is refused within a second."""
    await platform.tokens.delete(id, actor, expected)


@router.get("/access")
async def get_access(platform: OnPlatform, _: Reader, response: Response) -> Access:
    """The access rules that hold for all instances, as made here; those of files stand in files."""
    found = await platform.access.get()
    tagged(response, found.revision)
    return found


@router.put("/access")
async def put_access(platform: OnPlatform, actor: Writer, put: AccessPut, expected: Expected) -> Access:
    """Replace them; `null` removes them."""
    return await platform.access.put(put.access, actor, expected)
