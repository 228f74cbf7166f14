"""Targets without I/O. Each takes one input and the generator, and raises Broken when something does not hold."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

from fuzz.mutate import mutated, pieces
from moongate.errors import Refusal
from moongate.protocol.jsonrpc import Envelope, parse
from moongate.protocol.sealed import NotOurs, Sealer
from moongate.wire.bodies import ChunkedBody
from moongate.wire.codings import PIECE, Inflate
from moongate.wire.events import Splitter, parse_event
from moongate.wire.messages import (
    Head,
    MalformedMessage,
    RequestHead,
    RequestHeads,
    find_head_end,
    parse_request,
    parse_response,
)

MAX_HEAD = 32 * 1024
MAX_FIELDS = 100
_CONTROLS = frozenset(range(32)) - {9} | {127}


class Broken(Exception):
    """Something that must hold for every input does not hold for this one."""


def hold(holds: bool, what: str) -> None:
    """Raise Broken unless it does."""
    if not holds:
        raise Broken(what)


def _head(data: bytes, chance: random.Random, read: Callable[[bytes], Head]) -> None:
    def verdict(parts: list[bytes]) -> tuple[int, bytes] | int:
        buffer = b""
        try:
            for part in parts:
                buffer += part
                if end := find_head_end(buffer, MAX_HEAD):
                    return end, buffer[:end]
        except MalformedMessage as error:
            return error.status
        return 0

    whole = verdict([data])
    cut = verdict(pieces(chance, data))
    if not isinstance(whole, tuple) or not isinstance(cut, tuple):
        return  # a bad head may be refused sooner in pieces
    hold(whole == cut, "the end of a head depends on how it arrives")
    try:
        head = read(whole[1])
    except MalformedMessage as error:
        hold(error.status in (400, 417, 431), f"status {error.status}")
        return
    for name, value in head.items():
        hold(name == name.lower() and bool(name) and b":" not in name, f"name {name!r}")
        hold(not _CONTROLS & set(name + value), f"control character in {name!r}: {value!r}")
    hold(whole[1].count(b"\r\n") == whole[1].count(b"\n") == whole[1].count(b"\r"), "a bare line end was taken")


def request(data: bytes, chance: random.Random) -> None:
    """A request head is refused or read, and what is read is unambiguous."""

    def read(raw: bytes) -> Head:
        head = parse_request(raw, MAX_FIELDS)
        names = [name for name, _ in head.items()]
        for name in (b"host", b"content-length", b"transfer-encoding"):
            hold(names.count(name) <= 1, f"{name!r} twice")
        hold(not (head.chunked and head.length), "both lengths")
        hold(head.chunked == (b"transfer-encoding" in names), "a coding that was not seen")
        hold(head.target == b"*" or head.target.startswith(b"/"), f"target {head.target!r}")
        hold(raw.split(b" ", 2)[1] == head.target, "another target than the one in the request line")
        hold(head.target.isascii() and head.target.decode().isprintable(), f"target {head.target!r}")
        return head

    _head(data, chance, read)


def response(data: bytes, chance: random.Random) -> None:
    """The same for a backend's head; and nothing of it can become two lines."""

    def read(raw: bytes) -> Head:
        head = parse_response(raw, MAX_FIELDS)
        hold(100 <= head.status <= 999, f"status {head.status}")
        hold(not (head.chunked and head.length is not None), "both lengths")
        return head

    _head(data, chance, read)


_LENGTH = re.compile(rb"(content-length: ?)[0-9]+", re.IGNORECASE)


def repeat(data: bytes, chance: random.Random) -> None:
    """A remembered head says the same as one that is parsed anew, also when only its length has changed."""
    end = data.find(b"\r\n\r\n") + 4
    heads = RequestHeads(MAX_FIELDS, 16)
    try:
        heads.keep(data[:end], heads.parse(data[:end]))
    except MalformedMessage:
        return
    other = b"%d" % chance.choice((0, 1, 12345, 10**17))
    candidates = [data, _LENGTH.sub(rb"\g<1>" + other, data), mutated(chance, [data]), mutated(chance, [data[:end]])]
    for candidate in candidates:
        raw = candidate[: candidate.find(b"\r\n\r\n") + 4]
        hold(_told(heads.parse, raw) == _told(lambda one: parse_request(one, MAX_FIELDS), raw), "another head")


def _told(parse: Callable[[bytes], RequestHead], raw: bytes) -> object:
    try:
        head = parse(raw)
    except MalformedMessage as error:
        return error.status
    framing = (head.minor, head.chunked, head.keep_alive, head.length)
    return head.method, head.target, framing, [item for item in head.items() if item[0] != b"content-length"]


def chunks(data: bytes, chance: random.Random) -> None:
    """A chunked body means the same however it arrives, and no byte is lost or made up."""

    def outcome(parts: list[bytes]) -> tuple[bytes, bytes, bool] | None:
        body, payload = ChunkedBody(), b""
        for at, part in enumerate(parts):
            try:
                payload += body.feed(part)
            except MalformedMessage:
                return None
            if body.done:
                return payload, body.rest + b"".join(parts[at + 1 :]), True
        return payload, b"", False

    whole = outcome([data])
    hold(whole == outcome(pieces(chance, data)), "a chunked body depends on how it arrives")
    if whole is not None:
        hold(len(whole[0]) + len(whole[1]) <= len(data), "more payload than bytes")
        hold(data.endswith(whole[1]), "the rest is not the end of the input")


def events(data: bytes, chance: random.Random) -> None:
    """Not a byte of an event stream is lost, moved or held beyond the limit."""
    most = chance.choice((1, 16, 1000, 65536))
    splitter, out = Splitter(most), []
    for part in pieces(chance, data):
        for block in splitter.feed(part):
            out.append(block)
            parse_event(block)
        out.append(splitter.overflow())
        hold(splitter.held <= most + 3, "more is held than may be")
    hold(b"".join(out) + splitter.rest() == data, "the stream was changed")


def gzip_body(data: bytes, chance: random.Random) -> None:
    """Compressed bytes are undone in bounded pieces, the same however they arrive, or refused."""

    def outcome(parts: list[bytes]) -> bytes | None:
        coding, plain = Inflate(), b""
        try:
            for part in parts:
                for piece in coding.decode(part):
                    hold(0 < len(piece) <= PIECE, "a piece beyond the limit")
                    plain += piece
        except MalformedMessage:
            return None
        return plain

    hold(outcome([data]) == outcome(pieces(chance, data)), "a compressed body depends on how it arrives")


def envelope(data: bytes, _: random.Random) -> None:
    """A message is refused, or every reader reads it as we do."""
    try:
        message = parse(data, 64)
    except Refusal as refusal:
        hold(refusal.code in (-32700, -32600), f"code {refusal.code}")
        return
    found = json.loads(data)
    for read, plain in zip(message, found, strict=True) if isinstance(message, list) else [(message, found)]:
        _agree(read, plain)


def _agree(read: Envelope, plain: dict[str, object]) -> None:
    hold(plain["jsonrpc"] == "2.0", "another version")
    hold(plain.get("method", "") == read.method, "another method")
    hold(("id" in plain) == (read.id is not None), "an id that is not there, or is")
    if read.id is not None:
        hold(json.loads(read.id) == plain["id"], "another id")
    params = plain.get("params")
    if isinstance(params, dict) and read.target is not None:
        hold(read.target in (params.get("name"), params.get("uri"), params.get("taskId")), "another target")
    folds = [key.casefold() for key in plain]
    hold(len(folds) == len(set(folds)), "two keys that differ in case")


def sealed(data: bytes, _: random.Random) -> None:
    """What this key did not seal is never opened."""
    try:
        Sealer(bytes(32)).open(data)
    except NotOurs:
        return
    raise Broken("a forged session id was opened")


Target = Callable[[bytes, random.Random], None]
