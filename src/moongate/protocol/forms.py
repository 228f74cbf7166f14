"""The forms of messages, as far as they are decoded. The decoder fills them in, so they know nothing but its types.

They stand apart from `jsonrpc`, which is compiled: a compiled class cannot be filled in by the decoder.
"""

from __future__ import annotations

import msgspec

# What decoding somebody else's bytes can raise.
UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

_ABSENT = msgspec.Raw()
_CODE = msgspec.json.Decoder(int | float)


class Params(msgspec.Struct, gc=False):
    """`params` of the usual requests."""

    name: str = ""
    uri: str = ""
    arguments: msgspec.Raw = _ABSENT
    meta: msgspec.Raw = msgspec.field(name="_meta", default=_ABSENT)


class UsualRequest(msgspec.Struct, gc=False):
    """A request as SDKs write tool calls."""

    jsonrpc: str
    id: msgspec.Raw
    method: str
    params: Params


class ClientInfo(msgspec.Struct):
    """`clientInfo` (schema: Implementation), as far as records name it."""

    name: str = ""
    version: str = ""


class ErrorObject(msgspec.Struct):
    """`error` of a response."""

    raw: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"0"), name="code")

    @property
    def code(self) -> int:
        """0 if it is no number, or one beyond all: the answer is an error all the same."""
        try:
            return int(_CODE.decode(self.raw))
        except UNREADABLE:
            return 0


class Answer(msgspec.Struct):
    """What records say of a response: its raw id, the error's code, whether a tool said that it failed."""

    id: msgspec.Raw = msgspec.Raw()
    method: str | None = None
    error: ErrorObject | None = None
    result: msgspec.Raw = msgspec.Raw()  # msgspec reads Raw | None as null only: absent is empty
    jsonrpc: str = ""


class ToolResult(msgspec.Struct):
    """The result of tools/call."""

    is_error: bool = msgspec.field(default=False, name="isError")


class Initialized(msgspec.Struct):
    """The result of initialize."""

    version: str = msgspec.field(default="", name="protocolVersion")
