"""Where the verbs of `moongate audit` find records: in the store of a data directory, or at a running gateway.

The store is asked directly, not through the REST API: millions of records may be wanted, and there need be no gateway.
What is still in the journal is moved to the store first.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import typer

from moongate.audit.chain import chain_key
from moongate.audit.filters import Filter, check_filter
from moongate.audit.place import AuditPlace, open_place
from moongate.audit.query import stream
from moongate.audit.status import status
from moongate.audit.tail import Tail
from moongate.audit.verify import verify
from moongate.cli.api import PAGE, REFUSED, USAGE, Api, Where, call, path_of
from moongate.cli.flags import usage
from moongate.cli.places import default_data_dir, default_files
from moongate.cli.tables import safe
from moongate.control.compile import CompileOptions
from moongate.control.sealing import Keys
from moongate.control.secrets import VARIABLE
from moongate.control.source import Source
from moongate.errors import ConfigError, MoongateError
from moongate.tasks import Tasks

JOURNAL = "journal"
INGEST_SECONDS = 600.0
_GAP_SECONDS = 10.0
_REMEMBERED = 5000
_AGO = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Trail(Protocol):
    """What the verbs ask."""

    def records(self, wanted: Filter, limit: int, oldest_first: bool) -> AsyncIterator[dict[str, Any]]:
        """The first `limit` (0: all)."""

    def tail(self, wanted: Filter, lines: int) -> AsyncGenerator[dict[str, Any]]:
        """The last `lines`, then new ones for ever."""

    async def verify(self, heads: Sequence[str]) -> dict[str, Any]:
        """What was found; `heads` were kept elsewhere."""

    async def status(self) -> dict[str, Any]:
        """Counts."""


def on_trail(where: Where, work: Callable[[Trail], Awaitable[None]]) -> None:
    """Do the work of a verb; what goes wrong ends the program with a message and its exit code."""
    try:
        if where.server is not None:
            call(where, lambda api: work(_Remote(api)))
        else:
            asyncio.run(_locally(where, work))
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE) from None
    except ValueError as error:  # a head that is none
        print(safe(str(error)), file=sys.stderr)
        raise typer.Exit(USAGE) from None
    except TimeoutError:
        print("the records that are in the journal do not come into the store; is it full?", file=sys.stderr)
        raise typer.Exit(REFUSED) from None
    except (MoongateError, OSError) as error:
        print(safe(str(error)), file=sys.stderr)
        raise typer.Exit(REFUSED) from None
    except KeyboardInterrupt:
        raise typer.Exit from None


async def _locally(where: Where, work: Callable[[Trail], Awaitable[None]]) -> None:
    if where.api_key is not None:
        usage("goes with --server; without it the store is read as it is", "--api-key")
    async with _opened(where) as place:
        await place.ingester.catch_up(INGEST_SECONDS)
        try:
            await work(_Local(place))
        except BrokenPipeError:  # who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@asynccontextmanager
async def _opened(where: Where) -> AsyncIterator[AuditPlace]:
    data_dir = where.data_dir or default_data_dir(os.environ)
    files = tuple(where.file or ()) or default_files()
    url = _store_url(files, data_dir) if files else None
    if url is None and not data_dir.is_dir():
        usage(f"{data_dir} is not there; name the directory that moongate serve was given", "--data-dir")
    if VARIABLE not in os.environ and not (data_dir / "key").exists() and (data_dir / "moongate.db").exists():
        usage(f"{data_dir} has no key; set {VARIABLE} as it is set for the gateway", "--data-dir")
    found = Keys.load(data_dir, os.environ)
    keys = tuple(chain_key(key) for key in (found.current, *found.old))
    async with open_place(url, data_dir, data_dir / JOURNAL, keys) as place:
        yield place


def _store_url(files: tuple[Path, ...], data_dir: Path) -> str | None:
    return Source(files, CompileOptions(), os.environ, data_dir=data_dir).read().platform.store_url


class _Local:
    """The store itself."""

    def __init__(self, place: AuditPlace) -> None:
        self._place = place

    def records(self, wanted: Filter, limit: int, oldest_first: bool) -> AsyncIterator[dict[str, Any]]:
        return stream(self._place.store, wanted, oldest_first, limit)

    async def tail(self, wanted: Filter, lines: int) -> AsyncGenerator[dict[str, Any]]:
        following = Tail(self._place.store, wanted)
        await following.start()
        shown: set[str] = set()
        for record in await _newest(self, wanted, lines):
            shown.add(record["id"])
            yield record
        tasks = Tasks("audit tail")
        tasks.spawn(self._place.ingester.run(), "ingest")
        try:
            async for record in following:
                if record["id"] not in shown:
                    yield record
        finally:
            await tasks.close()

    async def verify(self, heads: Sequence[str]) -> dict[str, Any]:
        found = await verify(self._place.store, self._place.keys, heads)
        return found.json()

    async def status(self) -> dict[str, Any]:
        return await status(self._place.store, self._place.directory)


class _Remote:
    """A running gateway's API."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def records(self, wanted: Filter, limit: int, oldest_first: bool) -> AsyncGenerator[dict[str, Any]]:
        cursor, left = None, limit
        while True:
            size = min(PAGE, left) if limit else PAGE
            query = {**_query(wanted), "ascending": oldest_first, "limit": size, "cursor": cursor}
            page = await self._api.send("GET", "/audit/records", query=query)
            for record in page["items"]:
                yield record
            left -= len(page["items"])
            cursor = page.get("next")
            if cursor is None or (limit and left <= 0):
                return

    async def tail(self, wanted: Filter, lines: int) -> AsyncGenerator[dict[str, Any]]:
        """The gateway's own event stream, which ends now and then; what came in between is asked for."""
        shown: deque[str] = deque(maxlen=_REMEMBERED)
        for record in await _newest(self, wanted, lines):
            shown.append(record["id"])
            yield record
        while True:
            async with aclosing(self._api.lines("/audit/tail", _query(wanted))) as events:
                async for text in events:
                    record = json.loads(text[6:]) if text.startswith("data: ") else {}
                    if "id" in record and record["id"] not in shown:
                        shown.append(record["id"])
                        yield record
            missed = Filter(**{**asdict(wanted), "since": max(time.time() - _GAP_SECONDS, wanted.since or 0)})
            async for record in self.records(missed, 0, True):
                if record["id"] not in shown:
                    shown.append(record["id"])
                    yield record

    async def verify(self, heads: Sequence[str]) -> dict[str, Any]:
        if heads:
            usage("is compared where the key is: without --server", "--head")
        found: dict[str, Any] = await self._api.get(path_of("audit", "verify"))
        return found

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._api.get(path_of("audit", "status"))
        return found


async def _newest(trail: Trail, wanted: Filter, lines: int) -> list[dict[str, Any]]:
    if not lines:
        return []
    found = [record async for record in trail.records(wanted, lines, False)]
    return found[::-1]


def _query(wanted: Filter) -> dict[str, object]:
    """As the API spells it."""
    check_filter(wanted)
    words = {name: name.split("_") for name in asdict(wanted)}
    return {parts[0] + "".join(map(str.title, parts[1:])): getattr(wanted, name) for name, parts in words.items()}


def read_time(text: str | None, option: str) -> float | None:
    """Unix seconds. Exits with 2."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text.strip()):
        return time.time() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        usage(f"{text!r} is no time; write 2027-01-31T12:00:00Z, Unix seconds, or 15m, 2h, 7d ago", option)
    return (found if found.tzinfo is not None else found.astimezone()).timestamp()


def shown_time(value: float) -> str:
    """In the time of this machine, with milliseconds."""
    try:
        moment = datetime.fromtimestamp(value, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return str(value)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
