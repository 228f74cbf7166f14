"""`moongate audit`: the record of every call."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from moongate.audit.export import FORMATS
from moongate.audit.filters import OUTCOMES, Filter, check_filter
from moongate.audit.meanings import MEANINGS
from moongate.cli.api import REFUSED, Where
from moongate.cli.flags import takes, usage, verbs
from moongate.cli.tables import Column, Row, console, done, safe, show_pairs, show_rows
from moongate.cli.trails import Trail, on_trail, read_time, shown_time

app = verbs("The record of every call: find, follow, export, verify.")

LIMIT = 50
OF_ONE_REQUEST = 200
_MEANINGS = {failure.value: meaning for failure, meaning in MEANINGS.items()}
_MEMBERS = (
    *(("request", "requestId"), ("trace", "traceId"), ("source", "source"), ("user", "principal"), ("token", "token")),
    *(("fingerprint", "tokenFingerprint"), ("in header", "tokenHeader"), ("instance", "instance")),
    *(("http method", "httpMethod"), ("path", "path"), ("method", "method"), ("target", "target")),
    *(("arguments", "arguments"), ("arguments digest", "argumentsDigest"), ("revision", "revision")),
    *(("client", "client"), ("status", "status"), ("code", "code"), ("failure", "failure"), ("detail", "detail")),
    *(("would be denied", "shadow"), ("phase", "phase"), ("bytes in", "bytesIn"), ("bytes out", "bytesOut")),
)


def _outcome(row: Row) -> str:
    return str(row.get("failure") or "ok")


COLUMNS = (
    Column("time", lambda row: shown_time(row["time"]), needed=True),
    Column("user", lambda row: row["principal"], needed=True),
    Column("instance", lambda row: row["instance"], needed=True),
    Column("call", lambda row: " ".join(part for part in (row["method"], row["target"]) if part) or row["httpMethod"]),
    Column("status", lambda row: row["status"], needed=True),
    Column("outcome", _outcome, needed=True),
    Column("ms", lambda row: f"{row['duration']:.1f}"),
    Column("source", lambda row: row["source"]),
    Column("request", lambda row: row["requestId"]),
)


@dataclass(frozen=True, kw_only=True)
class FilterFlags(Where):
    """Which records. All that is given must hold."""

    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="2027-01-31T12:00:00Z, Unix seconds, or 15m, 2h, 7d ago.")
    ] = None
    until: Annotated[str | None, typer.Option(metavar="TIME", help="The same; excluded.")] = None
    instance: Annotated[str | None, typer.Option(help="This and the other names may end in *.")] = None
    source: Annotated[str | None, typer.Option(metavar="ADDRESS", help="An address, or a network: 10.0.0.0/8.")] = None
    path: Annotated[str | None, typer.Option(help="/mcp/time/v1/stream, or /mcp/time/*.")] = None
    http_method: Annotated[str | None, typer.Option(help="POST, GET, DELETE.")] = None
    method: Annotated[str | None, typer.Option(help="Of JSON-RPC: tools/call, tools/*.")] = None
    target: Annotated[str | None, typer.Option("--target", "--tool", help="Tool, prompt or resource.")] = None
    user: Annotated[str | None, typer.Option(help="Who called.")] = None
    token: Annotated[str | None, typer.Option(help="A token's id, or its fingerprint (8 digits).")] = None
    token_header: Annotated[str | None, typer.Option(help="The header it came in, in any case.")] = None
    outcome: Annotated[str | None, typer.Option(help=f"{', '.join(OUTCOMES[:3])}, or a class of failure.")] = None
    status: Annotated[int | None, typer.Option(help="The HTTP status.")] = None
    request_id: Annotated[str | None, typer.Option(help="What X-Request-Id said.")] = None
    client: Annotated[str | None, typer.Option(help="Name/version, or name/*.")] = None
    trace: Annotated[str | None, typer.Option(help="A trace id (W3C).")] = None
    text: Annotated[str | None, typer.Option(help="Stands somewhere in path, target, client, user or detail.")] = None

    def filter(self) -> Filter:
        """Exits with 2 for what cannot be."""
        names = ("instance", "source", "path", "http_method", "method", "target", "user", "token", "token_header")
        rest = ("outcome", "status", "request_id", "client", "trace", "text")
        given = {name: getattr(self, name) for name in (*names, *rest)}
        found = Filter(since=read_time(self.since, "--since"), until=read_time(self.until, "--until"), **given)
        try:
            check_filter(found)
        except ValueError as error:
            name, _, text = str(error).partition(": ")
            usage(text, f"--{name.replace('_', '-')}")
        return found


@dataclass(frozen=True, kw_only=True)
class ListFlags(FilterFlags):
    """How many, in which order."""

    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")] = LIMIT
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Instead of the newest.")] = False


@dataclass(frozen=True, kw_only=True)
class ShowFlags(Where):
    """One request."""

    request_id: Annotated[str, typer.Argument(metavar="REQUEST-ID", show_default=False)]


@dataclass(frozen=True, kw_only=True)
class TailFlags(FilterFlags):
    """What has just been."""

    lines: Annotated[int, typer.Option("-n", "--lines", min=0, max=1000, help="Show so many old ones first.")] = 10


@dataclass(frozen=True, kw_only=True)
class ExportFlags(FilterFlags):
    """Where to, and how."""

    format: Annotated[str, typer.Option(help=f"{', '.join(FORMATS)}.")] = "jsonl"
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of standard output.")
    ] = None
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Instead of the newest.")] = False


@dataclass(frozen=True, kw_only=True)
class VerifyFlags(Where):
    """What it is held against."""

    head: Annotated[
        list[str] | None,
        typer.Option(metavar="JOURNAL:RECORDS:HASH", help="A head that was kept elsewhere; may be repeated."),
    ] = None


@app.command("list")
@takes(ListFlags)
def list_records(context: typer.Context, flags: ListFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show records, the newest first."""
    wanted = flags.filter()

    async def work(trail: Trail) -> None:
        records = trail.records(wanted, flags.limit, flags.oldest_first)
        if flags.as_json:
            await _print(records)
        else:
            show_rows([record async for record in records], COLUMNS, "There is no such record.")

    on_trail(flags, work)


@app.command()
@takes(ShowFlags)
def show(context: typer.Context, flags: ShowFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show all that is recorded of one request."""

    async def work(trail: Trail) -> None:
        records = trail.records(Filter(request_id=flags.request_id), OF_ONE_REQUEST, True)
        found = [record async for record in records]
        if not found:
            print(f"there is no record of the request {safe(flags.request_id)} (any more)", file=sys.stderr)
            raise typer.Exit(REFUSED)
        for number, record in enumerate(found):
            if flags.as_json:
                print(json.dumps(record))
                continue
            if number:
                print()
            times = (("time", shown_time(record["time"])), ("duration", f"{record['duration']:.3f} ms"))
            show_pairs((*times, *((title, record.get(name)) for title, name in _MEMBERS), *_words(record)))

    on_trail(flags, work)


@app.command()
@takes(TailFlags)
def tail(context: typer.Context, flags: TailFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show records as they come, until Ctrl-C."""
    wanted = flags.filter()

    async def work(trail: Trail) -> None:
        async with aclosing(trail.tail(wanted, flags.lines)) as records:
            async for record in records:
                if flags.as_json:
                    print(json.dumps(record), flush=True)
                else:
                    console().print("  ".join(safe(str(column.value(record))) for column in COLUMNS))

    on_trail(flags, work)


@app.command()
@takes(ExportFlags)
def export(context: typer.Context, flags: ExportFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Write records as JSON lines or CSV."""
    if flags.format not in FORMATS:
        usage(f"{flags.format!r} is not one of {', '.join(FORMATS)}", "--format")
    wanted = flags.filter()

    async def work(trail: Trail) -> None:
        pieces = FORMATS[flags.format].write(trail.records(wanted, 0, flags.oldest_first))
        if flags.output is None:
            async for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        try:
            with flags.output.open("xb") as file:
                flags.output.chmod(0o600)
                async for piece in pieces:
                    file.write(piece)
        except FileExistsError:
            usage(f"{flags.output} is there already; choose another name", "--output")
        except OSError as error:
            usage(f"{flags.output} cannot be written: {error.strerror}", "--output")
        done(f"written to {flags.output}")

    on_trail(flags, work)


@app.command()
@takes(VerifyFlags)
def verify(context: typer.Context, flags: VerifyFlags) -> None:  # noqa: ARG001 - what `takes` hands over
    """Check that no record was changed, removed, inserted or moved. Exit code 1 if one was.

    It prints the heads of the chains: whoever keeps them elsewhere finds out later if the end of a chain is missing.
    """

    async def work(trail: Trail) -> None:
        found = await trail.verify(tuple(flags.head or ()))
        if flags.as_json:
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            _show_verified(found)
        if not found["ok"]:
            raise typer.Exit(REFUSED)

    on_trail(flags, work)


@app.command()
@takes(Where)
def status(context: typer.Context, flags: Where) -> None:  # noqa: ARG001 - what `takes` hands over
    """Show how many records there are, and whether any were lost."""

    async def work(trail: Trail) -> None:
        found = await trail.status()
        if flags.as_json:
            print(json.dumps(found, indent=2, ensure_ascii=False))
            return
        oldest, newest = found["oldest"], found["newest"]
        span = "" if oldest is None else f"{shown_time(oldest)} to {shown_time(newest)}"
        show_pairs((("records", found["records"]), ("time", span), ("waiting bytes", found["waitingBytes"])))
        journals = (
            ("ingested", "ingested"),
            ("removed", "removed"),
            ("lost", "lost"),
            ("damaged", "damaged"),
            ("missing segments", "missingSegments"),
        )
        for journal in found["journals"]:
            print()
            title = "journal (here)" if journal["here"] else "journal"
            show_pairs(((title, journal["journal"]), *((name, str(journal[key])) for name, key in journals)))

    on_trail(flags, work)


def _words(record: Row) -> tuple[tuple[str, str], ...]:
    """What its class of failure means, and what to do about it."""
    meaning = _MEANINGS.get(str(record.get("failure")))
    return () if meaning is None else (("that is", meaning.what), ("advice", meaning.do))


async def _print(records: AsyncIterator[dict[str, Any]]) -> None:
    async for record in records:
        print(json.dumps(record))


def _show_verified(found: dict[str, Any]) -> None:
    for finding in found["findings"]:
        where = f"journal {finding['journal']}, {finding['day']}, record {finding['record']}"
        print(f"{safe(where)}: {safe(finding['text'])}", file=sys.stderr)
    counts = f"{found['records']} records of {found['days']} days; {found['removed']} were removed by retention"
    print(f"{'Nothing is wrong' if found['ok'] else 'NOT what was recorded'}: {counts}.")
    for head in found["heads"]:
        print(f"head {safe(head['journal'])}:{head['records']}:{head['hash']}")
