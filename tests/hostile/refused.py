"""The corpus: requests that must never be understood, by what is wrong with them.

An entry is (name, bytes, status). Each is followed by `SMUGGLED` when it is sent: a second request that a lenient
reader would find behind it, or in it.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.hostile.talk import PING, head, post


class Hostile(NamedTuple):
    """`name` says what is wrong; `status` is the only right answer."""

    name: str
    data: bytes
    status: int = 400


SMUGGLED = post(b'{"jsonrpc":"2.0","id":666,"method":"smuggled"}')
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING)
SIZE = b"content-length: %d\r\n" % len(PING)
TE = b"transfer-encoding: chunked\r\n"


def _framed(lines: bytes, body: bytes = PING) -> bytes:
    return head(lines) + body


def _line(line: bytes) -> bytes:
    return post(lines=line)


LENGTHS = [
    Hostile("both lengths, sized first", _framed(SIZE + TE)),
    Hostile("both lengths, chunked first", _framed(TE + SIZE, CHUNKED)),
    Hostile("both lengths, length zero", _framed(b"content-length: 0\r\n" + TE, CHUNKED)),
    Hostile("both lengths, chunked body", _framed(SIZE + TE, CHUNKED)),
    Hostile("two lengths, the same", _framed(SIZE + SIZE)),
    Hostile("two lengths, different", _framed(SIZE + b"content-length: 0\r\n")),
    Hostile("two lengths, different order", _framed(b"content-length: 0\r\n" + SIZE)),
    Hostile("two lengths, different case", _framed(SIZE + SIZE.upper())),
    Hostile("two lengths with a field between", _framed(SIZE + b"x: y\r\n" + SIZE)),
    Hostile("length list, the same", _framed(b"content-length: %d, %d\r\n" % (len(PING), len(PING)))),
    Hostile("length list, different", _framed(b"content-length: 0, %d\r\n" % len(PING))),
    Hostile("length empty", _framed(b"content-length:\r\n")),
    Hostile("length blank", _framed(b"content-length:  \t \r\n")),
    Hostile("length signed plus", _framed(b"content-length: +%d\r\n" % len(PING))),
    Hostile("length signed minus", _framed(b"content-length: -1\r\n")),
    Hostile("length minus zero", _framed(b"content-length: -0\r\n")),
    Hostile("length hexadecimal", _framed(b"content-length: 0x28\r\n")),
    Hostile("length with underscore", _framed(b"content-length: 4_0\r\n")),
    Hostile("length with letter", _framed(b"content-length: 40a\r\n")),
    Hostile("length with fraction", _framed(b"content-length: 40.0\r\n")),
    Hostile("length with exponent", _framed(b"content-length: 4e1\r\n")),
    Hostile("length with inner space", _framed(b"content-length: 4 0\r\n")),
    Hostile("length with semicolon", _framed(b"content-length: 40;\r\n")),
    Hostile("length quoted", _framed(b'content-length: "40"\r\n')),
    Hostile("length in Arabic digits", _framed("content-length: ٤٠\r\n".encode())),
    Hostile("length overflows 32 bits twice", _framed(b"content-length: 18446744073709551656\r\n")),
    Hostile("length overflows 64 bits by one", _framed(b"content-length: 18446744073709551616\r\n")),
    Hostile("length of a hundred digits", _framed(b"content-length: " + b"9" * 100 + b"\r\n")),
    Hostile("length with vertical tab", _framed(b"content-length: 40\x0b\r\n")),
    Hostile("length with form feed", _framed(b"content-length:\x0c40\r\n")),
    Hostile("length with NUL", _framed(b"content-length: 40\0\r\n")),
    Hostile("length with no-break space", _framed(b"content-length:\xa040\r\n")),
]

CODINGS = [
    Hostile("xchunked", _framed(b"transfer-encoding: xchunked\r\n", CHUNKED)),
    Hostile("chunkedx", _framed(b"transfer-encoding: chunkedx\r\n", CHUNKED)),
    Hostile("chunked, gzip", _framed(b"transfer-encoding: chunked, gzip\r\n", CHUNKED)),
    Hostile("gzip, chunked", _framed(b"transfer-encoding: gzip, chunked\r\n", CHUNKED)),
    Hostile("chunked, chunked", _framed(b"transfer-encoding: chunked, chunked\r\n", CHUNKED)),
    Hostile("chunked, identity", _framed(b"transfer-encoding: chunked, identity\r\n", CHUNKED)),
    Hostile("identity", _framed(b"transfer-encoding: identity\r\n")),
    Hostile("identity with a length", _framed(SIZE + b"transfer-encoding: identity\r\n")),
    Hostile("unknown coding with a length", _framed(SIZE + b"transfer-encoding: cow\r\n")),
    Hostile("empty coding", _framed(b"transfer-encoding:\r\n", CHUNKED)),
    Hostile("empty coding with a length", _framed(SIZE + b"transfer-encoding:\r\n")),
    Hostile("trailing comma", _framed(b"transfer-encoding: chunked,\r\n", CHUNKED)),
    Hostile("leading comma", _framed(b"transfer-encoding: ,chunked\r\n", CHUNKED)),
    Hostile("coding with a parameter", _framed(b"transfer-encoding: chunked;q=1\r\n", CHUNKED)),
    Hostile("coding in quotes", _framed(b'transfer-encoding: "chunked"\r\n', CHUNKED)),
    Hostile("coding on HTTP/1.0", head(TE, version=b"1.0") + CHUNKED),
    Hostile("coding on HTTP/1.0, kept alive", head(TE + b"connection: keep-alive\r\n", version=b"1.0") + CHUNKED),
    Hostile("coding twice, the same", _framed(TE + TE, CHUNKED)),
    Hostile("coding twice, second unknown", _framed(TE + b"transfer-encoding: x\r\n", CHUNKED)),
    Hostile("coding twice, first unknown", _framed(b"transfer-encoding: x\r\n" + TE, CHUNKED)),
    Hostile("coding folded", _framed(b"transfer-encoding:\r\n chunked\r\n", CHUNKED)),
    Hostile("coding folded with tab", _framed(b"transfer-encoding:\r\n\tchunked\r\n", CHUNKED)),
    Hostile("coding behind a fold of another field", _framed(b"x: y\r\n transfer-encoding: chunked\r\n", CHUNKED)),
    Hostile("coding with space before the colon", _framed(SIZE + b"transfer-encoding : chunked\r\n")),
    Hostile("coding with tab before the colon", _framed(SIZE + b"transfer-encoding\t: chunked\r\n")),
    Hostile("coding with leading space", _framed(SIZE + b" transfer-encoding: chunked\r\n")),
    Hostile("coding with vertical tab", _framed(b"transfer-encoding:\x0bchunked\r\n", CHUNKED)),
    Hostile("coding with trailing vertical tab", _framed(b"transfer-encoding: chunked\x0b\r\n", CHUNKED)),
    Hostile("coding with NUL", _framed(b"transfer-encoding: chunked\0\r\n", CHUNKED)),
    Hostile("coding with a bare CR before it", _framed(SIZE + b"x: y\rtransfer-encoding: chunked\r\n")),
    Hostile("coding with a bare LF before it", _framed(SIZE + b"x: y\ntransfer-encoding: chunked\r\n")),
    Hostile("coding ended by a bare LF", _framed(b"transfer-encoding: chunked\n", CHUNKED)),
    Hostile("coding ended by CR CR LF", _framed(b"transfer-encoding: chunked\r\r\n", CHUNKED)),
    Hostile("coding in full-width letters", _framed("transfer-encoding: \uff43hunked\r\n".encode(), CHUNKED)),
    Hostile("coding with a Kelvin sign", _framed("transfer-encoding: chun\u212aed\r\n".encode(), CHUNKED)),
]


def _chunks(data: bytes) -> bytes:
    return head(TE) + data


_CHUNK = b"28\r\n" + PING + b"\r\n"
CHUNKS = [
    Hostile("size with 0x", _chunks(b"0x28\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size with plus", _chunks(b"+28\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size with minus", _chunks(b"-1\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size minus zero", _chunks(_CHUNK + b"-0\r\n\r\n")),
    Hostile("size with leading space", _chunks(b" 28\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size with trailing space", _chunks(b"28 \r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size with trailing tab", _chunks(b"28\t\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size with underscore", _chunks(b"2_8\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size empty", _chunks(b"\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size is only an extension", _chunks(b";x\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size not hexadecimal", _chunks(b"zz\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size in full-width digits", _chunks("\uff12\uff18\r\n".encode() + PING + b"\r\n0\r\n\r\n")),
    Hostile("size wraps 64 bits", _chunks(b"10000000000000028\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size of 64 bits", _chunks(b"ffffffffffffffff\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size padded beyond reason", _chunks(b"0" * 40 + b"28\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size with NUL", _chunks(b"28\0\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size ended by a bare LF", _chunks(b"28\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size ended by a bare CR", _chunks(b"28\r" + PING + b"\r\n0\r\n\r\n")),
    Hostile("size ended by CR CR LF", _chunks(b"28\r\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("data longer than its size", _chunks(b"27\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("data ended by a bare LF", _chunks(b"28\r\n" + PING + b"\n0\r\n\r\n")),
    Hostile("data ended by a bare CR", _chunks(b"28\r\n" + PING + b"\r0\r\n\r\n")),
    Hostile("data without line end", _chunks(b"28\r\n" + PING + b"0\r\n\r\n")),
    Hostile("data with two bytes instead of the line end", _chunks(b"28\r\n" + PING + b"XX0\r\n\r\n")),
    Hostile("extension with NUL", _chunks(b"28;a=\0\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("extension with a bare LF", _chunks(b"28;a\nb\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("extension with a bare CR", _chunks(b"28;a\rb\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("extension without semicolon", _chunks(b"28 a=b\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("extension that does not end", _chunks(b"28;" + b"a" * 70_000)),
    Hostile("extension of 5,000 bytes", _chunks(b"28;" + b"a" * 5_000 + b"\r\n" + PING + b"\r\n0\r\n\r\n")),
    Hostile("last chunk ended by a bare LF", _chunks(_CHUNK + b"0\n\n")),
    Hostile("trailers ended by a bare LF", _chunks(_CHUNK + b"0\r\n\n")),
    Hostile("trailer without colon", _chunks(_CHUNK + b"0\r\nabc\r\n\r\n")),
    Hostile("trailer folded", _chunks(_CHUNK + b"0\r\na: b\r\n c\r\n\r\n")),
    Hostile("trailer with NUL", _chunks(_CHUNK + b"0\r\na: \0\r\n\r\n")),
    Hostile("trailer with a bare CR", _chunks(_CHUNK + b"0\r\na: b\rc\r\n\r\n")),
    Hostile("trailer with a bare LF", _chunks(_CHUNK + b"0\r\na: b\nc: d\r\n\r\n")),
    Hostile("trailer with space before the colon", _chunks(_CHUNK + b"0\r\na : b\r\n\r\n")),
    Hostile("request in the place of trailers", _chunks(_CHUNK + b"0\r\nGET /mcp/time HTTP/1.1\r\n\r\n")),
    Hostile("trailers beyond reason", _chunks(_CHUNK + b"0\r\n" + b"a: b\r\n" * 5_000 + b"\r\n")),
]

FIELDS = [
    Hostile("bare LF after the request line", b"POST /mcp/time HTTP/1.1\nhost: 127.0.0.1\r\n\r\n"),
    Hostile("only bare LF", b"GET /mcp/time HTTP/1.1\nhost: 127.0.0.1\n\n"),
    Hostile("bare LF ends the head", b"GET /mcp/time HTTP/1.1\r\nhost: 127.0.0.1\r\n\n"),
    Hostile("bare CR ends the request line", b"GET /mcp/time HTTP/1.1\rhost: 127.0.0.1\r\n\r\n"),
    Hostile("bare CR in a value", _line(b"x: a\rb\r\n")),
    Hostile("bare CR ends a value", _line(b"x: a\r\r\n")),
    Hostile("bare LF in a value", _line(b"x: a\nb: c\r\n")),
    Hostile("two line ends of LF in the head", _line(b"x: a\n\nGET / HTTP/1.1\r\n")),
    Hostile("folding with space", _line(b"x: a\r\n b\r\n")),
    Hostile("folding with tab", _line(b"x: a\r\n\tb\r\n")),
    Hostile("folding of an empty value", _line(b"x:\r\n b\r\n")),
    Hostile("folding before the first field", b"POST /mcp/time HTTP/1.1\r\n host: 127.0.0.1\r\n\r\n"),
    Hostile("space before the colon", _line(b"x : a\r\n")),
    Hostile("tab before the colon", _line(b"x\t: a\r\n")),
    Hostile("space in a name", _line(b"x y: a\r\n")),
    Hostile("space before a name", _line(b" x: a\r\n")),
    Hostile("no name", _line(b": a\r\n")),
    Hostile("no colon", _line(b"abc\r\n")),
    Hostile("only a blank", _line(b" \r\n")),
    Hostile("name in quotes", _line(b'"x": a\r\n')),
    Hostile("name with a slash", _line(b"x/y: a\r\n")),
    Hostile("name with brackets", _line(b"x[]: a\r\n")),
    Hostile("name with at sign", _line(b"x@y: a\r\n")),
    Hostile("name with non-ASCII letter", _line("nämé: a\r\n".encode())),
    Hostile("name with 0xFF", _line(b"x\xff: a\r\n")),
    Hostile("name with NUL", _line(b"x\0: a\r\n")),
    Hostile("name with a control character", _line(b"x\x01: a\r\n")),
    Hostile("name with DEL", _line(b"x\x7f: a\r\n")),
    Hostile("name with ESC", _line(b"x\x1b: a\r\n")),
    *(
        Hostile(f"value with control character {byte:#04x}", _line(b"x: a%bb\r\n" % bytes([byte])))
        for byte in (*range(9), 11, 12, *range(14, 32), 127)
    ),
]

TARGETS = [
    Hostile(f"target {target!r}", b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n" % target)
    for target in (
        b"http://127.0.0.1/mcp/time",
        b"HTTP://127.0.0.1/mcp/time",
        b"https://127.0.0.1/mcp/time",
        b"http://other.example/mcp/time",
        b"ftp://127.0.0.1/mcp/time",
        b"127.0.0.1:80",
        b"other.example:443",
        b"mcp/time",
        b"?a=b",
        b"",
        b"*x",
        b"**",
        b"\\mcp\\time",
        b"/mcp\\time",
        b"/mcp/time#fragment",
        b"/mcp/time?a#b",
        b"/mcp/ti me",
        b"/mcp/time\t",
        b"/mcp/time\x01",
        b"/mcp/time\0",
        b"/mcp/time\x7f",
        b"/mcp/t\xc3\xafme",
        b"/mcp/time\xff",
        b"/mcp/time%",
        b"/mcp/time%2",
        b"/mcp/time%zz",
        b"/mcp/time%0d%0aX:%20y",
        b"/mcp/time%00",
        b"/mcp/time%1F",
        b"/mcp/time%7f",
        b"/mcp/time?x=%0A",
        b"/mcp/<time>",
        b"/mcp/{time}",
        b"/mcp/ti[me]",
        b"/mcp/ti|me",
        b'/mcp/"time"',
        b"/mcp/^time",
        b"/mcp/`time`",
    )
]


def _request_line(line: bytes) -> bytes:
    return line + b"\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n"


LINES = [
    Hostile("HTTP/0.9 with an empty line", b"GET /mcp/time\r\n\r\n"),
    Hostile("HTTP/0.9 with fields", _request_line(b"GET /mcp/time")),
    Hostile("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(
        Hostile(f"version {version!r}", _request_line(b"POST /mcp/time " + version))
        for version in (
            *(b"HTTP/2.0", b"HTTP/2", b"HTTP/3", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/1", b"HTTP/11", b"HTTP/1.10"),
            *(b"HTTP/01.1", b"HTTP/1.01", b"http/1.1", b"Http/1.1", b"HTTPS/1.1", b"ICY/1.1", b"RTSP/1.0"),
            *(b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/1.1 x", b"HTTP /1.1", b"HTTP/1,1", b"HTTP/-1.1", b"HTTP/1.1\0"),
        )
    ),
    Hostile("two spaces before the target", _request_line(b"POST  /mcp/time HTTP/1.1")),
    Hostile("two spaces behind the target", _request_line(b"POST /mcp/time  HTTP/1.1")),
    Hostile("tabs for spaces", _request_line(b"POST\t/mcp/time\tHTTP/1.1")),
    Hostile("space before the method", _request_line(b" POST /mcp/time HTTP/1.1")),
    Hostile("lower-case method", _request_line(b"post /mcp/time HTTP/1.1")),
    Hostile("mixed-case method", _request_line(b"Post /mcp/time HTTP/1.1")),
    Hostile("no method", _request_line(b" /mcp/time HTTP/1.1")),
    Hostile("unknown method", _request_line(b"SMUGGLE /mcp/time HTTP/1.1")),
    Hostile("method with a control character", _request_line(b"PO\x00ST /mcp/time HTTP/1.1")),
    Hostile("method in quotes", _request_line(b'"POST" /mcp/time HTTP/1.1')),
    Hostile("CONNECT to an authority", _request_line(b"CONNECT other.example:443 HTTP/1.1")),
    Hostile("bare LF before the request", b"\n" + post()),
    Hostile("bare CR before the request", b"\r" + post()),
    Hostile("TLS hello on a plain port", bytes.fromhex("16030100a5010000a10303") + bytes(160) + b"\r\n\r\n"),
    Hostile("binary noise", bytes(range(256)) + b"\r\n\r\n"),
]


def _host(lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST /mcp/time HTTP/%b\r\n%bcontent-length: 0\r\n\r\n" % (version, lines)


HOSTS = [
    Hostile("no Host", _host(b"")),
    Hostile("empty Host", _host(b"host:\r\n")),
    Hostile("blank Host", _host(b"host: \t\r\n")),
    Hostile("two Hosts, the same", _host(b"host: 127.0.0.1\r\nhost: 127.0.0.1\r\n")),
    Hostile("two Hosts, different", _host(b"host: 127.0.0.1\r\nhost: other.example\r\n")),
    Hostile("two Hosts on HTTP/1.0", _host(b"host: 127.0.0.1\r\nhost: other.example\r\n", b"1.0")),
    Hostile("two Hosts, different case", _host(b"host: 127.0.0.1\r\nHOST: 127.0.0.1\r\n")),
    Hostile("bad Host on HTTP/1.0", _host(b"host: a b\r\n", b"1.0")),
    *(
        Hostile(f"Host {value!r}", _host(b"host: %b\r\n" % value))
        for value in (
            *(
                b"127.0.0.1, 127.0.0.1",
                b"127.0.0.1 other.example",
                b"http://127.0.0.1",
                b"127.0.0.1/",
                b"127.0.0.1/mcp",
            ),
            *(b"user@127.0.0.1", b"user:pw@127.0.0.1:80", b"127.0.0.1:80:80", b"127.0.0.1:port", b"127.0.0.1:-1"),
            *(
                b"127.0.0.1:123456",
                b"[::1",
                b"::1",
                b"[::1]x",
                b"[gg::1]",
                b"[::1%25eth0]",
                b"127.0.0.1?x",
                b"127.0.0.1#x",
            ),
            *(b"127.0.0.1\\x", b"127.0.0.1:80 ,x", b'"127.0.0.1"', b"127.0.0.1;x", b"h\xc3\xb6st", b"a" * 300, b"%31"),
        )
    ),
]

ALL = [*LENGTHS, *CODINGS, *CHUNKS, *FIELDS, *TARGETS, *LINES, *HOSTS]
