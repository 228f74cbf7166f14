"""One request from head to record: the whole story, in the order of the architecture.

The plan is taken once, so a reload in mid-request changes nothing. Head policies judge before the body is read; then the
envelope, the session, the backend. Whatever fails is answered by its class and recorded.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial

from moongate.audit.journal import Journal
from moongate.audit.record import encode
from moongate.errors import ClientClosed, FailureClass, Refusal, UpstreamError
from moongate.model.exchange import Exchange
from moongate.policies.base import Verdict
from moongate.policies.host import split_authority
from moongate.policies.pipeline import judge_head
from moongate.protocol.jsonrpc import Envelope, parse, refuse
from moongate.protocol.revisions import BATCHES, check_mirrors, is_modern
from moongate.proxy.answer import EVENT_STREAM, JSON, Call, relay_body, relay_failure
from moongate.proxy.forward import media_type
from moongate.proxy.match import Door
from moongate.proxy.plan import Plan, RoutePlan
from moongate.proxy.reply import own_answer
from moongate.proxy.sessions import Sessions
from moongate.proxy.streams import EventRelay
from moongate.upstreams.base import Reply
from moongate.wire.deadlines import Deadlines
from moongate.wire.messages import MalformedMessage, RequestHead, ResponseHead
from moongate.wire.server import ServerConnection

log = logging.getLogger("moongate")

_METHODS = ("POST", "GET", "DELETE")
_ALLOW = ((b"allow", b"GET, POST, DELETE"),)
# Judging a larger body would hold up everybody else's requests.
_INLINE_JUDGING = 1024 * 1024
_WELL_KNOWN = "/.well-known/"
_SINGLE = frozenset({b"mcp-session-id", b"mcp-protocol-version", b"content-type", b"content-encoding", b"last-event-id"})


class DataPlane:
    """Carries requests by the plan in force. `plan` is replaced by one assignment."""

    def __init__(self, plan: Plan, sessions: Sessions, journal: Journal, deadlines: Deadlines) -> None:
        self.plan = plan
        self._sessions = sessions
        self._journal = journal
        self._deadlines = deadlines
        self._ids = map(f"{secrets.token_hex(6)}{{:08x}}".format, itertools.count(1))

    async def handle(self, port: int, connection: ServerConnection, request: RequestHead | MalformedMessage) -> None:
        """Answer one request that came to the bind of `port`. Raises only CancelledError."""
        plan = self.plan
        exchange = self._exchange(port, connection, request)
        route: RoutePlan | None = None
        try:
            if isinstance(request, MalformedMessage):
                raise _malformed(request)
            route, door = self._match(plan, port, exchange, request)
            exchange.route = route.route.name
            if (verdict := judge_head(route.policies, exchange)) is not None:
                raise self._judged(exchange, verdict)
            _check_door(door, request)
            call = Call(connection, request, exchange, route, self._journal.commit, self._sessions)
            await self._forward(plan, call)
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
        known = isinstance(request, RequestHead)
        return Exchange(
            request_id=next(self._ids),
            time=time.time(),
            started=time.perf_counter(),
            source=connection.peer,
            method=request.method if known else "",
            path=request.path if known else "",
            fields=request.fields if known else {},
            more=request.more if known else [],
            local_host=connection.local[0],
            port=port,
            secure=connection.secure,
        )

    def _match(self, plan: Plan, port: int, exchange: Exchange, request: RequestHead) -> tuple[RoutePlan, Door]:
        hosts = plan.binds.get(port)
        if hosts is None or request.path.startswith(_WELL_KNOWN):
            raise Refusal(FailureClass.NOT_FOUND, "no such document" if hosts else "the listener was removed")
        host = request.fields.get(b"host", b"").decode("ascii")
        router = hosts.find(split_authority(host)[0])
        if router is None:
            text = f"no listener on port {port} has the hostname {host!r}; set listeners[].hostname"
            log.info("%s refused: %s", exchange.request_id, text)
            raise Refusal(FailureClass.NOT_FOUND, text)
        found = router.find(request.method, request.path, request.query, request.fields)
        if found is None:
            raise Refusal(FailureClass.NOT_FOUND, "no route matches")
        return found

    def _judged(self, exchange: Exchange, verdict: Verdict) -> Refusal:
        log.info(
            "%s refused by %s: %s%s",
            exchange.request_id,
            verdict.policy,
            verdict.reason,
            f"; to change this, set {verdict.setting}" if verdict.setting else "",
        )
        return verdict.refusal or Refusal(FailureClass.DENIED, verdict.reason)

    async def _forward(self, plan: Plan, call: Call) -> None:
        head = call.head
        if head.more:
            for name, _ in head.more:
                if name in _SINGLE:
                    raise refuse(f"{name.decode()} stands more than once")
        body: bytes | None = None
        if head.method == "POST":
            body = await self._read_message(plan, call)
        else:
            call.modern = is_modern(head.fields.get(b"mcp-protocol-version"), None)
        self._find_session(call)
        lines = call.route.request_headers.lines(head, call.session.upstream if call.session is not None else None)
        upstream = call.route.upstream
        reply = upstream.send_now(head.method, lines, body) or await upstream.send(head.method, lines, body)
        if call.modern or head.method == "GET":
            call.connection.on_gone = reply.cancel
        if call.connection.gone and call.connection.on_gone is not None:
            reply.cancel()
        try:
            response = await reply.head()
            if response.status in (307, 308):
                reply, response = await self._redirected(call, reply, response, lines, body)
            call.exchange.status = response.status
            call.exchange.first_byte = time.perf_counter()
            await self._deliver(call, reply, response)
        except UpstreamError:
            reply.cancel()
            if call.connection.gone:
                raise ClientClosed from None
            raise
        except BaseException:
            reply.cancel()
            raise

    async def _read_message(self, plan: Plan, call: Call) -> bytes:
        """The body of a POST, judged: envelope, era, array rule, mirrored headers. Raises Refusal."""
        head, exchange, route = call.head, call.exchange, call.route.route
        if media_type(head.fields) != JSON:
            raise Refusal(FailureClass.UNSUPPORTED, "Content-Type is not application/json")
        if head.fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refusal(FailureClass.UNSUPPORTED, "a request body must not have a content coding")
        body = await call.connection.read_body(route.body_bytes)
        exchange.bytes_in = len(body)
        depth = plan.snapshot.limits.json_depth
        if len(body) > _INLINE_JUDGING:
            message = await asyncio.to_thread(parse, body, depth)
        else:
            message = parse(body, depth)
        version = head.fields.get(b"mcp-protocol-version")
        if isinstance(message, list):
            self._find_session(call)
            if call.session is None or call.session.revision != BATCHES:
                raise refuse(f"an array of messages; only sessions of revision {BATCHES} have them")
            call.expects = any(element.is_request for element in message)
            exchange.rpc_method = ",".join(element.method for element in message if element.method)
            return body
        self._note(call, message, version)
        call.modern = is_modern(version, message)
        if call.modern:
            check_mirrors(head.fields, head.more, message)
        return body

    def _note(self, call: Call, message: Envelope, version: bytes | None) -> None:
        exchange = call.exchange
        call.message = message
        call.expects = message.is_request
        exchange.rpc_method = message.method
        exchange.rpc_target = message.target or ""
        exchange.client = message.client
        exchange.revision = message.version or (version or b"").decode("latin-1")
        if message.is_request:
            exchange.rpc_id = message.id

    def _find_session(self, call: Call) -> None:
        token = call.head.fields.get(b"mcp-session-id")
        if token is None or call.modern or call.session is not None:
            return
        session = self._sessions.open(token, call.route.route.key, call.exchange)
        call.session, call.session_token = session, token
        call.exchange.revision = session.revision
        call.exchange.client = session.client

    # -- after the backend

    async def _redirected(
        self, call: Call, reply: Reply, response: ResponseHead, lines: bytes, body: bytes | None
    ) -> tuple[Reply, ResponseHead]:
        """Follow 307 and 308 once, on the same origin (RFC 9110 section 15.4): SDK servers so ask for a missing slash."""
        location = response.fields.get(b"location", b"")
        path = call.route.route.target.local_path(location.decode("latin-1"))
        reply.cancel()
        if path is None:
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"the backend redirects ({response.status}) to elsewhere")
        following = await call.route.upstream.send(call.head.method, lines, body, path)
        if call.connection.on_gone is not None:
            call.connection.on_gone = following.cancel
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
            await EventRelay(call, reply, head, self._deadlines).run()
        elif call.expects and media != JSON:
            detail = f"the backend answered {head.status} with neither JSON nor an event stream"
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, detail)
        else:
            await relay_body(call, reply, head)

    # -- when it does not work

    def _refuse(self, connection: ServerConnection, exchange: Exchange, route: RoutePlan | None, refusal: Refusal) -> None:
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
        added = route.response_headers.added if route is not None else b""
        own = own_answer(exchange, failure, refusal, added)
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
        self._journal.commit(encode(exchange, time.perf_counter()), then)


def _check_door(door: Door, request: RequestHead) -> None:
    if door is Door.SSE:
        if request.method != "GET":
            text = "messages are not posted to an SSE address"
            raise Refusal(FailureClass.UNSUPPORTED, text, status=405, headers=((b"allow", b"GET"),))
        raise Refusal(FailureClass.UNSUPPORTED, "HTTP+SSE is not served yet", status=501)
    if request.method not in _METHODS:
        raise Refusal(FailureClass.UNSUPPORTED, f"method {request.method}", status=405, headers=_ALLOW)


def _malformed(error: MalformedMessage) -> Refusal:
    if error.status == 413:
        return Refusal(FailureClass.TOO_LARGE, error.detail)
    return Refusal(FailureClass.BAD_REQUEST, error.detail, status=error.status)


def _nothing() -> None:
    """No answer is waiting for this record."""
