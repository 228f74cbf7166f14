"""One request's story: the facts it came with, what was decided, how it ended. It becomes the audit record.

A mutable record, filled in as the request goes on; everything that judges or reports reads it instead of the wire.
Header names are lower-case bytes. Times: `started` and `first_byte` are monotonic seconds, `time` is Unix time.
`source` is the client's address, `peer` whose connection it is: another one where a trusted proxy speaks for a client.
Then `secure` and `outer_host` (authority, "": that of `Host`) are what the client asked for. `answer_lines` are whole
header lines that every answer carries, whoever gives it. `shadow` says what access rules on trial would have denied.
"""

from __future__ import annotations

import time as clock

from moongate.errors import FailureClass
from moongate.model.principal import ANONYMOUS, Principal


class Exchange:
    """Facts first, then decisions, then the outcome. `failure` None: the call succeeded."""

    __slots__ = (
        *("answer_lines", "arguments", "bytes_in", "bytes_out", "client", "detail", "failure", "fields"),
        *("first_byte", "local_host", "method", "more", "outer_host", "path", "peer", "port", "principal", "query"),
        *("recorded", "request_id", "revision", "route", "rpc_code", "rpc_id", "rpc_method", "rpc_target", "secure"),
        *("shadow", "source", "started", "status", "time", "token_header", "token_print"),
    )

    def __init__(
        self, request_id: str, time: float, started: float, method: str, path: str, fields: dict[bytes, bytes]
    ) -> None:
        self.request_id = request_id
        self.time = time
        self.started = started
        self.method = method
        self.path = path
        self.fields = fields
        self.more: list[tuple[bytes, bytes]] = []
        self.query: str | None = None
        self.source = ""
        self.peer = ""
        self.local_host = ""
        self.port = 0
        self.secure = False
        self.outer_host = ""
        self.answer_lines = b""

        self.route = ""
        self.principal: Principal = ANONYMOUS
        self.token_header = ""
        self.token_print = ""
        self.revision = ""
        self.client = ""
        self.rpc_method = ""
        self.rpc_id: bytes | None = None
        self.rpc_target = ""
        self.arguments = b""

        self.status = 0
        self.rpc_code: int | None = None
        self.failure: FailureClass | None = None
        self.detail = ""
        self.shadow = ""
        self.first_byte = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.recorded = False

    def again(self, request_id: str, time: float, started: float) -> Exchange:
        """Another request with the same head, about which the same was decided; nothing has come of it yet."""
        other = Exchange(request_id, time, started, self.method, self.path, self.fields)
        other.more = self.more
        other.query = self.query
        other.source = self.source
        other.peer = self.peer
        other.local_host = self.local_host
        other.port = self.port
        other.secure = self.secure
        other.outer_host = self.outer_host
        other.answer_lines = self.answer_lines
        other.route = self.route
        other.principal = self.principal
        other.token_header = self.token_header
        other.token_print = self.token_print
        other.revision = self.revision
        other.client = self.client
        other.shadow = self.shadow
        return other

    def record_head(self, status: int) -> None:
        """The backend has answered with `status`."""
        self.status = status
        self.first_byte = clock.perf_counter()

    def fail(self, failure: FailureClass, detail: str) -> None:
        """Remember why; the first reason stays."""
        if self.failure is None:
            self.failure = failure
            self.detail = detail
