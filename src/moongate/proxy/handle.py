"""One request from head to record: the whole story, in the order of the architecture.

The plan is taken once, so a reload in mid-request changes nothing. Head policies judge before the body is read; then
the envelope, the session, the backend. Whatever fails is answered by its class and recorded.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable
from copy import copy
from functools import partial

from moongate.audit.record import encode
from moongate.errors import ClientClosed, FailureClass, Refusal, UpstreamError
from moongate.model.exchange import Exchange
from moongate.model.snapshot import Target
from moongate.policies.base import HeadAnswer, Verdict
from moongate.policies.cors import judge_public
from moongate.protocol.jsonrpc import parse
from moongate.proxy.access import cutter, judge
from moongate.proxy.admit import WELL_KNOWN, admit, known, let_pass, match, note, refused, see_through
from moongate.proxy.answer import relay_body, relay_failure, whole_answer
from moongate.proxy.call import Admission, Call
from moongate.proxy.forward import EVENT_STREAM, JSON, media_type
from moongate.proxy.limits import answer_refused, within
from moongate.proxy.match import Door
from moongate.proxy.open_streams import OpenStreams
from moongate.proxy.plan import Plan, RoutePlan
from moongate.proxy.reply import own_answer
from moongate.proxy.sse import SseDoors
from moongate.proxy.streams import EventRelay
from moongate.upstreams.base import Reply
from moongate.wire.deadlines import Deadlines
from moongate.wire.messages import MalformedMessage, RequestHead, ResponseHead
from moongate.wire.server import ServerConnection

log = logging.getLogger("moongate")

# Judging a larger body would hold up everybody else's requests.
_INLINE_JUDGING = 1024 * 1024

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
        self._ids = map(f"{secrets.token_hex(6)}{{:08x}}".format, itertools.count(1))

    async def handle(self, port: int, connection: ServerConnection, request: RequestHead | MalformedMessage) -> None:
        """Answer one request that came to the bind of `port`. Raises only CancelledError."""
        plan = self.plan
        now = time.time()
        admission = known(plan, connection, request, now)
        route: RoutePlan | None = None
        if admission is not None:
            exchange = copy(admission.facts)
            exchange.request_id = next(self._ids)
            exchange.time = now
            exchange.started = time.perf_counter()
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
                    self._settle(connection, exchange, route, judged)
                    return
                admission = judged
                connection.remember_head()
            elif (limit := admission.route.source_limit) is not None:  # counted for each request
                let_pass(exchange, limit.judge(exchange))
            route = admission.route
            call = Call(connection, exchange, admission)
            forwarding = self._listen(call) if exchange.method == "GET" else self._forward(call)
            await (within(call, forwarding) if route.bounded else forwarding)
        except ClientClosed:
            self._gone(exchange)
        except MalformedMessage as error:
            self._refuse(connection, exchange, route, _malformed(error))
        except Refusal as refusal:
            self._refuse(connection, exchange, route, refusal)
        except UpstreamError as error:
            log.warning("%s %s: %s: %s", exchange.request_id, exchange.route, error.failure.value, error.detail)
            exchange.fail(error.failure, error.detail)
            self._answer(connection, exchange, route, error.failure)
        except asyncio.CancelledError:
            exchange.fail(FailureClass.CLIENT_CLOSED, "cut off while the gateway was stopping")
            self._gone(exchange)
            raise
        except Exception:
            log.exception("%s %s: internal failure", exchange.request_id, exchange.route)
            exchange.fail(FailureClass.INTERNAL, "see the log")
            self._answer(connection, exchange, route, FailureClass.INTERNAL)

    # -- before the backend

    def _exchange(self, port: int, connection: ServerConnection, request: RequestHead | MalformedMessage) -> Exchange:
        head = request if isinstance(request, RequestHead) else RequestHead()
        return Exchange(
            request_id=next(self._ids),
            time=time.time(),
            started=time.perf_counter(),
            source=connection.peer,
            method=head.method,
            path=head.path,
            fields=head.fields,
            more=head.more,
            local_host=connection.local[0],
            port=port,
            secure=connection.secure,
            query=head.query,
            peer=connection.peer,
        )

    def _settle(
        self, connection: ServerConnection, exchange: Exchange, route: RoutePlan | None, verdict: Verdict
    ) -> None:
        """Give a policy's own answer. What it leaves to be wished for has a setting, and is explained."""
        answer = verdict.answer or HeadAnswer(500)
        if verdict.setting:
            log.info("%s answered by %s", exchange.request_id, verdict.words)
            exchange.fail(FailureClass.DENIED, verdict.words)
        exchange.status, exchange.bytes_out = answer.status, len(answer.body)
        lines = answer.lines
        if answer.changeable and route is not None:
            fields = [line.partition(b": ") for line in lines.split(b"\r\n") if line]
            lines = route.response_headers.own([(name, value) for name, _, value in fields])
        own = b"%b%bx-request-id: %b\r\n" % (lines, exchange.answer_lines, exchange.request_id.encode())
        framed = connection.frame(answer.status, own, len(answer.body))
        self._record(exchange, partial(connection.answer, framed, answer.body))

    async def _listen(self, call: Call) -> None:
        self.streams.add(call)
        try:
            await self._forward(call)
        finally:
            self.streams.remove(call)

    async def _forward(self, call: Call) -> None:
        admission, connection, method = call.admission, call.connection, call.exchange.method
        if method == "POST":
            limit = admission.route.route.body_bytes
            body = connection.body_now(limit)
            if body is None:
                body = await connection.read_body(limit)
            call.body = body
            call.exchange.bytes_in = len(body)
            depth = admission.plan.snapshot.limits.json_depth
            big = len(body) > _INLINE_JUDGING
            note(call, await asyncio.to_thread(parse, body, depth) if big else parse(body, depth))
        if admission.plan.snapshot.audit.strict and self.unrecorded():
            raise Refusal(FailureClass.INTERNAL, _UNRECORDED, status=503, text="Calls cannot be recorded now")
        if admission.caller is not None:
            if method == "POST" and self._refused(call, judge(call, admission.caller)):
                return
            call.cut = cutter(call, admission.caller)
        counters = admission.route.message_limit
        if counters is not None:
            counted = counters.judge_messages(call.exchange, max(1, len(call.batch)))
            if self._refused(call, counted):
                return
        if call.timer is not None:
            call.turn_to_backend(call.timer)
        if admission.door is not Door.STREAM:
            await self.doors.forward(call)
            return
        upstream = admission.route.upstream
        reply = upstream.send_now(call)
        if reply is None:
            reply = await upstream.send(call)
        if method == "GET":
            connection.on_drain = reply.cancel
        if call.modern or method == "GET" or call.initializing:  # a session that nobody knows is of no use
            connection.on_gone = reply.cancel
            if connection.gone:
                reply.cancel()
        try:
            response = await reply.head()
            if response.status in (307, 308):
                reply, response = await self._redirected(call, reply, response)
            call.exchange.record_head(response.status)
            if reply.complete and (answer := whole_answer(call, reply, response)) is not None:
                admission.plan.commit(call.record(), answer)
            else:
                await self._deliver(call, reply, response)
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

    # -- after the backend

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

    # -- when it does not work

    def _refuse(
        self, connection: ServerConnection, exchange: Exchange, route: RoutePlan | None, refusal: Refusal
    ) -> None:
        exchange.fail(refusal.failure, refusal.detail)
        self._answer(connection, exchange, route, refusal.failure, refusal)

    def _answer(
        self,
        connection: ServerConnection,
        exchange: Exchange,
        route: RoutePlan | None,
        failure: FailureClass,
        refusal: Refusal | None = None,
    ) -> None:
        if connection.gone:
            self._gone(exchange)
            return
        if connection.begun:
            self._record(exchange, connection.abort)
            return
        own = own_answer(exchange, failure, refusal, None if route is None else route.response_headers)
        exchange.status = own.status
        exchange.bytes_out = len(own.body)
        framed = connection.frame(own.status, own.lines, len(own.body))
        self._record(exchange, partial(connection.answer, framed, own.body))

    def _gone(self, exchange: Exchange) -> None:
        if not exchange.recorded:
            exchange.fail(FailureClass.CLIENT_CLOSED, "the client went away")
            self._record(exchange, _nothing)

    def _record(self, exchange: Exchange, then: Callable[[], None]) -> None:
        exchange.recorded = True
        now = time.perf_counter()
        self.plan.count(exchange, now, "")
        self.plan.commit(encode(exchange, now), then)


def _well_formed(request: RequestHead | MalformedMessage) -> RequestHead:
    if isinstance(request, MalformedMessage):
        raise _malformed(request)
    return request


def _malformed(error: MalformedMessage) -> Refusal:
    if error.status == 413:
        return Refusal(FailureClass.TOO_LARGE, error.detail)
    if error.status == 503:
        return Refusal(FailureClass.RATE_LIMITED, error.detail, status=503)
    return Refusal(FailureClass.BAD_REQUEST, error.detail, status=error.status)


def _nothing() -> None:
    """No answer is waiting for this record."""
