"""One request's story: the facts it came with, what was decided, how it ended. It becomes the audit record.

A mutable record, filled in as the request goes on; everything that judges or reports reads it instead of the wire.
Header names are lower-case bytes. Times: `started` and `first_byte` are monotonic seconds, `time` is Unix time.
`source` is the client's address, `peer` whose connection it is: another one where a trusted proxy speaks for a client.
Then `secure` and `outer_host` (authority, "": that of `Host`) are what the client asked for. `answer_lines` are whole
header lines that every answer carries, whoever gives it. `shadow` says what access rules on trial would have denied.
"""

from __future__ import annotations

import time as clock

import msgspec

from moongate.errors import FailureClass
from moongate.model.principal import ANONYMOUS, Principal


class Exchange(msgspec.Struct, gc=False):
    """Facts first, then decisions, then the outcome. `failure` None: the call succeeded."""

    request_id: str
    time: float
    started: float
    source: str
    method: str
    path: str
    fields: dict[bytes, bytes]
    more: list[tuple[bytes, bytes]]
    local_host: str = ""
    port: int = 0
    secure: bool = False
    query: str | None = None
    peer: str = ""
    outer_host: str = ""
    answer_lines: bytes = b""

    route: str = ""
    principal: Principal = ANONYMOUS
    token_header: str = ""
    token_print: str = ""
    revision: str = ""
    client: str = ""
    rpc_method: str = ""
    rpc_id: bytes | None = None
    rpc_target: str = ""
    arguments: bytes = b""

    status: int = 0
    rpc_code: int | None = None
    failure: FailureClass | None = None
    detail: str = ""
    shadow: str = ""
    first_byte: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    recorded: bool = False

    def record_head(self, status: int) -> None:
        """The backend has answered with `status`."""
        self.status = status
        self.first_byte = clock.perf_counter()

    def fail(self, failure: FailureClass, detail: str) -> None:
        """Remember why; the first reason stays."""
        if self.failure is None:
            self.failure = failure
            self.detail = detail
