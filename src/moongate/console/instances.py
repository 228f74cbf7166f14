"""`/instances`: the servers behind the gateway."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from moongate.console.guard import Reader, Writer
from moongate.console.live import NoAnswer
from moongate.console.queries import Expected, Named, PageQuery, Wanted, tagged
from moongate.console.services import Given, OnPlatform
from moongate.control.clients import CLIENTS, Door, snippet
from moongate.control.platform.instances import KIND, InstanceFilter
from moongate.control.platform.roles import may_write
from moongate.control.platform.shapes import (
    AccessMode,
    Instance,
    InstanceNew,
    InstancePatch,
    InstancePut,
    Page,
    Revision,
)
from moongate.control.schema.values import Strict

router = APIRouter(tags=["instances"])
Client = Literal["claude-code", "claude-desktop", "cursor", "vscode", "codex", "mcpServers"]


class InstanceQuery(PageQuery):
    """`q` is part of the name, the notes or a tag."""

    q: Wanted
    tag: Wanted
    access_mode: AccessMode | None = None
    source: Literal["store", "file"] | None = None
    enabled: bool | None = None


class Paste(Strict):
    """`mcpServers` as MCP clients have them: text, or the object itself. All entries are taken, or none."""

    config: str | dict[str, Any] = Field(description='`{"mcpServers": {...}}`, or only what stands in it.')
    access_mode: AccessMode | None = Field(None, description="Without it: `hosted` for commands, else `proxy`.")


class Outcome(BaseModel):
    """What the API gives and others make: further keys may come."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)


class Snippet(Outcome):
    """What a client's configuration says about an instance."""

    client: str
    title: str
    place: str
    language: str
    text: str
    notes: list[str]


class Trial(Outcome):
    """What became of a connection test, step by step. `failure` is the class, `meaning` says it in words."""

    fine: bool
    milliseconds: float
    failure: str | None = None
    meaning: str | None = None
    steps: list[dict[str, Any]]


class State(Outcome):
    """What is going on at an instance now. `children`: of a hosted one; counters are since the gateway's start."""

    name: str
    in_force: bool
    streams: int
    sessions: int
    requests: int
    failures: dict[str, int]
    children: dict[str, Any] | None


@router.get("/instances")
async def list_instances(platform: OnPlatform, _: Reader, query: Annotated[InstanceQuery, Query()]) -> Page[Instance]:
    """Instances by name, those of files too; secrets are masked."""
    wanted = InstanceFilter(**query.model_dump(exclude={"limit", "cursor"}))
    return await platform.instances.list(wanted, limit=query.limit, cursor=query.cursor)


@router.post("/instances", status_code=201)
async def create_instance(platform: OnPlatform, actor: Writer, new: InstanceNew) -> Instance:
    """A new instance. Hosted ones run commands: these are for admins."""
    return await platform.instances.create(new, actor)


@router.post("/instances/paste", status_code=201)
async def paste_instances(platform: OnPlatform, actor: Writer, paste: Paste) -> Page[Instance]:
    """Instances from `mcpServers` JSON, one or many."""
    return Page[Instance](items=await platform.instances.paste(paste.config, actor, paste.access_mode))


@router.post("/instances/test")
async def try_draft(services: Given, platform: OnPlatform, actor: Writer, draft: InstanceNew) -> Trial:
    """Try a server out before it is saved: connect, initialize, list its tools."""
    return await _try(services, await platform.instances.draft(draft, actor))


@router.get("/instances/{name}")
async def get_instance(platform: OnPlatform, _: Reader, name: Named, response: Response) -> Instance:
    """One instance, its secrets masked."""
    found = await platform.instances.get(name)
    tagged(response, found.revision)
    return found


@router.put("/instances/{name}")
async def replace_instance(
    platform: OnPlatform, actor: Writer, name: Named, put: InstancePut, expected: Expected
) -> Instance:
    """All of an instance but the name. A mask sent back keeps the secret that it stands for."""
    return await platform.instances.replace(name, put, actor, expected)


@router.patch("/instances/{name}")
async def patch_instance(
    platform: OnPlatform, actor: Writer, name: Named, patch: InstancePatch, expected: Expected
) -> Instance:
    """Change some of it. One that is disabled refuses calls, and its open streams are closed."""
    return await platform.instances.patch(name, patch, actor, expected)


@router.delete("/instances/{name}", status_code=204)
async def delete_instance(platform: OnPlatform, actor: Writer, name: Named, expected: Expected) -> None:
    """Remove an instance; its open streams are closed."""
    await platform.instances.delete(name, actor, expected)


@router.get("/instances/{name}/revisions")
async def list_instance_revisions(
    platform: OnPlatform, _: Reader, name: Named, query: Annotated[PageQuery, Query()]
) -> Page[Revision]:
    """Its history, the latest first."""
    return await platform.revisions.list(kind=KIND, name=name, **query.model_dump())


@router.get("/instances/{name}/client-config")
async def get_client_config(
    services: Given, platform: OnPlatform, _: Reader, name: Named, client: Client | None = None
) -> Snippet | Page[Snippet]:
    """What stands in the configuration of a client; without `client`: of each that is known."""
    found = await platform.instances.get(name)
    needed = services.live.doors.get(name, found.config.get("auth") != "off")
    door = Door(name, found.addresses.streamable_http, found.addresses.sse, token_needed=needed)
    if client is not None:
        return Snippet.model_validate(snippet(client, door).plain())
    return Page[Snippet](items=[Snippet.model_validate(snippet(each, door).plain()) for each in CLIENTS])


@router.post("/instances/{name}/test")
async def try_instance(services: Given, platform: OnPlatform, actor: Writer, name: Named) -> Trial:
    """Try the server out: connect, initialize, list its tools. Hosted ones run commands: these are for admins."""
    found = await platform.instances.get(name)
    may_write(actor, found.access_mode)
    written = services.live.configs.get(name)
    return await _try(services, await platform.instances.config(name) if written is None else written)


@router.get("/instances/{name}/state")
async def get_instance_state(services: Given, platform: OnPlatform, _: Reader, name: Named) -> State:
    """What is going on there now: streams, sessions, processes, counters."""
    await platform.instances.get(name)
    facts = await services.live.facts()
    tallies = [tally for tally in facts["requests"] if tally["instance"] == name]
    failures: dict[str, int] = {}
    for tally in tallies:
        for failure, count in tally["failures"].items():
            failures[failure] = failures.get(failure, 0) + count
    return State(
        name=name,
        in_force=name in services.live.doors,
        streams=facts["streams"].get(name, 0),
        sessions=facts["sessions"].get(name, 0),
        requests=sum(tally["requests"] for tally in tallies),
        failures=failures,
        children=next((child for child in facts["children"] if child["instance"] == name), None),
    )


async def _try(services: Given, config: dict[str, Any]) -> Trial:
    if services.probe is None:
        raise NoAnswer("connections cannot be tested here")
    return Trial.model_validate(await services.probe(config))
