"""Nothing of the smuggling family is understood: one answer, the end of the connection, a backend that saw nothing."""

from __future__ import annotations

import pytest

from moongate.testing import Backend
from tests.hostile.refused import ALL, CHUNKED, SMUGGLED, TE, Hostile
from tests.hostile.talk import PING, PONG, client, echo, head, post, run, served


def _ids(entry: Hostile) -> str:
    return entry.name.encode("ascii", "backslashreplace").decode()


def test_the_corpus_has_each_entry_once() -> None:
    """No name and no bytes stand twice, so that a table counts what it seems to count."""
    assert len({entry.name for entry in ALL}) == len(ALL)
    assert len({entry.data for entry in ALL}) == len(ALL)


async def _refuse(entries: list[Hostile], *, before: bytes = b"", behind: bytes = b"") -> None:
    async with Backend(echo) as backend, served(backend) as gate:
        for entry in entries:
            backend.seen.clear()
            async with client(gate.port) as peer:
                await peer.send(before + entry.data + behind)
                if before:
                    first = await peer.answer()
                    assert (first.status, first.body) == (200, PONG), entry.name
                answer = await peer.answer("HEAD" if entry.data.startswith(b"HEAD") else "POST")
                assert (entry.name, answer.status) == (entry.name, entry.status)
                assert len(answer.all("x-request-id")) == 1, entry.name
                assert answer.get("connection") == "close", entry.name
                assert await peer.ends(), f"{entry.name}: there was more than one answer"
            assert [seen.body for seen in backend.seen] == [PING] * bool(before), entry.name


@pytest.mark.parametrize("behind", [b"", SMUGGLED], ids=["alone", "with a request behind it"])
def test_malformed_requests_are_refused_and_end_the_connection(behind: bytes) -> None:
    """400, one answer, the end; the backend sees neither the request nor what hides behind it."""
    run(_refuse(ALL, behind=behind))


def test_a_good_request_before_a_malformed_one_is_answered_alone() -> None:
    """The first is answered, the second refused, the third never looked at."""
    run(_refuse(ALL, before=post(), behind=SMUGGLED))


@pytest.mark.parametrize("entry", ALL, ids=_ids)
def test_a_refusal_does_not_depend_on_how_the_bytes_arrive(entry: Hostile) -> None:
    """Cut into two packets anywhere in the head, it is the same refusal."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            for cut in sorted({1, 4, len(entry.data) // 2, entry.data.find(b"\r\n\r\n") + 2, len(entry.data) - 1}):
                async with client(gate.port) as peer:
                    await peer.send(entry.data[: max(1, cut)])
                    await gate_turns(gate.port)
                    await peer.send(entry.data[max(1, cut) :] + SMUGGLED)
                    answer = await peer.answer()
                    assert (cut, answer.status) == (cut, entry.status)
                    assert await peer.ends()
            assert backend.seen == []

    run(work())


async def gate_turns(port: int) -> None:
    """A round trip on another connection: when it is back, the gateway has read what was sent before."""
    async with client(port) as other:
        await other.send(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await other.answer()


def test_empty_lines_before_a_request_are_judged_alike_in_one_packet_and_in_two() -> None:
    """RFC 9112 section 2.2 lets a server skip them; whether it does must not hang on how the bytes arrive."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate:
            statuses = []
            for pieces in ([b"\r\n\r\n" + post()], [b"\r\n", b"\r\n" + post()], [b"\r\n\r", b"\n" + post()]):
                async with client(gate.port) as peer:
                    for piece in pieces:
                        await peer.send(piece)
                        await gate_turns(gate.port)
                    statuses.append((await peer.answer()).status)
            assert statuses in ([200] * 3, [400] * 3)

    run(work())


GOOD = [
    ("chunked", head(TE) + CHUNKED),
    ("chunked, upper case", head(TE.upper()) + CHUNKED),
    ("chunked with blanks around", head(b"transfer-encoding:   chunked  \r\n") + CHUNKED),
    ("chunked in many chunks", head(TE) + b"".join(b"1\r\n%c\r\n" % byte for byte in PING) + b"0\r\n\r\n"),
    ("size in upper case and padded", head(TE) + b"00028\r\n" + PING + b"\r\n000\r\n\r\n"),
    ("chunk extension", head(TE) + b'28;a=b;c="d e"\r\n' + PING + b"\r\n0;x\r\n\r\n"),
    ("chunk extension behind blanks", head(TE) + b"28 \t; a=b\r\n" + PING + b"\r\n0\r\n\r\n"),
    ("trailers", head(TE) + b"28\r\n" + PING + b"\r\n0\r\nx-sum: 1\r\ncontent-length: 0\r\n\r\n"),
    ("length padded", head(b"content-length: 00040\r\n") + PING),
    ("length with blanks around", head(b"content-length: \t40 \t\r\n") + PING),
    ("field without value", post(lines=b"x:\r\n")),
    ("field with bytes beyond ASCII", post(lines=b"x: \xc3\xa4\xff\r\n")),
    ("field with tabs inside", post(lines=b"x: a\tb\r\n")),
    ("empty line before the request", b"\r\n" + post()),
    ("query with odd characters", post(path=b'/mcp/time?a=|[]{}^`"&b=%20')),
    ("port in Host", post().replace(b"127.0.0.1", b"127.0.0.1:8000", 1)),
    ("empty port in Host", post().replace(b"127.0.0.1", b"127.0.0.1:", 1)),
    ("loopback name in Host", post().replace(b"127.0.0.1", b"LocalHost.", 1)),
    ("HTTP/1.0", post(version=b"1.0")),
    ("HTTP/1.0 without Host", post(version=b"1.0").replace(b"host: 127.0.0.1\r\n", b"")),
]


@pytest.mark.parametrize("data", [data for _, data in GOOD], ids=[name for name, _ in GOOD])
def test_unusual_requests_that_are_right_are_carried(data: bytes) -> None:
    """What RFC 9112 allows passes, and the backend gets the same message in plain framing."""

    async def work() -> None:
        async with Backend(echo) as backend, served(backend) as gate, client(gate.port) as peer:
            await peer.send(data)
            answer = await peer.answer()
            assert (answer.status, answer.body) == (200, PONG)
            assert [seen.body for seen in backend.seen] == [PING]
            assert "transfer-encoding" not in backend.seen[0].fields
            assert backend.seen[0].fields["content-length"] == str(len(PING))

    run(work())
