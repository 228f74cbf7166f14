"""The JSON-RPC envelope: parsed, classified and judged; the bytes it came in stay as they are.

What two parsers could read differently is refused: a member of the envelope, of `params` or of `_meta` that stands
twice or differs from a known one only in case, invalid UTF-8, lone surrogates, nesting over a limit. Otherwise a
backend might run another tool than the one that was judged.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

import msgspec
from msgspec.structs import astuple

from moongate.errors import FailureClass, Refusal
from moongate.protocol.forms import UNREADABLE, Answer, ClientInfo, Initialized, ToolResult, UsualRequest
from moongate.protocol.methods import METHODS, method_named

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020

META = "io.modelcontextprotocol/"
VERSION_KEY = META + "protocolVersion"
CLIENT_KEY = META + "clientInfo"
CAPABILITIES_KEY = META + "clientCapabilities"

_ENVELOPE: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAMS: Final = frozenset(
    {"name", "arguments", "uri", "_meta", "cursor", "taskId", "protocolVersion", "capabilities", "clientInfo"}
    | {"inputResponses", "requestState", "progressToken", "requestId", "level", "ref", "argument", "context", "task"}
    | {"notifications"}
)
_META: Final = frozenset({VERSION_KEY, CLIENT_KEY, CAPABILITIES_KEY, META + "logLevel", "progressToken"})
_FOLDED: Final = {keys: frozenset(key.casefold() for key in keys) for keys in (_ENVELOPE, _PARAMS, _META)}

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*')
_NEXT = re.compile(rb"[ \t\r\n]*([,}])")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SLICE: Final = 64 * 1024
_UTF8_SLICE: Final = 1024 * 1024
MAX_BATCH: Final = 100


_REQUEST: Final = msgspec.json.Decoder(UsualRequest)
# What a compact request has beside its values: braces, colons, commas, quotes and keys.
_REQUEST_FRAME: Final = len('{"jsonrpc":"2.0","id":,"method":"","params":{}}')
_NAME_FRAME: Final = len('"name":""')
_URI_FRAME: Final = len('"uri":""')
_ARGUMENTS_FRAME: Final = len('"arguments":')
_META_FRAME: Final = len('"_meta":')


# The usual spelling of each method's name, so that it need not be decoded.
_NAMES: Final = {f'"{name}"'.encode(): name for name in METHODS}

_CLIENT: Final = msgspec.json.Decoder(ClientInfo)


class Envelope:
    """One message. `id` is its raw JSON, None for a notification. `method` is empty for a response.

    `target` is what `params` names (tool, prompt, resource, task), `arguments` their raw JSON. `version`: the protocol
    version of `_meta`, or of an initialize request's params.
    """

    __slots__ = ("arguments", "client", "id", "meta", "method", "target", "version")

    def __init__(
        self,
        method: str = "",
        id: bytes | None = None,  # noqa: A002 - as JSON-RPC calls it
        *,
        target: str | None = None,
        arguments: msgspec.Raw | None = None,
        client: str = "",
    ) -> None:
        self.method = method
        self.id = id
        self.target = target
        self.version: str | None = None
        self.meta: Mapping[str, msgspec.Raw] | None = None
        self.client = client
        self.arguments = arguments

    @property
    def is_request(self) -> bool:
        """Whether an answer is due."""
        return self.id is not None and self.method != ""


def refuse(detail: str, code: int = INVALID_REQUEST) -> Refusal:
    """A message that cannot be judged: HTTP 400 with `code`, without id."""
    return Refusal(FailureClass.BAD_REQUEST, detail, code=code)


def parse(body: bytes, max_depth: int) -> Envelope | list[Envelope]:
    """One message, or the messages of an array. Raises Refusal (bad_request: -32700 or -32600)."""
    if not body.isascii():
        _check_utf8(body)
    elif (envelope := _parse_usual(body, max_depth)) is not None:
        return envelope
    if body[:1] in b"[ \t\r\n" and body.lstrip(b" \t\r\n")[:1] == b"[":
        return _parse_array(body, max_depth)
    return _parse_one(_members(msgspec.Raw(body), _ENVELOPE), body, max_depth)


def _parse_usual(body: bytes, max_depth: int) -> Envelope | None:
    """A compact request of the usual members, as SDKs write tool calls: read at a third of the cost. None for all
    others.
    """
    try:
        request = astuple(_REQUEST.decode(body))
    except (msgspec.DecodeError, RecursionError):
        return None
    version: str = request[0]
    raw_id = bytes(request[1])
    method: str = request[2]
    params = astuple(request[3])  # asking for each member by its name costs more
    name: str = params[0]
    uri: str = params[1]
    raw_arguments: msgspec.Raw = params[2]
    raw_meta: msgspec.Raw = params[3]
    size = _REQUEST_FRAME + len(raw_id) + len(method) - 1
    if name:
        size += _NAME_FRAME + len(name) + 1
    if uri:
        size += _URI_FRAME + len(uri) + 1
    if arguments := len(raw_arguments):
        size += _ARGUMENTS_FRAME + arguments + 1
    if meta := len(raw_meta):
        size += _META_FRAME + meta + 1
    # Exactly these members, once each, without white space or escapes: only then do the lengths add up.
    if size != len(body) or version != "2.0" or raw_id[:1] not in b'"-0123456789' or not method:
        return None
    if len(body) > max_depth and body.count(b"{") + body.count(b"[") > max_depth:
        check_depth(body, max_depth)
    envelope = Envelope(method, raw_id, arguments=raw_arguments if arguments else None)
    field = method_named(method).target
    if field is not None:
        envelope.target = (name if field == "name" else uri if field == "uri" else "") or None
    if meta:
        _read_meta(envelope, raw_meta)
    return None if method == "initialize" else envelope


def _parse_array(body: bytes, max_depth: int) -> list[Envelope]:
    try:
        elements = _ARRAY.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(error) from None
    if not 0 < len(elements) <= MAX_BATCH:
        raise refuse(f"an array of {len(elements)} messages; 1 to {MAX_BATCH} are allowed")
    check_depth(body, max_depth)
    return [_parse_one(_members(element, _ENVELOPE), b"", max_depth) for element in elements]


def _parse_one(members: dict[str, msgspec.Raw], body: bytes, max_depth: int) -> Envelope:
    if body.count(b"{") + body.count(b"[") > max_depth:
        check_depth(body, max_depth)
    version = members.get("jsonrpc")
    if version is None or (bytes(version) != b'"2.0"' and _text(version) != "2.0"):
        raise refuse('the member "jsonrpc" is not "2.0"')
    raw_id = members.get("id")
    envelope = Envelope(id=None if raw_id is None else bytes(raw_id))
    if envelope.id is not None and envelope.id[:1] not in b'"-0123456789':
        raise refuse("the id is neither a string nor a number")
    method = members.get("method")
    answers = ("result" in members) + ("error" in members)
    if method is None:
        if answers != 1 or envelope.id is None:
            raise refuse("neither a request, a notification nor a response")
        return envelope
    if answers:
        raise refuse("both a request and a response")
    envelope.method = _NAMES.get(bytes(method)) or _text(method) or ""
    if not envelope.method:
        raise refuse("the method is not a string")
    params = members.get("params")
    if params is not None:
        _read_params(envelope, _members(params, _PARAMS))
    return envelope


def _read_params(envelope: Envelope, params: dict[str, msgspec.Raw]) -> None:
    field = method_named(envelope.method).target
    if field is not None and (named := params.get(field)) is not None:
        envelope.target = _text(named)
    envelope.arguments = params.get("arguments")
    meta = params.get("_meta")
    if meta is not None:
        _read_meta(envelope, meta)
    if envelope.method == "initialize":
        if (version := params.get("protocolVersion")) is not None and envelope.version is None:
            envelope.version = _text(version)
        _read_client(envelope, params.get("clientInfo"))


def _read_meta(envelope: Envelope, raw: msgspec.Raw) -> None:
    envelope.meta = meta = _members(raw, _META)
    if (version := meta.get(VERSION_KEY)) is not None:
        envelope.version = _text(version)
        if envelope.version is None:
            raise refuse(f"_meta: {VERSION_KEY} is not a string", INVALID_PARAMS)
    _read_client(envelope, meta.get(CLIENT_KEY))


def _read_client(envelope: Envelope, raw: msgspec.Raw | None) -> None:
    if raw is not None:
        try:
            info = _CLIENT.decode(raw)
        except msgspec.DecodeError:
            return  # only records name it; the backend judges its form
        envelope.client = f"{info.name[:64]}/{info.version[:32]}"


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return _TEXT.decode(raw)
    except msgspec.DecodeError:
        return None


def _members(raw: msgspec.Raw, known: frozenset[str]) -> dict[str, msgspec.Raw]:
    """The members of an object, each exactly once. Raises Refusal."""
    try:
        members = _MEMBERS.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(error) from None
    # In compact JSON without repeated members the lengths add up; a repeated one always leaves bytes unaccounted for.
    size = 1 + 4 * len(members) + sum(map(len, members)) + sum(map(len, members.values()))
    if size != len(raw):
        _walk(bytes(raw), members)
    if not members.keys() <= known:
        _check_case(members, known)
    return members


def members_of(raw: msgspec.Raw, known: frozenset[str]) -> dict[str, msgspec.Raw]:
    """The members of an object, each exactly once; none differs from one in `known` only in case. Raises Refusal."""
    return _members(raw, known)


def _unreadable(error: Exception) -> Refusal:
    if isinstance(error, RecursionError):
        return refuse("JSON nested too deeply")
    return refuse(
        f"malformed JSON: {error}", INVALID_REQUEST if isinstance(error, msgspec.ValidationError) else PARSE_ERROR
    )


def _walk(raw: bytes, members: dict[str, msgspec.Raw]) -> None:
    # If no member is repeated, keys come in the order in which the decoder met them, each followed by its own value.
    position = len(raw) - len(raw.lstrip(b" \t\r\n")) + 1
    for key, value in members.items():
        match = _KEY.match(raw, position)
        if match is None or _TEXT.decode(match[1]) != key or not raw.startswith(bytes(value), match.end()):
            raise refuse(f"the member {key[:64]!r} stands more than once, or another one does")
        position = match.end() + len(value)
        end = _NEXT.match(raw, position)
        if end is None:
            raise refuse(f"the member {key[:64]!r} stands more than once")
        position = end.end()
    if raw[position:].strip(b" \t\r\n") not in (b"", b"}"):
        raise refuse("a member of the envelope, params or _meta stands more than once")


def _check_case(members: dict[str, msgspec.Raw], known: frozenset[str]) -> None:
    folded = {key.casefold() for key in members}
    if len(folded) != len(members):
        raise refuse("two members differ only in case")
    known_folded = _FOLDED.get(known) or {key.casefold() for key in known}
    lookalikes = [key for key in members if key not in known and key.casefold() in known_folded]
    if lookalikes:
        raise refuse(f"the member {lookalikes[0][:64]!r} differs from a known one only in case")


def _check_utf8(body: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), _UTF8_SLICE):
            decoder.decode(body[start : start + _UTF8_SLICE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise refuse("the body is not UTF-8", PARSE_ERROR) from None


def check_depth(body: bytes, limit: int) -> None:
    """Refuse valid JSON nested deeper than `limit`. Strings are cut out first, then brackets are counted."""
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside.translate(None, _NOT_BRACKETS)
    depth = 0
    for start in range(0, len(brackets), _SLICE):
        depths = list(accumulate(map(_STEP.__getitem__, brackets[start : start + _SLICE]), initial=depth))
        if max(depths) > limit:
            raise refuse(f"JSON nested deeper than {limit} levels")
        depth = depths[-1]


_ANSWER: Final = msgspec.json.Decoder(Answer)
_RESULT: Final = msgspec.json.Decoder(ToolResult)


_INITIALIZED: Final = msgspec.json.Decoder(Initialized)


def read_answer(data: bytes) -> Answer | None:
    """One message of a backend, or None if it is not a JSON-RPC message that stands alone."""
    try:
        answer = _ANSWER.decode(data)
    except UNREADABLE:
        return None
    return answer if answer.jsonrpc == "2.0" else None


# Cannot match inside a JSON string, where quotes are escaped.
_ANSWERS: Final = msgspec.json.Decoder(list[Answer])


def read_answers(data: bytes) -> list[Answer]:
    """The responses in one event: one, or those of an array. Requests and notifications are left out."""
    if data.lstrip(b" \t\r\n")[:1] == b"[":
        try:
            found = _ANSWERS.decode(data)
        except UNREADABLE:
            return []
    else:
        answer = read_answer(data)
        found = [] if answer is None else [answer]
    return [answer for answer in found if answer.method is None]


def looks_like_answer(window: bytes) -> bool:
    """Whether a message that begins with `window` is a response: no method and no params among its first members."""
    members = window[window.find(b"{") + 1 :]
    ends = [end for end in (members.find(b"{"), members.find(b"[")) if end >= 0]
    plain = members[: min(ends, default=len(members))]
    return b'"method"' not in plain and b'"params"' not in plain


_ERROR_MEMBER: Final = b"isError"
_LEAST_BETWEEN: Final = len('isError":false,"isError"')
_IS_ERROR: Final = re.compile(rb'"isError"[ \t\r\n]*:[ \t\r\n]*true')
_ERROR_CODE: Final = re.compile(
    rb'"error"[ \t\r\n]*:[ \t\r\n]*\{[^{}]{0,512}?"code"[ \t\r\n]*:[ \t\r\n]*(-?[0-9]{1,9})'
)
_ANYTHING: Final = msgspec.json.Decoder(msgspec.Raw)


def is_json(data: bytes) -> bool:
    """Whether `data` is one JSON value."""
    try:
        _ANYTHING.decode(data)
    except UNREADABLE:
        return False
    return True


def may_have_failed(body: bytes) -> bool:
    """Whether `tool_failed` can be true of an answer in it: quickly no for what SDKs write."""
    at = body.find(_ERROR_MEMBER)
    if at < 0:
        return False
    if body[at + 7 : at + 14] != b'":false':
        return True
    return len(body) - at > _LEAST_BETWEEN and body.find(_ERROR_MEMBER, at + 14) >= 0


def tool_failed(answer: Answer) -> bool:
    """Whether a tools/call result has `isError` true."""
    if not _IS_ERROR.search(answer.result):
        return False
    try:
        return _RESULT.decode(answer.result).is_error
    except UNREADABLE:
        return False


def error_code(window: bytes) -> int | None:
    """The code of the error response that begins with `window`; None if it does not look like one."""
    error = _ERROR_CODE.search(window)
    return None if error is None or b'"result"' in window[: error.start()] else int(error[1])


def tool_failure(window: bytes) -> bool:
    """Whether part of a tools/call result says `isError` true."""
    return _IS_ERROR.search(window) is not None


def negotiated_version(answer: Answer) -> str:
    """The `protocolVersion` of an initialize result; empty if there is none."""
    if not len(answer.result):
        return ""
    try:
        return _INITIALIZED.decode(answer.result).version
    except UNREADABLE:
        return ""


def error_message(code: int, text: str, data: Mapping[str, object], message_id: bytes | None) -> bytes:
    """A JSON-RPC error response; `message_id` is raw JSON, None leaves the member out."""
    body: dict[str, object] = {"jsonrpc": "2.0"}
    if message_id is not None:
        body["id"] = msgspec.Raw(message_id)
    body["error"] = {"code": code, "message": text, "data": data}
    return msgspec.json.encode(body)
