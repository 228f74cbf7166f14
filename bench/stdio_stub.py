"""The child of the stdio lanes (`python -m bench.stdio_stub`): a server that is faster than anything in front of it.

It reads what there is, answers each line by splicing the line's id into a fixed answer, and writes all of it at once.
What the line asks is told from its text, so it serves whoever writes JSON without strange white space: Moongate, and
the SDKs in the other programs. It is no MCP server to copy from.
"""

from __future__ import annotations

import os
import re

from bench import payloads

_READ = 1 << 20
_ID = re.compile(rb'"id" ?: ?("(?:[^"\\]|\\.)*"|-?\d+)')
_HEAD, _TAIL = payloads.SMALL.split(b'"id":1', 1)
_INITIALIZED_HEAD, _INITIALIZED_TAIL = payloads.INITIALIZED.split(b'"id":1', 1)
_TOOLS = b',"result":{"tools":[{"name":"get_forecast","inputSchema":{"type":"object"}}]}}'
_EMPTY = b',"result":{}}'
_CALL = b'"tools/call"'


def answer(line: bytes) -> bytes:
    """Give the line that answers one line; b"" if it is no request."""
    found = _ID.search(line)
    if found is None or b'"method"' not in line:
        return b""
    number = b'"id":' + found[1]
    if _CALL in line:
        return _HEAD + number + _TAIL + b"\n"
    if b'"initialize"' in line:
        return _INITIALIZED_HEAD + number + _INITIALIZED_TAIL + b"\n"
    return _HEAD + number + (_TOOLS if b'"tools/list"' in line else _EMPTY) + b"\n"


def serve(incoming: int, outgoing: int) -> None:
    """Answer until the input ends. Both are file descriptors."""
    rest = b""
    while data := os.read(incoming, _READ):
        *lines, rest = (rest + data).split(b"\n")
        _write(outgoing, b"".join(map(answer, lines)))


def _write(outgoing: int, data: bytes) -> None:
    while data:
        data = data[os.write(outgoing, data) :]


if __name__ == "__main__":
    serve(0, 1)
