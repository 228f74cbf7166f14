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

from moongate.audit.record import encode, facts
from moongate.audit.redact import RedactingFormatter
from moongate.errors import ClientClosed, FailureClass, Refusal, UpstreamError
from moongate.model.exchange import Exchange
from moongate.model.snapshot import Target
from moongate.policies.base import Verdict
from moongate.policies.host import split_authority
from moongate.policies.pipeline import judge_head
from moongate.protocol.jsonrpc import Envelope, parse, refuse
from moongate.protocol.revisions import BATCHES, check_mirrors, is_modern
from moongate.proxy.answer import relay_body, relay_failure, whole_answer
from moongate.proxy.call import Admission, Call
from moongate.proxy.forward import EVENT_STREAM, JSON, media_type
from moongate.proxy.match import Door
from moongate.proxy.plan import Plan, RoutePlan
from moongate.proxy.reply import own_answer
from moongate.proxy.sse import SseDoors, check_method
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
_JUDGED = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"content-type"})
_SINGLE = frozenset(
    {b"mcp-session-id", b"mcp-protocol-version", b"content-type", b"content-encoding", b"last-event-id"}
)


class DataPlane:
    """Carries requests by the plan in force. `plan` is replaced by one assignment."""

    def __init__(self, plan: Plan, deadlines: Deadlines, doors: SseDoors) -> None:
        self.plan = plan
        self.doors = doors
        self._deadlines = deadlines
        self._ids = map(f"{secrets.token_hex(6)}{{:08x}}".format, itertools.count(1))

    async def handle(self, port: int, connection: ServerConnection, request: RequestHead | MalformedMessage) -> None:
        """Answer one request that came to the bind of `port`. Raises only CancelledError."""
        plan = self.plan
        now = time.time()
        admission = _known(plan, connection, request, now)
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
                route, door = self._match(plan, exchange, request)
                admission = self._admit(plan, (route, door), exchange, request)
                connection.remember_head()
            route = admission.route
            await self._forward(Call(connection, exchange, admission))
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
        )

    def _admit(
        self, plan: Plan, matched: tuple[RoutePlan, Door], exchange: Exchange, request: RequestHead
    ) -> Admission:
        """What the head alone decides: principal, session, what goes to the backend. Raises Refusal."""
        request.memo.value = None
        route, door = matched
        exchange.route = route.route.name
        verdict = judge_head(route.policies, exchange)
        if verdict.refusal is not None:
            raise self._judged(exchange, verdict, verdict.refusal)
        _check_door(door, request)
        _check_single(request)
        admission = Admission(plan, route, verdict.until)
        admission.door, admission.query = door, request.query
        if door is Door.MESSAGES:
            admission.address = address = self.doors.addresses.open(request.query, route.route.key, exchange)
            admission.until = min(admission.until, address.expires)
        if request.method == "POST":
            _check_media(request)
        version = request.fields.get(b"mcp-protocol-version")
        admission.modern = is_modern(version, None)
        token = request.fields.get(b"mcp-session-id")
        if token is not None and not admission.modern and door is Door.STREAM:
            self._enter(admission, exchange, token)
        elif version is not None:
            exchange.revision = version.decode("latin-1")
        admission.facts = copy(exchange)
        admission.record = facts(exchange)
        admission.lines = route.request_headers.lines(
            request, None if admission.session is None else admission.session.upstream
        )
        request.memo.value = admission
        return admission

    def _enter(self, admission: Admission, exchange: Exchange, token: bytes) -> None:
        session = admission.plan.sessions.open(token, admission.route.route.key, exchange)
        admission.session, admission.session_token = session, token
        admission.until = min(admission.until, session.expires)
        exchange.revision = session.revision
        exchange.client = session.client

    def _match(self, plan: Plan, exchange: Exchange, request: RequestHead) -> tuple[RoutePlan, Door]:
        hosts = plan.binds.get(exchange.port)
        if hosts is None or request.path.startswith(_WELL_KNOWN):
            raise Refusal(FailureClass.NOT_FOUND, "no such document" if hosts else "the listener was removed")
        host = request.fields.get(b"host", b"").decode("ascii")
        router = hosts.find(split_authority(host)[0])
        if router is None:
            text = f"no listener on port {exchange.port} has the hostname {host!r}; set listeners[].hostname"
            log.info("%s refused: %s", exchange.request_id, text)
            raise Refusal(FailureClass.NOT_FOUND, text)
        found = router.find(request.method, request.path, request.query, request.fields)
        if found is None:
            raise Refusal(FailureClass.NOT_FOUND, "no route matches")
        return found

    def _judged(self, exchange: Exchange, verdict: Verdict, refusal: Refusal) -> Refusal:
        log.info(
            "%s refused by %s: %s%s",
            exchange.request_id,
            verdict.policy,
            verdict.reason,
            f"; to change this, set {verdict.setting}" if verdict.setting else "",
        )
        return refusal

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
            self._note(call, await asyncio.to_thread(parse, body, depth) if big else parse(body, depth))
        if admission.door is not Door.STREAM:
            await self.doors.forward(call)
            return
        upstream = admission.route.upstream
        reply = upstream.send_now(call)
        if reply is None:
            reply = await upstream.send(call)
        if method == "GET":
            connection.on_drain = reply.cancel
        if call.modern or method == "GET":
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

    def _note(self, call: Call, message: Envelope | list[Envelope]) -> None:
        """What the body says: into the exchange, and held against the head. Raises Refusal."""
        exchange = call.exchange
        if isinstance(message, list):
            session = call.admission.session
            if session is None or session.revision != BATCHES:
                raise refuse(f"an array of messages; only sessions of revision {BATCHES} have them")
            call.expects = any(element.is_request for element in message)
            call.batch = tuple(message)
            return
        call.message = message
        exchange.rpc_method = message.method
        exchange.rpc_target = message.target or ""
        if message.id is not None and message.method:
            call.expects = True
            exchange.rpc_id = message.id
        if message.client:
            exchange.client = message.client
        if message.version is not None:
            exchange.revision = message.version
        if call.modern or is_modern(None, message):
            call.modern = True
            check_mirrors(exchange.fields, exchange.more, message)

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
            await EventRelay(call, reply, head, self._deadlines).run()
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
        if exchange.failure is not None:  # what clients say in vain may be a secret in the wrong place
            clean = RedactingFormatter.redactor.clean
            exchange.path, exchange.detail = clean(exchange.path), clean(exchange.detail)
        self.plan.commit(encode(exchange, time.perf_counter()), then)


def _well_formed(request: RequestHead | MalformedMessage) -> RequestHead:
    if isinstance(request, MalformedMessage):
        raise _malformed(request)
    return request


def _known(
    plan: Plan, connection: ServerConnection, request: RequestHead | MalformedMessage, now: float
) -> Admission | None:
    """What was decided when this head came before.

    Clients send the same head again and again; what was decided for it holds under the same plan, for the same
    addresses, until a token or the session expires.
    """
    known = request.memo.value if isinstance(request, RequestHead) else None
    if not isinstance(known, Admission) or known.plan is not plan or known.until <= now:
        return None
    facts = known.facts
    if facts.source != connection.peer or facts.local_host != connection.local[0]:
        return None
    return known


def _check_door(door: Door, request: RequestHead) -> None:
    if door is not Door.STREAM:
        check_method(door, request)
    elif request.method not in _METHODS:
        raise Refusal(FailureClass.UNSUPPORTED, f"method {request.method}", status=405, headers=_ALLOW)


def _check_single(request: RequestHead) -> None:
    for name, _ in request.more:
        modern = name == b"mcp-protocol-version" and is_modern(request.fields[name], None)
        if name in _SINGLE and not modern:  # there, check_mirrors has a code of its own for it
            raise refuse(f"{name.decode()} stands more than once")
    if b"connection" in request.fields and (named := request.connection_options() & _JUDGED):
        raise refuse(f"Connection names {min(named).decode()}, which is judged here and must reach the backend")


def _check_media(request: RequestHead) -> None:
    if media_type(request.fields) != JSON:
        raise Refusal(FailureClass.UNSUPPORTED, "Content-Type is not application/json")
    if request.fields.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(FailureClass.UNSUPPORTED, "a request body must not have a content coding")


def _malformed(error: MalformedMessage) -> Refusal:
    if error.status == 413:
        return Refusal(FailureClass.TOO_LARGE, error.detail)
    if error.status == 503:
        return Refusal(FailureClass.RATE_LIMITED, error.detail, status=503)
    return Refusal(FailureClass.BAD_REQUEST, error.detail, status=error.status)


def _nothing() -> None:
    """No answer is waiting for this record."""
