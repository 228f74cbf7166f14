"""`python -m fuzz [--seconds N] [--seed N] [--target NAME]`: exit code 1 as soon as an input breaks something."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import logging
import random
import sys
import time
from typing import NamedTuple

import uvloop

from fuzz import pure
from fuzz.live import drive
from fuzz.mutate import mutated
from tests.hostile import refused
from tests.hostile.talk import PING, post

LIVE = "live"
REQUESTS = [entry.data for entry in refused.ALL] + [refused.SMUGGLED, post(), post() * 3]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: x, close\r\nx: y\r\n\r\n",
    b"HTTP/1.0 404\r\nset-cookie: a=b\r\nset-cookie: c=d\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
]
BODIES = [entry.data.partition(b"\r\n\r\n")[2] for entry in refused.CHUNKS] + [refused.CHUNKED]
STREAMS = [
    b"event: message\nid: 1\ndata: {}\n\n: comment\n\nretry: 5\n\n",
    b"data: a\r\n\r\ndata: b\r\rdata: c\n\r\n",
    b"\xef\xbb\xbfdata: " + b"x" * 5000 + b"\n\n",
]
MESSAGES = [
    PING,
    b'{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"add","arguments":{"a":[1,{"b":"c"}]}}}',
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","clientInfo":{"name":"c"}}}',
    b'{ "jsonrpc" : "2.0" , "method" : "notifications/x" , "params" : { "_meta" : { "progressToken" : 1 } } }',
    b'[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"\\u00e4"}}]',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ä\u017f\u212a","Name":"b"}}'.encode(),
]


class Aim(NamedTuple):
    """A target and what its inputs are made of."""

    run: pure.Target
    corpus: list[bytes]


AIMS = {
    "request": Aim(pure.request, REQUESTS),
    "repeat": Aim(pure.repeat, REQUESTS),
    "response": Aim(pure.response, RESPONSES),
    "chunks": Aim(pure.chunks, BODIES),
    "events": Aim(pure.events, STREAMS),
    "gzip_body": Aim(pure.gzip_body, [gzip.compress(data, mtime=0) for data in (b"", b"a" * 3000, *STREAMS)]),
    "envelope": Aim(pure.envelope, MESSAGES),
    "sealed": Aim(pure.sealed, [b"A" * 100, b"-_" * 60]),
}


def _once(aim: Aim, data: bytes, state: object) -> str:
    """What is wrong with one input; empty if nothing is."""
    chance = random.Random(str(state))
    started = time.perf_counter()
    try:
        aim.run(data, chance)
    except Exception as error:  # the outermost edge of a fuzzer: whatever comes out is a finding
        return f"{type(error).__name__}: {error}"
    took = time.perf_counter() - started
    return f"it took {took:.1f} s" if took > 2.0 else ""


def _report(name: str, data: bytes, seed: str, reason: str) -> None:
    sys.stdout.write(f"\n{name} is broken by {len(data)} bytes (seed {seed}): {reason}\n\n")
    if name == LIVE:
        call = f"assert fuzz.live.again(data, {seed!r}) == ''"
    else:
        call = f"fuzz.pure.{name}(data, random.Random({seed!r}))"
    sys.stdout.write(f"def test_found_by_the_fuzzer() -> None:\n    data = {data!r}\n    {call}\n")


def _pure(name: str, seed: int, seconds: float) -> int:
    """Run one target; inputs tried, or -1 after a failure."""
    aim, chance, count = AIMS[name], random.Random(f"{seed} {name}"), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        count += 1
        data = mutated(chance, aim.corpus)
        if reason := _once(aim, data, f"{seed} {name} {count}"):
            _report(name, data, f"{seed} {name} {count}", reason)
            return -1
    return count


def _live(seed: int, seconds: float) -> int:
    logging.getLogger("moongate").setLevel(logging.ERROR)
    corpus = [*REQUESTS, *(post(message) for message in MESSAGES)]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        count, data, reason = runner.run(drive(f"{seed} {LIVE}", corpus, seconds))
    if data is not None:
        _report(LIVE, data, f"{seed} {LIVE} {count}", reason)
        return -1
    return count


def main() -> int:
    """Half of the time for the targets without I/O, half for the live gateway."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Hostile bytes against the gateway.")
    parser.add_argument("--seconds", type=float, default=120.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs")
    parser.add_argument("--target", choices=[*AIMS, LIVE], help="only this one")
    options = parser.parse_args()
    names = [options.target] if options.target else [*AIMS, LIVE]
    failed = False
    for name in names:
        share = (
            options.seconds / len(names) if options.target else options.seconds / 2 / (1 if name == LIVE else len(AIMS))
        )
        started = time.monotonic()
        count = _live(options.seed, share) if name == LIVE else _pure(name, options.seed, share)
        failed = failed or count < 0
        shown = "FAILED" if count < 0 else f"{count} inputs"
        sys.stdout.write(f"{name:<10} seed {options.seed}: {shown} in {time.monotonic() - started:.1f} s\n")
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
