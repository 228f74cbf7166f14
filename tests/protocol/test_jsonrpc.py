"""The envelope: what two readers could read differently is refused, everything else passes and is read right."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moongate.errors import Refusal
from moongate.protocol.jsonrpc import MAX_BATCH, Envelope, check_depth, parse
from tests.protocol.spellings import MESSAGES, META, Object, acceptable, spelled

DEPTH = 32


def _refused(body: bytes, depth: int = DEPTH) -> int | None:
    """The code of the refusal, None if there is none."""
    try:
        parse(body, depth)
    except Refusal as refusal:
        return refusal.code
    return None


def _one(body: bytes) -> Envelope:
    message = parse(body, DEPTH)
    assert isinstance(message, Envelope)
    return message


def _with(member: str) -> bytes:
    return ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}' + member + "}").encode()


def _params(member: str) -> bytes:
    return ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"' + member + "}}").encode()


def _meta(member: str) -> bytes:
    return _params(',"_meta":{"progressToken":1' + member + "}")


TWICE = [
    *(_with(f',{key}:"x"') for key in ('"method"', '"id"', '"params"', '"jsonrpc"', '"meth\\u006fd"', '"\\u0069d"')),
    *(
        _with(f',{key}:"x"')
        for key in ('"Method"', '"METHOD"', '"ID"', '"iD"', '"Params"', '"param\u017f"', '"JSONRPC"')
    ),
    *(_with(f',{key}:"x"') for key in ('"j\u017fonrpc"', '"param\\u017f"', '"RESULT"', '"Error"', '"Re\u017fult"')),
    *(
        _with(f',{key}:"x"')
        for key in ('"a":1,"a"', '"a":1,"A"', '"a":1,"\\u0061"', '"k":1,"\u212a"', '"\u00df":1,"ss"')
    ),
    *(_params(f',{key}:"x"') for key in ('"name"', '"Name"', '"NAME"', '"n\\u0061me"', '"\\u004eame"', '"URI"')),
    *(
        _params(f",{key}:{{}}")
        for key in ('"arguments":{},"arguments"', '"Arguments"', '"argument\u017f"', '"ARGUMENTS"')
    ),
    *(
        _params(f",{key}:{{}}")
        for key in ('"_meta":{},"_meta"', '"_Meta"', '"_META"', '"ta\u017f\u212aId"', '"\\u005fMETA"')
    ),
    *(
        _meta(f',{key}:"x"')
        for key in ('"progressToken"', '"ProgressToken"', '"progre\u017f\u017fToken"', '"PROGRESSTOKEN"')
    ),
    *(
        _meta(f',{key}:"x"')
        for key in ('"progressTo\u212aen"', f'"{META}protocolversion"', f'"{META.upper()}LOGLEVEL"')
    ),
    _meta(',"a":1,"A":2'),
    b'{"id":12,"jsonrpc":"2.0","id":1,"method":"ping"}',
    b'{"id":1,"jsonrpc":"2.0","id":12,"method":"ping"}',
    b'{"id":1,"jsonrpc":"2.0","method":"ping","id":1}',
    b'{ "jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}',
    b'{"jsonrpc":"2.0","id":1,"method":"pong","method":"ping"}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{}} ',
    b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping","params":{}}',
]


@pytest.mark.parametrize("body", TWICE)
def test_members_that_stand_twice_or_differ_in_case_are_refused(body: bytes) -> None:
    """In the envelope, in params, in _meta; escaped or not, next to each other or not."""
    assert json.loads(body)  # most readers take them
    assert _refused(body) == -32600


PASSING = [
    _with(""),
    _with(',"x":1'),
    _with(',"methods":1,"ids":2,"i":3'),
    _params(',"arguments":{"a":1,"a":2,"A":3}'),
    _params(',"arguments":{"name":"b","method":"c","id":4}'),
    _params(',"x":{"name":"b","Name":"c"}'),
    _meta(',"name":"a","method":"b"'),
    _meta(',"com.example/x":{"a":1,"a":2}'),
    _meta(',"\u0131d":1'),
    b' \t\r\n{"jsonrpc" : "2.0" ,\n"id"\t:\r1 , "method":"ping" } \n',
    b'{"jsonrpc":"2.0","id":"","method":"ping"}',
    b'{"jsonrpc":"2.0","id":-1,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":"\\u0000","method":"ping"}',
    b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
    b'{"jsonrpc":"2.0","id":1,"result":{}}',
    b'{"jsonrpc":"2.0","id":1,"result":null}',
    b'{"jsonrpc":"2.0","id":"a","error":{"code":-1,"message":"x"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"p\\u0069ng"}',
    '{"jsonrpc":"2.0","id":"ä","method":"\U0001f600","params":{"ü":"\U0001f600"}}'.encode(),
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\\ud83d\\ude00"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\\"{[\\\\"}}',
]


@pytest.mark.parametrize("body", PASSING)
def test_what_only_looks_odd_passes(body: bytes) -> None:
    """Keys that nobody judges, blanks everywhere, big numbers, escapes."""
    assert _refused(body) is None


NOT_JSON = [
    *(b"", b" ", b"{", b"}", b"{}}", b"{]", b"nul", b"'", b'"', b"{,}", b'{"a"}', b'{"a":}', b"{'a':1}", b"{a:1}"),
    *(b"[", b"[1,]", b"[,1]", b"//", b"{}//x", b'{"a":1,}', b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":1.}'),
    *(b'{"a":0x1}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":-}', b'{"a":"\t"}', b'{"a":"\n"}'),
    *(b'{"a":"\0"}', b'{"a":"\\x41"}', b'{"a":"\\u00"}', b'{"a":"\\"}', b'{"a":undefined}', b'{"a":True}', b"{} {}"),
    *(b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"{\0}", b"{}\0", b"\x0b{}", b"\xc2\xa0{}", b"\xe2\x80\xa8{}", b"{}\x1a"),
]
NESTED = '{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a","arguments":{{"x":{0}}}}}}}'


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_not_json_is_a_parse_error(body: bytes) -> None:
    """-32700, alone and deep inside of a message, where nobody looks at the value."""
    assert _refused(body) == -32700
    if body.startswith(b'{"a":') and body.endswith(b"}"):
        inside = NESTED.format("1").encode().replace(b'{"x":1}', body)
        assert _refused(inside) == -32700


BAD_TEXT = [
    *(b"\xff", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80"),
    *(b"\xf8\x88\x80\x80\x80", b"\xc3", b"\xe2\x82", b"\x80", b"\xf0\x9f\x98"),
    *(rb"\ud800", rb"\udc00", rb"\ud800\u0041", rb"\udc00\ud800", rb"\ud800\ud800", rb"\uD83D", rb"\ud83d\\ude00"),
]


@pytest.mark.parametrize("text", BAD_TEXT)
def test_text_that_is_not_unicode_is_refused_wherever_it_stands(text: bytes) -> None:
    """Invalid UTF-8 and lone surrogates, in keys and values, judged or not."""
    for place in (
        b'{"jsonrpc":"2.0","id":"%b","method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"%b"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","%b":1}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%b"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"%b":1}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"x":"%b"}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"%b":"x"}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"%b":"x"}}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"x":"%b"}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"%b"}]',
    ):
        assert _refused(place % text) == -32700, place


def test_invalid_utf_8_is_found_across_slices() -> None:
    """A sequence that is cut by the check's own slices is whole; a broken one behind them is found."""
    for offset in range(6):
        filler = b"a" * (1024 * 1024 - 70 + offset)
        body = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"%b%b"}}'
        assert _refused(body % (filler, "\U0001f600é".encode() * 30)) is None
        assert _refused(body % (filler, "\U0001f600é".encode() * 30 + b"\xc3")) == -32700


WRONG = [
    *(b"null", b"true", b"1", b'"a"', b"{}", b"[]", b"[[]]", b"[1]", b"[null]", b"[[{}]]"),
    b'{"id":1,"method":"ping"}',
    *(
        b'{"jsonrpc":%b,"id":1,"method":"ping"}' % value
        for value in (b'"1.0"', b'"2"', b"2.0", b"null", b'"2.0 "', b'["2.0"]')
    ),
    *(
        b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % value
        for value in (b"null", b"true", b"[]", b"{}", b"[1]", b'{"a":1}')
    ),
    *(b'{"jsonrpc":"2.0","id":1,"method":%b}' % value for value in (b"null", b"1", b"[]", b"{}", b'""', b'["ping"]')),
    *(
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":%b}' % value
        for value in (b"null", b"1", b"[]", b'[{"name":"a"}]', b'"a"', b"true")
    ),
    *(
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":%b}}' % value
        for value in (b"null", b"1", b"[]", b'"a"', b"true")
    ),
    b'{"jsonrpc":"2.0","id":1}',
    b'{"jsonrpc":"2.0"}',
    b'{"jsonrpc":"2.0","result":{}}',
    b'{"jsonrpc":"2.0","id":null,"result":{}}',
    b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","error":{}}',
]


@pytest.mark.parametrize("body", WRONG)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    """JSON, but neither a request, a notification nor a response: -32600."""
    assert _refused(body) == -32600
    assert _refused(b"\n" + body + b" ") == -32600


def _deep(levels: int, opening: str, closing: str) -> bytes:
    """A message that is `levels` deep in all."""
    return NESTED.format(opening * (levels - 3) + "1" + closing * (levels - 3)).encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('{"a":[', "]}"), ("[\n", " ]")])
def test_nesting_is_limited_exactly(opening: str, closing: str) -> None:
    """At the limit it passes, one level more is refused, and so is any other depth."""
    per = opening.count("[") + opening.count("{")
    for levels in range(DEPTH - 4, DEPTH + 5):
        times = levels - 3
        body = NESTED.format(opening * times + "1" + closing * times).encode()
        depth = 3 + times * per
        assert (_refused(body) == -32600) is (depth > DEPTH), depth


@pytest.mark.parametrize("levels", [200, 900, 1_100, 10_000, 200_000])
def test_nesting_beyond_every_stack_is_refused_alike(levels: int) -> None:
    """However deep: no crash, and the same code as just over the limit."""
    assert _refused(_deep(levels, "[", "]")) == -32600
    assert _refused(_deep(levels, '{"a":', "}")) == -32600
    assert _refused(b"[" * levels + b"]" * levels) in (-32600, -32700)


BRACKETS = [
    '"' + "[{" * 200 + '"',
    '"' + '\\"[' * 200 + '"',
    '"' + "\\\\" * 99 + '", "' + "[" * 100 + '"',
    '"' + "\\\\\\\\" * 50 + '\\"' + "[" * 100 + '"',
    '"' + "\\u005b" * 200 + '"',
    "[" + "[]," * 200 + "[]]",
    "[" + '{"a":"["},' * 200 + "1]",
    '"' + "]" * 200 + '"',
]


@pytest.mark.parametrize("value", BRACKETS)
def test_brackets_in_strings_are_no_nesting(value: str) -> None:
    """Escaped quotes and backslashes do not end a string; siblings are not deeper."""
    body = NESTED.format(value if "," not in value or value.startswith("[") else f"[{value}]").encode()
    assert json.loads(body)
    assert _refused(body) is None


def test_nesting_behind_strings_is_seen() -> None:
    """A string that ends in backslashes hides nothing."""
    for text in ('"\\\\"', '"\\\\\\""', '"a\\\\\\\\"', '"\\""', '""'):
        body = NESTED.format(f"[{text}," + "[" * 40 + "]" * 40 + "]").encode()
        assert json.loads(body)
        assert _refused(body) == -32600


def _depth(value: object) -> int:
    if isinstance(value, list):
        inner = [item for _, item in value] if isinstance(value, Object) else value
        return 1 + max(map(_depth, inner), default=0)
    return 0


JSON_VALUES = st.recursive(
    st.none() | st.text('"\\[]{}a', max_size=6), lambda inner: st.lists(inner, max_size=3), max_leaves=12
)


@given(JSON_VALUES, st.integers(1, 8))
@settings(max_examples=300)
def test_depth_is_counted_as_a_parser_counts_it(value: object, limit: int) -> None:
    """For every text, strings full of brackets, quotes and backslashes included."""
    body = json.dumps(value).encode()
    try:
        check_depth(body, limit)
    except Refusal:
        assert _depth(value) > limit
    else:
        assert _depth(value) <= limit


@given(st.data(), MESSAGES)
@settings(max_examples=500)
@example(
    None, Object([("jsonrpc", "2.0"), ("id", 1), ("method", "a"), ("params", Object([("name", "a"), ("Name", "b")]))])
)
def test_what_is_accepted_is_what_every_reader_reads_alike(data: st.DataObject | None, message: Object) -> None:
    """An independent judge, built on the standard library, finds exactly the same messages acceptable."""
    body = json.dumps(_plain(message)).encode() if data is None else data.draw(spelled(message))
    assert (_refused(body, 400) is None) is acceptable(body), body


def _plain(value: object) -> object:
    return {key: _plain(item) for key, item in value} if isinstance(value, Object) else value


@given(st.data(), st.text(max_size=6), st.text(min_size=1, max_size=6), st.one_of(st.integers(), st.text(max_size=5)))
@settings(max_examples=300)
def test_what_is_read_is_what_stands_there(data: st.DataObject, name: str, method: str, number: int | str) -> None:
    """Method, target, id and client, however they are spelled."""
    method = data.draw(st.sampled_from(["tools/call", "prompts/get"])) if data.draw(st.booleans()) else method
    meta = Object([(META + "clientInfo", Object([("name", "c"), ("version", "1")])), (META + "protocolVersion", name)])
    body = data.draw(
        spelled(
            Object(
                [
                    ("jsonrpc", "2.0"),
                    ("id", number),
                    ("method", method),
                    ("params", Object([("name", name), ("_meta", meta), ("arguments", Object())])),
                ]
            )
        )
    )
    if b'"jsonrpc"' not in body or b'"2.0"' not in body:
        return  # escaped: the version is compared as it is usually written
    message = _one(body)
    assert message.method == method
    assert json.loads(message.id or b"") == number
    assert message.target == (name if method in ("tools/call", "prompts/get") else None)
    assert (message.version, message.client) == (name, "c/1")


def test_arrays_are_read_element_by_element() -> None:
    """One to a hundred messages, each held to the same rules."""
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    for body in (b"[%b]" % ping, b" \n[ %b , %b ]\t" % (ping, ping), b"[" + b",".join([ping] * MAX_BATCH) + b"]"):
        messages = parse(body, DEPTH)
        assert isinstance(messages, list)
        assert {message.method for message in messages} == {"ping"}
    assert _refused(b"[" + b",".join([ping] * (MAX_BATCH + 1)) + b"]") == -32600
    for body in TWICE:
        assert _refused(b"[%b,%b]" % (ping, body)) == -32600
    for body in WRONG:
        assert _refused(b"[%b,%b]" % (ping, body)) == -32600
    assert _refused(b"[" + _deep(DEPTH, "[", "]") + b"]") == -32600
    assert _refused(b"[" + _deep(DEPTH - 1, "[", "]") + b"]") is None


def test_an_object_is_never_taken_for_an_array_nor_the_other_way_round() -> None:
    """The first byte that is no blank decides; no other white space counts."""
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    for blank in (b"\x0b", b"\x0c", b"\xc2\xa0", b"\xe2\x80\x83", b"\xef\xbb\xbf", b"\0"):
        assert _refused(blank + ping) == -32700
        assert _refused(blank + b"[" + ping + b"]") == -32700
        assert _refused(ping + blank) == -32700
