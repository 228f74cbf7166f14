"""`/audit`: the record of every call."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from moongate.audit.export import FORMATS
from moongate.audit.meanings import MEANINGS
from moongate.audit.query import Filter, check_filter, find, one, stream
from moongate.audit.status import status
from moongate.audit.tail import Tail
from moongate.audit.verify import verify
from moongate.console.guard import Reader
from moongate.console.instances import Outcome
from moongate.console.problems import Refused
from moongate.console.queries import MAX_LIMIT, Named, Wanted
from moongate.console.services import Given, Services
from moongate.errors import Complaint, ConfigError, FailureClass
from moongate.store.failing import StoreAway
from moongate.tasks import Tasks

router = APIRouter(tags=["audit"], prefix="/audit")
# What was just recorded is looked for in the journal, too: for at most so long.
FRESH_SECONDS = 2.0
BEAT_SECONDS = 15.0
# A tail is asked for again after that, so that who asks is known again.
TAIL_SECONDS = 600.0
_HELD = 200
_REQUEST_ID = re.compile(r"[0-9a-f]{12,40}", re.ASCII)
MAX_TAILS = 32
_EVENTS = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}


class RecordFilter(BaseModel):
    """All that is given must hold. `instance`, `path`, `method`, `target`, `user`, `client` may end in `*`."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, hide_input_in_errors=True)

    since: Annotated[str | None, Field(max_length=64, description="RFC 3339, or Unix seconds.")] = None
    until: Annotated[str | None, Field(max_length=64, description="The same; excluded.")] = None
    instance: Wanted
    source: Annotated[str | None, Field(max_length=64, description="An address or a network (CIDR).")] = None
    path: Wanted
    http_method: Wanted
    method: Wanted
    target: Wanted
    user: Wanted
    token: Annotated[str | None, Field(max_length=128, description="A token's id or fingerprint.")] = None
    token_header: Annotated[str | None, Field(max_length=64, description="In any case.")] = None
    outcome: Annotated[str | None, Field(max_length=64, description="ok, refused, failed, or a failure class.")] = None
    status: Annotated[int | None, Field(ge=0, le=999)] = None
    request_id: Wanted
    client: Wanted
    trace: Wanted
    text: Wanted

    def filter(self) -> Filter:
        """Raises ConfigError."""
        given = {name: getattr(self, name) for name in RecordFilter.model_fields}
        try:
            found = Filter(**{**given, "since": _seconds("since", self.since), "until": _seconds("until", self.until)})
            check_filter(found)
        except ValueError as error:
            raise _wrong(str(error)) from None
        return found


class RecordQuery(RecordFilter):
    """A page of records."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 100
    cursor: Annotated[str | None, Field(max_length=2000, description="`next` of the page before.")] = None
    ascending: Annotated[bool, Field(description="The oldest first.")] = False


class ExportQuery(RecordFilter):
    """Everything that matches."""

    format: Literal["jsonl", "csv"] = "jsonl"
    ascending: bool = False


class Record(Outcome):
    """One call, refused ones too. Never with a secret."""

    id: str | None = None
    time: float
    failure: str | None = None
    meaning: Annotated[str | None, Field(description="The class of the failure in words; of a single record.")] = None
    advice: str | None = None
    request_id: str


class Records(BaseModel):
    """One page of records. `next` is the cursor of the following one."""

    items: list[Record]
    next: str | None = None


class Report(Outcome):
    """What was found out about the records as a whole."""


@router.get("/records", response_model_exclude_none=True)
async def list_records(services: Given, _: Reader, query: Annotated[RecordQuery, Query()]) -> Records:
    """Records, the latest first; those of the last moments too."""
    wanted = query.filter()
    await _fresh(services)
    try:
        page = await find(services.store, wanted, query.limit, query.cursor, ascending=query.ascending)
    except ValueError as error:
        raise _wrong(str(error)) from None
    return Records(items=[Record.model_validate(item) for item in page.items], next=page.next)


@router.get("/records/{requestId}", response_model_exclude_none=True)
async def get_record(services: Given, _: Reader, requestId: Named) -> Records:  # noqa: N803 - the path's
    """The records of one request: a stream has two, an array one for each message."""
    await _fresh(services)
    found = await one(services.store, requestId) if _REQUEST_ID.fullmatch(requestId) else []
    if not found:
        raise Refused(404, "there is no record of this request (any more)")
    return Records(items=[Record.model_validate(_with_meaning(item)) for item in found], next=None)


@router.get("/tail", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def tail_records(services: Given, _: Reader, query: Annotated[RecordFilter, Query()]) -> StreamingResponse:
    """New records as they come: an event stream, which ends after some minutes and is to be opened again.

    An event `dropped` tells how many matched since the one before and are left out, because they came too fast.
    """
    if services.tails >= MAX_TAILS:
        raise Refused(429, f"{MAX_TAILS} tails are open; try again later", headers={"retry-after": "10"})
    return StreamingResponse(_events(services, Tail(services.store, query.filter())), headers=_EVENTS)


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {}, "text/csv": {}}}},
)
async def export_records(services: Given, _: Reader, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    """Everything that matches, as JSON lines or CSV."""
    wanted = query.filter()
    await _fresh(services)
    media, written = FORMATS[query.format]
    records = stream(services.store, wanted, ascending=query.ascending)
    name = f'attachment; filename="audit.{query.format}"'
    return StreamingResponse(written(records), media_type=media, headers={"content-disposition": name})


@router.get("/verify")
async def verify_records(services: Given, _: Reader) -> Report:
    """Whether records were changed or taken away since they were written."""
    return Report.model_validate((await verify(services.store, services.keys)).json())


@router.get("/status")
async def get_status(services: Given, _: Reader) -> Report:
    """What was recorded, brought into the store, and lost."""
    return Report.model_validate(await status(services.store, services.directory))


def _with_meaning(record: dict[str, Any]) -> dict[str, Any]:
    """With the class of the failure in words, and what to do about it."""
    failure = record.get("failure")
    if failure not in set(FailureClass):
        return record
    meaning = MEANINGS[FailureClass(failure)]
    return {**record, "meaning": meaning.what, "advice": meaning.do}


async def _fresh(services: Services) -> None:
    if services.backing.ingester is not None:
        with suppress(TimeoutError, OSError):
            await services.backing.ingester.catch_up(FRESH_SECONDS)


async def _events(services: Services, tail: Tail) -> AsyncGenerator[bytes]:
    waiting: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_HELD)
    tasks = Tasks("audit tail")
    tasks.spawn(_pump(tail, waiting), "read")
    loop = asyncio.get_running_loop()
    until = loop.time() + TAIL_SECONDS
    services.tails += 1
    told = 0
    try:
        yield b": records as they come\n\n"
        while (now := loop.time()) < until:
            try:
                async with asyncio.timeout(min(BEAT_SECONDS, until - now)):
                    record = await waiting.get()
            except TimeoutError:
                yield b": \n\n"
                continue
            if record is None:
                return
            if tail.dropped > told:
                yield b'event: dropped\ndata: {"count": %d}\n\n' % (tail.dropped - told)
                told = tail.dropped
            yield b"event: record\ndata: " + json.dumps(record, ensure_ascii=False).encode() + b"\n\n"
    finally:
        services.tails -= 1
        await tasks.close()


async def _pump(tail: Tail, waiting: asyncio.Queue[dict[str, Any] | None]) -> None:
    with suppress(StoreAway):  # who listens asks again
        async for record in tail:
            await waiting.put(record)
    await waiting.put(None)


def _seconds(name: str, text: str | None) -> float | None:
    """Raises ValueError."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: a time is written 2027-01-31T12:00:00Z, or as Unix seconds") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)).timestamp()


def _wrong(text: str) -> ConfigError:
    where, _, rest = text.partition(": ")
    return ConfigError((Complaint(where if rest else "query", rest or text),))
