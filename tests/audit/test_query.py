"""Finding records again in the database: every filter, in pages, in both directions."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from moongate.audit.export import FORMATS
from moongate.audit.filters import Filter, check_filter
from moongate.audit.query import find, one, stream
from moongate.audit.tail import Tail
from tests.audit.trail import NOON, Trail, line, request_id, trail
from tests.databases import Database
from tests.proxy.talk import run

ALL = list(range(12))
LINES: list[dict[str, Any]] = [
    {},
    {"instance": "two", "path": "/mcp/two/v1/stream"},
    {"source": "10.1.2.3"},
    {"source": "2001:db8::7"},
    {"source": "::ffff:10.9.9.9", "tokenHeader": "authorization"},
    {"principal": "bob", "token": "tok_bob", "tokenFingerprint": "0123abcd", "tokenHeader": "x-api-key"},
    {"status": 401, "failure": "unauthenticated", "detail": "an unknown token", "tokenHeader": "authorization"},
    {"status": 502, "failure": "upstream_connect", "detail": "100% of _all_ refused"},
    {"method": "prompts/get", "target": "moonset", "httpMethod": "GET"},
    {"traceId": "a" * 32, "client": "otter/9"},
    {"failure": "tool_error", "target": "sunrise"},
    {"shadow": "would be denied", "code": -32602, "failure": "jsonrpc_error"},
]

CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, ALL),
    ({"since": NOON + 0.009}, [9, 10, 11]),
    ({"until": NOON + 0.002}, [0, 1]),
    ({"since": NOON + 0.003, "until": NOON + 0.005}, [3, 4]),
    ({"instance": "two"}, [1]),
    ({"path": "/mcp/two/v1/stream"}, [1]),
    ({"path": "/mcp/two/*"}, [1]),
    ({"path": "/mcp/two"}, []),
    ({"source": "10.1.2.3"}, [2]),
    ({"source": "10.0.0.0/8"}, [2, 4]),
    ({"source": "10.1.2.0/25"}, [2]),
    ({"source": "::ffff:10.9.9.9"}, [4]),
    ({"source": "10.9.9.9"}, [4]),
    ({"source": "2001:db8::/32"}, [3]),
    ({"source": "2001:0db8:0::7"}, [3]),
    ({"http_method": "get"}, [8]),
    ({"method": "prompts/get"}, [8]),
    ({"method": "prompts/*"}, [8]),
    ({"target": "moonset"}, [8]),
    ({"target": "moon*"}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]),
    ({"user": "bob"}, [5]),
    ({"token": "tok_bob"}, [5]),
    ({"token": "0123ABCD"}, [5]),
    ({"token_header": "authorization"}, [4, 6]),
    ({"token_header": "AUTHORIZATION"}, [4, 6]),
    ({"token_header": "Authorization"}, [4, 6]),
    ({"token_header": "X-API-Key"}, [5]),
    ({"outcome": "ok"}, [0, 1, 2, 3, 4, 5, 8, 9]),
    ({"outcome": "refused"}, [6]),
    ({"outcome": "failed"}, [7, 10, 11]),
    ({"outcome": "tool_error"}, [10]),
    ({"status": 502}, [7]),
    ({"request_id": request_id(3)}, [3]),
    ({"request_id": request_id(3), "user": "nobody"}, []),
    ({"client": "otter/*"}, [9]),
    ({"trace": "A" * 32}, [9]),
    ({"text": "UNKNOWN tok"}, [6]),
    ({"text": "100% of _all_"}, [7]),
    ({"text": "%"}, [7]),
    ({"user": "alice", "outcome": "failed", "target": "moonrise"}, [7, 11]),
    ({"user": "a' OR '1'='1"}, []),
    ({"user": "ali*", "source": "0.0.0.0/0", "instance": "one", "outcome": "ok"}, [0, 2, 4, 8, 9]),
]


@pytest.mark.requirement("PM-47", "PM-53", "PM-54")
def test_every_filter_finds_what_fits(database: Database) -> None:
    """Alone and together, oldest and newest first, and the same however many zones there are."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(line(number, **members) for number, members in enumerate(LINES))
            await found.moved()
            for members, wanted in CASES:
                assert await found.numbers(Filter(**members)) == wanted, members
                assert await found.numbers(Filter(**members), ascending=False) == wanted[::-1], members

    run(story())


def shuffled(count: int, seed: int) -> list[bytes]:
    """Records whose times are near the order in which they are written, as calls end; users and tools in between."""
    dice = random.Random(seed)
    return [
        line(
            number,
            time=NOON + number / 1000 + dice.random() * 2,
            principal=dice.choice(["alice", "bob", "carol"]),
            target="rare" if number % 997 == 5 else "usual",
            source=f"10.0.{number % 7}.{number % 251}",
            path=f"/mcp/{number}",
        )
        for number in range(count)
    ]


async def everything(found: Trail, wanted: Filter, limit: int, *, ascending: bool) -> list[dict[str, Any]]:
    """All pages."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await find(found.store, wanted, limit, cursor, ascending)
        assert len(page.items) <= limit
        items += page.items
        cursor = page.next
        if cursor is None:
            return items


@pytest.mark.requirement("PM-47")
def test_pages_and_streams_have_the_same_order(database: Database) -> None:
    """Over many zones whose times overlap: sorted by time, nothing twice, nothing left out."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(shuffled(6000, 3))
            await found.moved()
            for wanted in (Filter(), Filter(user="bob"), Filter(target="rare"), Filter(source="10.0.3.0/24")):
                up = [record async for record in stream(found.store, wanted, True)]
                down = [record async for record in stream(found.store, wanted)]
                assert up == down[::-1]
                assert [record["time"] for record in up] == sorted(record["time"] for record in up)
                assert len({record["id"] for record in up}) == len(up)
                assert await everything(found, wanted, 700, ascending=True) == up
                assert await everything(found, wanted, 701, ascending=False) == down
            assert len([record async for record in stream(found.store, Filter())]) == 6000
            assert len([record async for record in stream(found.store, Filter(path="/mcp/5*"))]) == 1111
            assert len([record async for record in stream(found.store, Filter(), limit=7)]) == 7

    run(story(), limit=40)


CHOICES: dict[str, list[Any]] = {
    "instance": ["one", "two", "three"],
    "principal": [f"user-{number}" for number in range(30)],
    "target": [f"tool-{number}" for number in range(90)],
    "failure": ["", "", "", "", "", "", "", "denied", "upstream_dns", "tool_error"],
    "status": [200, 403, 502],
    "tokenHeader": ["", "authorization", "x-api-key"],
    "tokenFingerprint": [f"{number:08x}" for number in range(20)],
}
ASKED = {"principal": "user", "failure": "outcome", "tokenHeader": "token_header", "tokenFingerprint": "token"}


@pytest.mark.requirement("PM-47")
def test_any_combination_finds_what_going_through_all_would(tmp_path: Path) -> None:
    """Random records, random filters: what zones and terms leave out would not have fitted."""
    dice = random.Random(5)
    members = [{name: dice.choice(values) for name, values in CHOICES.items()} for _ in range(4000)]

    async def story() -> None:
        async with trail(tmp_path) as found:
            for begin in range(0, 4000, 700):  # in portions, so that zones are filled by several
                found.write(line(begin + at, **one) for at, one in enumerate(members[begin : begin + 700]))
                await found.moved()
            for _ in range(60):
                names = dice.sample(sorted(CHOICES), dice.randrange(1, 4))
                wanted = {name: dice.choice(CHOICES[name]) for name in names}
                asked: dict[str, Any] = {
                    ASKED.get(name, name): value or "ok" for name, value in wanted.items() if value or name == "failure"
                }
                fits = [
                    number
                    for number, one in enumerate(members)
                    if all(one[name] == value for name, value in wanted.items() if value or name == "failure")
                ]
                assert await found.numbers(Filter(**asked)) == fits, asked

    run(story(), limit=40)


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"outcome": "fine"}, "ok, refused, failed"),
        ({"source": "10.1"}, "10.0.0.0/8"),
        ({"since": float("nan")}, "no time"),
        ({"until": 1e300}, "no time"),
        ({"user": "a\0"}, "without NUL"),
        ({"status": 70_000}, "no HTTP status"),
    ],
)
def test_what_cannot_be_asked_is_said_in_words(members: dict[str, Any], word: str) -> None:
    """The error names the filter, and what would be right."""
    with pytest.raises(ValueError, match=word):
        check_filter(Filter(**members))


def test_cursors_of_others_are_refused(database: Database) -> None:
    """Made up, cut, of the other direction; limits have bounds."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(map(line, range(5)))
            await found.moved()
            page = await find(found.store, Filter(), 2)
            assert page.next is not None
            for cursor in ("", "x", page.next[:-3], page.next + "AAAA", "\u00e4"):
                with pytest.raises(ValueError, match="cursor"):
                    await find(found.store, Filter(), 2, cursor)
            with pytest.raises(ValueError, match="other direction"):
                await find(found.store, Filter(), 2, page.next, ascending=True)
            for limit in (0, -1, 1001):
                with pytest.raises(ValueError, match="limit"):
                    await find(found.store, Filter(), limit)

    run(story())


def test_one_request_has_all_its_records(database: Database) -> None:
    """A stream two, an array one for each message."""

    async def story() -> None:
        async with trail(database) as found:
            found.write([line(1, phase="open"), line(2), line(1, phase="close", time=NOON + 9)])
            await found.moved()
            assert [record["phase"] for record in await one(found.store, request_id(1))] == ["open", "close"]
            assert await one(found.store, request_id(7)) == []

    run(story())


def test_a_tail_gives_what_comes_and_counts_what_it_leaves_out(database: Database) -> None:
    """New records that fit, in their order; more than it takes at once are counted."""

    async def story() -> None:
        async with trail(database) as found:
            found.write(map(line, range(5)))
            await found.moved()
            tail = Tail(found.store, Filter(user="alice"), every=0.01, most=50)
            await tail.start()
            found.write([line(5), line(6, principal="bob"), line(7)])
            await found.moved()
            assert [(await anext(tail))["requestId"] for _ in range(2)] == [request_id(5), request_id(7)]
            found.write(map(line, range(8, 108)))
            await found.moved()
            assert (await anext(tail))["requestId"] == request_id(58)
            assert tail.dropped == 50

    run(story())


def test_exports_are_complete_and_harmless(database: Database) -> None:
    """JSON lines are the records; in CSV no cell is a formula, whatever a client called itself."""
    evil = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", 'a"b,c\nd', "\uff1d1"]

    async def story() -> None:
        async with trail(database) as found:
            found.write(line(number, client=text) for number, text in enumerate(evil))
            await found.moved()

            async def written(name: str) -> str:
                pieces = FORMATS[name].write(stream(found.store, Filter(), True))
                return b"".join([piece async for piece in pieces]).decode()

            records = [json.loads(text) for text in (await written("jsonl")).splitlines()]
            assert [record["client"] for record in records] == evil
            rows = list(csv.DictReader((await written("csv")).splitlines(keepends=True)))
            assert [row["client"].removeprefix("'") for row in rows] == evil
            assert all(row["client"][0] not in "=+-@\t\uff1d" for row in rows)
            assert [row["requestId"] for row in rows] == [request_id(number) for number in range(len(evil))]

    run(story())
