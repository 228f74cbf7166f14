"""What one request takes along on its way: what its head alone decides (`Admission`), and what is found out later
(`Call`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from moongate.audit.record import arguments, encode
from moongate.errors import FailureClass
from moongate.model.exchange import Exchange
from moongate.policies.acl import Caller
from moongate.protocol.forms import Answer
from moongate.protocol.jsonrpc import Envelope, error_code, negotiated_version, tool_failed, tool_failure
from moongate.protocol.sealed import Address, Session
from moongate.proxy.forward import EVENT_STREAM, JSON, ResponseHeaders, media_type
from moongate.proxy.match import Door
from moongate.proxy.plan import Plan, RoutePlan
from moongate.wire.messages import ResponseHead
from moongate.wire.server import ServerConnection

# What is read without a turn of the connection's task: reading a larger body would hold up everybody else's requests.
INLINE = 64 * 1024


class Admission:
    """What was decided about a head. It holds for the same head on the same connection under the same plan, `until`
    (Unix time).

    `facts` is an exchange as it stood then, to be copied, `record` what its records have in common; `lines` are the
    header lines that go to the backend. `modern`: the version header says so. `query` is the request's, `address` what
    was sealed in the message address of HTTP+SSE. `caller` is whom access rules judge, where there are any.
    `streamable`: it came to the door of streamable HTTP. `plain`: its messages, up to `inline` bytes long, need nothing
    but their backend. `depth`, `strict` and `whole` (arguments are recorded) are the plan's.
    """

    __slots__ = (
        "address",
        "caller",
        "depth",
        "door",
        "facts",
        "inline",
        "lines",
        "modern",
        "plain",
        "plan",
        "query",
        "record",
        "route",
        "session",
        "session_token",
        "streamable",
        "strict",
        "until",
        "whole",
    )

    def __init__(self, plan: Plan, route: RoutePlan, until: float) -> None:
        self.plan = plan
        self.route = route
        self.until = until
        self.facts: Exchange
        self.depth = plan.snapshot.limits.json_depth
        self.strict = plan.snapshot.audit.strict
        self.whole = plan.snapshot.audit.arguments
        self.inline = min(route.route.body_bytes, INLINE)
        self.plain = False
        self.streamable = True
        self.record = b""
        self.modern = False
        self.session: Session | None = None
        self.session_token: bytes | None = None
        self.lines = b""
        self.door = Door.STREAM
        self.query: str | None = None
        self.address: Address | None = None
        self.caller: Caller | None = None


class Passed:
    """The header lines that pass; and for a plain 200 whether it is JSON or an event stream, the usual kinds.

    `made_by` decided it: under another configuration it holds no more.
    """

    __slots__ = ("events", "json", "lines", "made_by")

    def __init__(self, made_by: ResponseHeaders, lines: bytes, *, json: bool, events: bool) -> None:
        self.made_by = made_by
        self.lines = lines
        self.json = json
        self.events = events


class Call:
    """One request after its admission. `expects`: an answer is due. `batch`: the elements of an array.

    `taken`: what was read of the answer already by somebody who then could not use it. `timer`: what ends a request
    that has a limit as a whole. `cut`: takes out of an answer what access rules hide (None: nothing). To an upstream it
    is a `base.Request`.
    """

    __slots__ = (
        "admission",
        "batch",
        "body",
        "connection",
        "cut",
        "exchange",
        "expects",
        "message",
        "modern",
        "taken",
        "timer",
        "turned",
    )

    def __init__(self, connection: ServerConnection, exchange: Exchange, admission: Admission) -> None:
        self.connection = connection
        self.exchange = exchange
        self.admission = admission
        self.modern = admission.modern
        self.expects = False
        self.message: Envelope | None = None
        self.batch: tuple[Envelope, ...] = ()
        self.body: bytes | None = None
        self.taken = b""
        self.cut: Callable[[bytes], bytes] | None = None
        self.timer: asyncio.Timeout | None = None
        self.turned = False

    def turn_to_backend(self, timer: asyncio.Timeout) -> None:
        """The request is judged: from here `Timeouts.total` counts, and at a door of HTTP+SSE, which answers on a
        stream, no limit of the whole any more.
        """
        self.turned = True
        total = self.route.route.target.timeouts.total
        if self.admission.door is not Door.STREAM:
            self.unbind()
        elif total is not None:
            until, before = asyncio.get_running_loop().time() + total, timer.when()
            timer.reschedule(until if before is None else min(until, before))

    def unbind(self) -> None:
        """What follows is an event stream, which only silence ends."""
        if self.timer is not None:
            self.timer.reschedule(None)

    @property
    def route(self) -> RoutePlan:
        """The route it takes."""
        return self.admission.route

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.exchange.method

    @property
    def lines(self) -> bytes:
        """The header lines that go to the backend."""
        return self.admission.lines

    @property
    def principal(self) -> str:
        """What binds sessions to the caller."""
        return self.exchange.principal.key

    @property
    def session(self) -> bytes | None:
        """The backend's own session id."""
        return None if self.admission.session is None else self.admission.session.upstream

    @property
    def revision(self) -> str:
        """The revision that was negotiated, or that the request names."""
        return self.exchange.revision

    @property
    def events(self) -> bool:
        """Whether the client takes an event stream."""
        accept = self.exchange.fields.get(b"accept", b"*/*")
        return EVENT_STREAM in accept or b"*/*" in accept

    @property
    def last_event_id(self) -> bytes | None:
        """Where the client resumes a stream."""
        return self.exchange.fields.get(b"last-event-id")

    @property
    def initializing(self) -> bool:
        """Whether the answer opens a session, so that its revision must be known before its head leaves."""
        return self.message is not None and self.message.method == "initialize" and not self.modern

    @property
    def due(self) -> int:
        """How many answers are awaited."""
        return sum(element.is_request for element in self.batch) if self.batch else 1

    def passed(self, head: ResponseHead) -> Passed:
        """What of a backend's head goes on to the client; found out once for heads that come again."""
        known = head.memo.value
        headers = self.admission.route.response_headers
        if not isinstance(known, Passed) or known.made_by is not headers:
            media = media_type(head.fields) if head.status == 200 and b"content-encoding" not in head.fields else b""
            lines = headers.lines(head)
            known = head.memo.value = Passed(headers, lines, json=media == JSON, events=media == EVENT_STREAM)
        return known

    def answer_lines(self, head: ResponseHead) -> bytes:
        """The header lines of the answer: what passes (`memo` may remember it), the request id, the client's own
        session id.
        """
        passed = self.passed(head).lines
        upstream = head.fields.get(b"mcp-session-id")
        if upstream is None or self.modern:
            return passed + self.own_lines
        return b"%b%bmcp-session-id: %b\r\n" % (passed, self.own_lines, self._session_id(upstream))

    @property
    def own_lines(self) -> bytes:
        """The header lines that every answer has: the request id, and what policies say."""
        exchange = self.exchange
        return b"%bx-request-id: %b\r\n" % (exchange.answer_lines, exchange.request_id.encode())

    def _session_id(self, upstream: bytes) -> bytes:
        admission = self.admission
        if (
            admission.session is not None
            and admission.session_token is not None
            and admission.session.upstream == upstream
        ):
            return admission.session_token
        return admission.plan.sessions.create(upstream, admission.route.route.key, self.exchange)

    def record(self, phase: str = "") -> bytes:
        """The exchange as it stands, as one line of the journal; one for each element of an array."""
        exchange = self.exchange
        if self.connection.gone and self.expects:
            exchange.fail(FailureClass.CLIENT_CLOSED, "the client went away before its answer")
        exchange.recorded = True
        now = time.perf_counter()
        count = self.admission.plan.count
        if not self.batch:
            count(exchange, now, phase)
            return encode(exchange, now, phase, self.admission.record)
        lines = []
        whole = self.admission.whole
        for element in self.batch:
            exchange.rpc_method, exchange.rpc_target = element.method, element.target or ""
            exchange.arguments = arguments(element.arguments, whole=whole)
            count(exchange, now, phase)
            lines.append(encode(exchange, now, phase, self.admission.record))
        return b"".join(lines)

    def inspect(self, answer: Answer, *, suspect: bool = True) -> None:
        """Note in the exchange how the call itself ended. Unless `suspect`, it is known that no tool has failed."""
        exchange = self.exchange
        if answer.error is not None:
            exchange.rpc_code = answer.error.code
            exchange.fail(FailureClass.JSONRPC_ERROR, "")
        elif exchange.rpc_method == "tools/call":
            if suspect and tool_failed(answer):
                exchange.fail(FailureClass.TOOL_ERROR, "")
        elif self.initializing:
            exchange.revision = negotiated_version(answer) or exchange.revision

    def inspect_windows(self, first: bytes, last: bytes) -> None:
        """The same for an answer too long to be held: its first and last bytes tell, in all that SDKs write."""
        code = error_code(first)
        if code is not None:
            self.exchange.rpc_code = code
            self.exchange.fail(FailureClass.JSONRPC_ERROR, "")
        elif self.exchange.rpc_method == "tools/call" and (tool_failure(last) or tool_failure(first)):
            self.exchange.fail(FailureClass.TOOL_ERROR, "")
