"""The failures that Moongate knows, named by whose fault they are.

A `Refusal` is the client's or the operator's doing and ends one request; an `UpstreamError` is the backend's; a
`ConfigError` stops a start or a reload. Each carries the class of architecture's failure table; the one table from
class to status, JSON-RPC code and text is `proxy/reply.py`. Two texts never mix: `detail` is for the operator's log and
may name anything but secrets, the client only ever gets the text of its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    """Why a call did not succeed, as written into logs and audit records and as `data.class` to the client."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    RATE_LIMITED = "rate_limited"
    UPSTREAM_DNS = "upstream_dns"
    UPSTREAM_CONNECT = "upstream_connect"
    UPSTREAM_TLS = "upstream_tls"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_HTTP = "upstream_http"
    PROCESS_START = "process_start"
    PROCESS_EXIT = "process_exit"
    JSONRPC_ERROR = "jsonrpc_error"
    TOOL_ERROR = "tool_error"
    CLIENT_CLOSED = "client_closed"
    INTERNAL = "internal"


class MoongateError(Exception):
    """Root of everything raised on purpose; never raised itself."""


class Refusal(MoongateError):
    """One request is answered by the gateway itself instead of a backend.

    `detail` is for the operator. `status` and `code` replace the class's own HTTP status and JSON-RPC code where the
    protocol fixes another one (405, 431, -32020, ...). `headers` are added to the answer (Allow, WWW-Authenticate).
    """

    def __init__(
        self,
        failure: FailureClass,
        detail: str,
        *,
        status: int | None = None,
        code: int | None = None,
        text: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.status = status
        self.code = code
        self.text = text
        self.headers = headers


class UpstreamError(MoongateError):
    """The backend, or the way to it, failed. `detail` names what happened for the operator.

    `final`: a client need not come back to resume what was broken off.
    """

    def __init__(self, failure: FailureClass, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.final = final


class ClientClosed(MoongateError):
    """The client went away before its answer was complete."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing wrong (or, as a warning, unwise) in what the operator wrote.

    `where` is `file:line` or instance and field; `text` says what was found, what is allowed and what to write instead.
    """

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


class ConfigError(MoongateError):
    """The configuration cannot be used; `complaints` holds every reason, never only the first."""

    def __init__(self, complaints: tuple[Complaint, ...]) -> None:
        super().__init__("\n".join(str(complaint) for complaint in complaints))
        self.complaints = complaints


class StartError(MoongateError):
    """The process could not start although the configuration is fine: port taken, certificate unreadable, no key."""
