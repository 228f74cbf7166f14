"""What the gateway says itself: the one table from failure class to status, JSON-RPC code and text.

The client's text names the kind and the request id; never the rule, the backend, or whether a hidden thing exists.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import NamedTuple

from moongate.audit.redact import RedactingFormatter
from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.policies.trust import is_local
from moongate.protocol.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST, error_message
from moongate.proxy.forward import ResponseHeaders


class Failure(NamedTuple):
    """How a class of failure looks to the client."""

    status: int
    text: str
    code: int = INTERNAL_ERROR


FAILURES: dict[FailureClass, Failure] = {
    FailureClass.BAD_REQUEST: Failure(400, "The request is malformed", INVALID_REQUEST),
    FailureClass.NOT_FOUND: Failure(404, "Nothing is served at this address"),
    FailureClass.TOO_LARGE: Failure(413, "The request is too large"),
    FailureClass.UNSUPPORTED: Failure(415, "The request's form is not supported"),
    FailureClass.UNAUTHENTICATED: Failure(401, "A valid token is needed"),
    FailureClass.DENIED: Failure(403, "This is not allowed"),
    FailureClass.RATE_LIMITED: Failure(429, "Too many requests"),
    FailureClass.UPSTREAM_DNS: Failure(502, "The server behind the gateway could not be found"),
    FailureClass.UPSTREAM_CONNECT: Failure(502, "The server behind the gateway could not be reached"),
    FailureClass.UPSTREAM_TLS: Failure(502, "No secure connection to the server behind the gateway"),
    FailureClass.UPSTREAM_RESET: Failure(502, "The server behind the gateway broke off its answer"),
    FailureClass.UPSTREAM_PROTOCOL: Failure(502, "The server behind the gateway gave an answer that cannot be used"),
    FailureClass.UPSTREAM_TIMEOUT: Failure(504, "The server behind the gateway did not answer in time"),
    FailureClass.UPSTREAM_HTTP: Failure(502, "The server behind the gateway refused the request"),
    FailureClass.PROCESS_START: Failure(502, "The server behind the gateway could not be started"),
    FailureClass.PROCESS_EXIT: Failure(502, "The server behind the gateway has ended"),
    FailureClass.JSONRPC_ERROR: Failure(200, "The call failed"),
    FailureClass.TOOL_ERROR: Failure(200, "The tool reported an error"),
    FailureClass.CLIENT_CLOSED: Failure(499, "The client went away"),
    FailureClass.INTERNAL: Failure(500, "The gateway itself failed"),
}


_OF_PROCESSES = frozenset({FailureClass.PROCESS_START, FailureClass.PROCESS_EXIT})
MAX_DETAIL = 4096


class OwnAnswer(NamedTuple):
    """An answer that the gateway writes: status, header lines, body."""

    status: int
    lines: bytes
    body: bytes


def own_answer(
    exchange: Exchange, failure: FailureClass, refusal: Refusal | None = None, route: ResponseHeaders | None = None
) -> OwnAnswer:
    """The answer for a failure; a refusal may name another status, code, text and further headers.

    `route` changes its headers as the operator wants.
    """
    row = FAILURES[failure]
    status, code, text = row.status, row.code, row.text
    request_id = (b"x-request-id", exchange.request_id.encode())
    fields = [(b"content-type", b"application/json"), (b"date", formatdate(time.time(), usegmt=True).encode())]
    if refusal is not None:
        status = refusal.status or status
        code = refusal.code or code
        text = refusal.text or text
        fields += refusal.headers
    lines = b"".join([b"%b: %b\r\n" % item for item in fields]) if route is None else route.own(fields)
    lines = b"%b%b%b: %b\r\n" % (lines, exchange.answer_lines, *request_id)
    return OwnAnswer(status, lines, failure_body(exchange, failure, text, code))


def failure_body(
    exchange: Exchange, failure: FailureClass, text: str | None = None, code: int = INTERNAL_ERROR
) -> bytes:
    """The JSON-RPC error for a failure, with the request's id where it has one.

    Who is on the gateway's own machine is most likely its operator: he is told why a hosted server failed.
    """
    data = {"class": failure.value, "requestId": exchange.request_id}
    if failure in _OF_PROCESSES and exchange.detail and is_local(exchange):
        data["detail"] = RedactingFormatter.redactor.clean(exchange.detail)[:MAX_DETAIL]
    message = f"{text or FAILURES[failure].text} (request {exchange.request_id})"
    return error_message(code, message, data, exchange.rpc_id)
