"""`/settings`, `/revisions`, `/import`, `/export` and `/explain`: the gateway as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from moongate.console.guard import Admin, Reader, Writer
from moongate.console.instances import Outcome
from moongate.console.queries import Expected, PageQuery, Wanted, tagged
from moongate.console.services import Given, OnPlatform, Services
from moongate.control.platform import api_keys, operators
from moongate.control.platform.shapes import Exported, Instance, Page, Revision, Settings, SettingsPut
from moongate.control.schema.values import Strict

router = APIRouter(tags=["gateway"])
# What only admins see of the history.
PRIVATE_KINDS = (operators.KIND, api_keys.KIND)


class RevisionQuery(PageQuery):
    """Of one kind of thing, or of one thing."""

    kind: Wanted
    name: Wanted


class Import(Strict):
    """A document as files have it: `mcpServers`, `gateway.access`."""

    document: dict[str, Any]


class Question(Strict):
    """A request to be explained; it is not sent anywhere."""

    method: Annotated[str, Field(pattern=r"^[A-Z]{1,20}$")] = "POST"
    url: Annotated[str, Field(min_length=1, max_length=4096, description="An address, or a path such as /mcp/time.")]
    host: Annotated[str | None, Field(max_length=512, description="What Host says. Without it: the host of `url`.")] = (
        None
    )
    headers: Annotated[dict[str, str], Field(max_length=100, default_factory=dict)]
    source: Annotated[str, Field(max_length=100, description="Where it comes from.")] = "127.0.0.1"
    message: Annotated[str | None, Field(max_length=1024 * 1024, description="The body of a POST.")] = None


class Explanation(Outcome):
    """What becomes of it, rule by rule, and which setting would change that."""

    request: str
    outcome: str
    fine: bool
    status: int | None
    failure: str | None
    route: str | None
    steps: list[dict[str, Any]]


@router.get("/settings")
async def get_settings(platform: OnPlatform, _: Reader, response: Response) -> Settings:
    """Settings that are made here."""
    found = await platform.settings.get()
    tagged(response, found.revision)
    return found


@router.put("/settings")
async def put_settings(platform: OnPlatform, actor: Admin, put: SettingsPut, expected: Expected) -> Settings:
    """Replace them."""
    return await platform.settings.put(put, actor, expected)


@router.get("/revisions")
async def list_revisions(
    platform: OnPlatform, actor: Reader, query: Annotated[RevisionQuery, Query()]
) -> Page[Revision]:
    """Who changed what and when, the latest first. Only admins see operators and API keys: others get shorter pages."""
    found = await platform.revisions.list(**query.model_dump())
    if actor.role == "admin":
        return found
    return Page[Revision](items=[item for item in found.items if item.kind not in PRIVATE_KINDS], next=found.next)


@router.post("/import", status_code=201)
async def import_document(platform: OnPlatform, actor: Writer, new: Import) -> Page[Instance]:
    """Take over the instances of a document and its gateway-wide rules, all or nothing."""
    return Page[Instance](items=await platform.import_document(new.document, actor))


@router.get("/export")
async def export_document(
    platform: OnPlatform, _: Admin, secrets: Literal["masked", "references"] = "references"
) -> Exported:
    """All instances as a document, without secrets: masks or names of variables stand in their places."""
    return await platform.export(secrets)


@router.post("/explain")
async def explain(services: Given, _: Reader, question: Question) -> Explanation:
    """What would become of a request, and why."""
    return await explained(services, question)


async def explained(services: Services, question: Question, more: Sequence[tuple[str, str]] = ()) -> Explanation:
    """The same, with `more` headers, of which one may stand there twice. Raises ConfigError, NoAnswer."""
    asked = {**question.model_dump(), "headers": [*question.headers.items(), *more]}
    return Explanation.model_validate(await services.live.explain(asked))
