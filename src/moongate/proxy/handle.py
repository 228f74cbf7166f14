"""One request from head to record: the whole story, in the order of the architecture.

The plan is taken once, so a reload in mid-request changes nothing. Head policies judge before the body is read; then
the envelope, the session, the backend. Whatever fails is answered by its class and recorded.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from moongate.errors import ClientClosed, FailureClass, Refusal, UpstreamError
from moongate.model.exchange import Exchange
from moongate.model.snapshot import Target
from moongate.policies.base import Verdict
from moongate.policies.cors import judge_public
from moongate.protocol.jsonrpc import Envelope, parse
from moongate.proxy.access import cutter, judge
from moongate.proxy.admit import WELL_KNOWN, admit, known, let_pass, match, note, refused, see_through
from moongate.proxy.answer import relay_body, relay_failure, whole_answer
from moongate.proxy.call import Admission, Call
from moongate.proxy.ends import Ends, malformed
from moongate.proxy.forward import EVENT_STREAM, JSON, media_type
from moongate.proxy.limits import answer_refused, within
from moongate.proxy.match import Door
from moongate.proxy.open_streams import OpenStreams
from moongate.proxy.plan import Plan, RoutePlan
from moongate.proxy.sse import SseDoors
from moongate.proxy.streams import EventRelay
from moongate.upstreams.base import Reply
from moongate.wire.deadlines import Deadlines
from moongate.wire.messages import MalformedMessage, RequestHead, ResponseHead
from moongate.wire.server import ServerConnection

log = logging.getLogger("moongate")

# Judging a larger body would hold up everybody else's requests.
_INLINE_JUDGING = 1024 * 1024

# Three digits each: writing a number anew costs as much as reading a head.
_HEX: Final = [f"{number:03x}" for number in range(0x1000)]
_HEX_BYTE: Final = [f"{number:02x}" for number in range(0x100)]

_UNRECORDED = "the audit journal cannot be written, and audit.mode is strict; free its disk, or set audit.mode: normal"


class DataPlane:
    """Carries requests by the plan in force. `plan` is replaced by one assignment."""

    def __init__(self, plan: Plan, deadlines: Deadlines, doors: SseDoors) -> None:
        self.plan = plan
        self.doors = doors
        self.streams = OpenStreams(lambda: self.plan, deadlines)
        # Whether records cannot be kept now; runtime joins it with the journal.
        self.unrecorded: Callable[[], bool] = bool
        self._deadlines = deadlines
        self._ends = Ends(lambda: self.plan)
        self._prefix = secrets.token_hex(6)
        self._count = 0

    async def handle(self, port: int, connection: ServerConnection, request: RequestHead | MalformedMessage) -> None:
        """Answer one request that came to the bind of `port`. Raises only CancelledError."""
        plan = self.plan
        now = time.time()
        admission = known(plan, connection, request, now)
        route: RoutePlan | None = None
        if admission is not None:
            exchange = admission.facts.again(self._next_id(), now, time.perf_counter())
        else:
            exchange = self._exchange(port, connection, request)
        try:
            if admission is None:
                request = _well_formed(request)
                see_through(plan, exchange)
                judged: Admission | Verdict | None = None
                if request.path.startswith(WELL_KNOWN):
                    judged = judge_public(exchange)
                if judged is None:
                    route, door = match(plan, exchange, request)
                    judged = admit(plan, (route, door), exchange, request, self.doors.addresses)
                if isinstance(judged, Verdict):
                    self._ends.settle(connection, exchange, route, judged)
                    return
                admission = judged
                connection.remember_head()
            elif (limit := admission.route.source_limit) is not None:  # counted for each request
                let_pass(exchange, limit.judge(exchange))
            route = admission.route
            call = Call(connection, exchange, admission)
            forwarding = self._listen(call) if exchange.method == "GET" else self._forward(call)
            await (within(call, forwarding) if route.bounded else forwarding)
        except asyncio.CancelledError:
            self._ends.stopped(exchange)
            raise
        except Exception as error:
            self._ends.failed(connection, exchange, route, error)

    def at_once(self, connection: ServerConnection, request: RequestHead) -> bool:
        """Begin the usual call: a head that came before, a short body that is here. True: it was begun, and goes on as
        soon as its answer is here, without a turn of the connection's task. False: nothing was done.
        """
        now = time.time()
        admission = known(self.plan, connection, request, now)
        if admission is None or not admission.plain or not 0 <= connection.waiting_body() <= admission.inline:
            return False
        exchange = admission.facts.again(self._next_id(), now, time.perf_counter())
        call = Call(connection, exchange, admission)
        try:
            self._read(call, connection.body_now(admission.inline) or b"")
            if self._passes(call):
                self._start(call)
        except Exception as error:
            self._fail_at_once(call, error)
        return True

    # -- before the backend

    def _next_id(self) -> str:
        self._count = count = self._count + 1
        return f"{self._prefix}{_HEX[count >> 20 & 0xFFF]}{_HEX[count >> 8 & 0xFFF]}{_HEX_BYTE[count & 0xFF]}"

    def _exchange(self, port: int, connection: ServerConnection, request: RequestHead | MalformedMessage) -> Exchange:
        head = request if isinstance(request, RequestHead) else RequestHead()
        exchange = Exchange(self._next_id(), time.time(), time.perf_counter(), head.method, head.path, head.fields)
        exchange.more, exchange.query = head.more, head.query
        exchange.source = exchange.peer = connection.peer
        exchange.local_host, exchange.port, exchange.secure = connection.local[0], port, connection.secure
        return exchange

    async def _listen(self, call: Call) -> None:
        self.streams.add(call)
        try:
            await self._forward(call)
        finally:
            self.streams.remove(call)

    async def _forward(self, call: Call) -> None:
        admission, connection = call.admission, call.connection
        if call.exchange.method == "POST":
            limit = admission.route.route.body_bytes
            body = connection.body_now(limit)
            if body is None:
                body = await connection.read_body(limit)
            if len(body) > _INLINE_JUDGING:
                depth = admission.plan.snapshot.limits.json_depth
                self._read(call, body, await asyncio.to_thread(parse, body, depth))
            else:
                self._read(call, body)
        if not self._passes(call):
            return
        if call.timer is not None:
            call.turn_to_backend(call.timer)
        if admission.door is not Door.STREAM:
            await self.doors.forward(call)
            return
        upstream = admission.route.upstream
        await self._finish(call, upstream.send_now(call) or await upstream.send(call))

    def _read(self, call: Call, body: bytes, message: Envelope | list[Envelope] | None = None) -> None:
        """Note what the body says. Raises Refusal."""
        call.body = body
        call.exchange.bytes_in = len(body)
        note(call, parse(body, call.admission.depth) if message is None else message)

    def _passes(self, call: Call) -> bool:
        """Whether a call may go to its backend; if not, it has been answered. Raises Refusal."""
        admission = call.admission
        if admission.strict and self.unrecorded():
            raise Refusal(FailureClass.INTERNAL, _UNRECORDED, status=503, text="Calls cannot be recorded now")
        if admission.caller is not None:
            if call.exchange.method == "POST" and self._refused(call, judge(call, admission.caller)):
                return False
            call.cut = cutter(call, admission.caller)
        counters = admission.route.message_limit
        if counters is None:
            return True
        return not self._refused(call, counters.judge_messages(call.exchange, max(1, len(call.batch))))

    # -- without a turn of the connection's task

    def _start(self, call: Call) -> None:
        """Send it; what comes is looked at by `came`, or by the connection's task if that has to wait."""
        connection = call.connection
        reply = call.route.upstream.send_now(call)
        connection.underway = begun = _Begun(self, call, reply)
        if reply is not None and not call.initializing and reply.listen(begun):
            if call.modern:
                connection.on_gone = reply.cancel
        else:
            connection.go_on(partial(self.go_on, call, reply))

    def cut_off(self, call: Call, reply: Reply | None) -> None:
        """The gateway cannot wait for it any longer."""
        self._ends.stopped(call.exchange)
        if reply is not None:
            reply.cancel()

    def came(self, call: Call, reply: Reply) -> None:
        """Something of the answer is here, or will never be."""
        connection = call.connection
        if call.exchange.recorded:  # it was cut off
            return
        try:
            head = reply.arrived()
            answer = None
            if head is not None:
                call.exchange.record_head(head.status)
                answer = whole_answer(call, reply, head)
            if answer is None:
                connection.go_on(partial(self.go_on, call, reply))
            else:
                call.admission.plan.commit(call.record(), answer)
        except Exception as error:
            reply.cancel()
            self._fail_at_once(call, ClientClosed() if isinstance(error, UpstreamError) and connection.gone else error)

    def _fail_at_once(self, call: Call, error: Exception) -> None:
        self._ends.failed(call.connection, call.exchange, call.route, error)
        if call.connection.gone:  # then no answer ends it
            call.connection.end_at_once()

    async def go_on(self, call: Call, reply: Reply | None) -> None:
        """What is left of it, for the connection's task."""
        try:
            await self._finish(call, reply or await call.route.upstream.send(call))
        except asyncio.CancelledError:
            self._ends.stopped(call.exchange)
            raise
        except Exception as error:
            self._ends.failed(call.connection, call.exchange, call.route, error)

    # -- after the backend

    async def _finish(self, call: Call, reply: Reply) -> None:
        connection, method = call.connection, call.exchange.method
        if method == "GET":
            connection.on_drain = reply.cancel
        if call.modern or method == "GET" or call.initializing:  # a session that nobody knows is of no use
            connection.on_gone = reply.cancel
            if connection.gone:
                reply.cancel()
        try:
            head = await reply.head()
            if head.status in (307, 308):
                reply, head = await self._redirected(call, reply, head)
            call.exchange.record_head(head.status)
            tried = bool(call.taken)
            if not tried and reply.complete and (answer := whole_answer(call, reply, head)) is not None:
                call.admission.plan.commit(call.record(), answer)
            else:
                await self._deliver(call, reply, head)
        except UpstreamError:
            reply.cancel()
            if connection.gone:
                raise ClientClosed from None
            raise
        except BaseException:
            reply.cancel()
            raise

    def _refused(self, call: Call, verdict: Verdict) -> bool:
        """Whether a call was refused, and told so in its answer. Raises Refusal, if it has to be told by the status."""
        if verdict.refusal is None:
            return False
        refusal = refused(call.exchange, verdict, verdict.refusal)
        if call.admission.door is Door.MESSAGES and self.doors.refuse(call, refusal):
            return True
        if call.modern or not call.expects:
            raise refusal
        answer_refused(call, refusal)
        return True

    async def _redirected(self, call: Call, reply: Reply, response: ResponseHead) -> tuple[Reply, ResponseHead]:
        """Follow 307 and 308 once, on the same origin (RFC 9110 section 15.4): SDK servers ask so for a slash."""
        location = response.fields.get(b"location", b"")
        target = call.route.route.target
        path = target.local_path(location.decode("latin-1")) if isinstance(target, Target) else None
        reply.cancel()
        if path is None:
            raise UpstreamError(
                FailureClass.UPSTREAM_PROTOCOL, f"the backend redirects ({response.status}) to elsewhere"
            )
        following = await call.route.upstream.send(call, path)
        if call.modern or call.exchange.method == "GET":
            call.connection.on_gone = following.cancel
            if call.connection.gone:
                following.cancel()
        try:
            return following, await following.head()
        except BaseException:
            following.cancel()
            raise

    async def _deliver(self, call: Call, reply: Reply, head: ResponseHead) -> None:
        media = media_type(head.fields)
        if head.status >= 400:
            await relay_failure(call, reply, head)
        elif head.status >= 300:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"the backend answered {head.status}")
        elif media == EVENT_STREAM:
            call.unbind()
            relay = EventRelay(call, reply, head, self._deadlines)
            self.streams.add(call, relay.revoke)
            try:
                await relay.run()
            finally:
                self.streams.remove(call)
        elif call.expects and media != JSON:
            detail = f"the backend answered {head.status} with neither JSON nor an event stream"
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
        else:
            await relay_body(call, reply, head)


class _Begun:
    """A call that was begun at once, while its answer is on its way."""

    __slots__ = ("_call", "_plane", "_reply")

    def __init__(self, plane: DataPlane, call: Call, reply: Reply | None) -> None:
        self._plane = plane
        self._call = call
        self._reply = reply

    def heard(self) -> None:
        """See `wire.client.Listener`."""
        if self._reply is not None:
            self._plane.came(self._call, self._reply)

    def cut_off(self) -> None:
        """See `wire.server.Underway`."""
        self._plane.cut_off(self._call, self._reply)


def _well_formed(request: RequestHead | MalformedMessage) -> RequestHead:
    if isinstance(request, MalformedMessage):
        raise malformed(request)
    return request
