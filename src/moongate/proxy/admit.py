"""What a request's head alone decides: its client, its route, whether the policies let it in, what goes to the backend.

No body is read here, and nothing is awaited. `note` is what its body adds.
"""

from __future__ import annotations

import logging

from moongate.audit.record import arguments, facts
from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.policies.base import Verdict
from moongate.policies.host import split_authority
from moongate.policies.pipeline import judge_head
from moongate.policies.trust import is_local
from moongate.protocol.jsonrpc import Envelope, refuse
from moongate.protocol.revisions import BATCHES, check_mirrors, is_modern
from moongate.proxy.call import Admission, Call
from moongate.proxy.forward import JSON, media_type
from moongate.proxy.match import Door
from moongate.proxy.plan import Plan, RoutePlan
from moongate.proxy.sse import Addresses, check_method
from moongate.wire.messages import MalformedMessage, RequestHead
from moongate.wire.server import ServerConnection

log = logging.getLogger("moongate")

_METHODS = ("POST", "GET", "DELETE")
_ALLOW = ((b"allow", b"GET, POST, DELETE"),)
WELL_KNOWN = "/.well-known/"
# What they refuse is a page's doing, whose author sits at this machine and is told what the operator's log says.
_EXPLAINED = frozenset({"cors", "csrf"})
_JUDGED = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"content-type"})
_SINGLE = frozenset(
    {b"mcp-session-id", b"mcp-protocol-version", b"content-type", b"content-encoding", b"last-event-id"}
)


def known(
    plan: Plan, connection: ServerConnection, request: RequestHead | MalformedMessage, now: float
) -> Admission | None:
    """What was decided when this head came before.

    Clients send the same head again and again; what was decided for it holds under the same plan, for the same
    addresses, until a token or the session expires.
    """
    found = request.memo.value if isinstance(request, RequestHead) else None
    if not isinstance(found, Admission) or found.plan is not plan or found.until <= now:
        return None
    before = found.facts
    if before.peer != connection.peer or before.local_host != connection.local[0]:
        return None
    return found


def see_through(plan: Plan, exchange: Exchange) -> None:
    """What a trusted proxy says about the client it speaks for. Raises Refusal."""
    outside = None if plan.trust is None else plan.trust.outside(exchange.peer, exchange.fields, exchange.more)
    if outside is not None:
        exchange.source = outside.source or exchange.peer
        exchange.secure = exchange.secure if outside.secure is None else outside.secure
        exchange.outer_host = outside.host


def match(plan: Plan, exchange: Exchange, request: RequestHead) -> tuple[RoutePlan, Door]:
    """The route of a request, and the door it came to. Raises Refusal (404)."""
    hosts = plan.binds.get(exchange.port)
    if hosts is None or request.path.startswith(WELL_KNOWN):
        raise Refusal(FailureClass.NOT_FOUND, "no such document" if hosts else "the listener was removed")
    host = request.fields.get(b"host", b"").decode("ascii")
    router = hosts.find(split_authority(host)[0])
    if router is None:
        text = f"no listener on port {exchange.port} has the hostname {host!r}; set listeners[].hostname"
        log.info("%s refused: %s", exchange.request_id, text)
        raise Refusal(FailureClass.NOT_FOUND, text)
    found = router.find(_intended_method(request), request.path, request.query, request.fields)
    if found is None:
        text = f"no route on port {exchange.port} matches {request.path}"
        if b"origin" in request.fields:  # all that the page's author sees is a failed fetch
            log.info("%s refused: %s", exchange.request_id, text)
        raise Refusal(FailureClass.NOT_FOUND, text)
    return found


def _intended_method(request: RequestHead) -> str:
    """The method that decides on the route: a preflight belongs to the route of the request that it announces."""
    asked = request.fields.get(b"access-control-request-method")
    if request.method == "OPTIONS" and asked is not None and b"origin" in request.fields:
        return asked.decode("latin-1")
    return request.method


def admit(
    plan: Plan, matched: tuple[RoutePlan, Door], exchange: Exchange, request: RequestHead, addresses: Addresses
) -> Admission | Verdict:
    """What the head alone decides: principal, session, what goes to the backend; or a policy's own answer.

    Raises Refusal.
    """
    request.memo.value = None
    route, door = matched
    exchange.route = route.route.name
    verdict = judge_head(route.policies, exchange)
    let_pass(exchange, verdict)
    if verdict.answer is not None:
        return verdict
    return let_in(Admission(plan, route, verdict.until), door, exchange, request, addresses)


def let_in(
    admission: Admission, door: Door, exchange: Exchange, request: RequestHead, addresses: Addresses
) -> Admission:
    """What is left once the policies have agreed: form, session, what goes to the backend. Raises Refusal."""
    route = admission.route
    _check_door(door, request)
    _check_single(request)
    admission.door, admission.query = door, request.query
    admission.streamable = door is Door.STREAM
    if route.access is not None:
        admission.caller = route.access.caller(exchange)
    if door is Door.MESSAGES:
        admission.address = address = addresses.open(request.query, route.route.key, exchange)
        admission.until = min(admission.until, address.expires)
    if request.method == "POST":
        _check_media(request)
    version = request.fields.get(b"mcp-protocol-version")
    admission.modern = is_modern(version, None)
    token = request.fields.get(b"mcp-session-id")
    if token is not None and not admission.modern and door is Door.STREAM:
        _enter(admission, exchange, token)
    elif version is not None:
        exchange.revision = version.decode("latin-1")
    admission.facts = exchange.again("", 0.0, 0.0)
    admission.record = facts(exchange)
    admission.lines = route.request_headers.lines(
        request, None if admission.session is None else admission.session.upstream
    )
    admission.plain = request.method == "POST" and door is Door.STREAM and not (route.bounded or route.source_limit)
    request.memo.value = admission
    return admission


def _enter(admission: Admission, exchange: Exchange, token: bytes) -> None:
    session = admission.plan.sessions.open(token, admission.route.route.key, exchange)
    admission.session, admission.session_token = session, token
    admission.until = min(admission.until, session.expires)
    exchange.revision = session.revision
    exchange.client = session.client


def note(call: Call, message: Envelope | list[Envelope]) -> None:
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
    if message.arguments is not None:
        exchange.arguments = arguments(message.arguments, whole=call.admission.whole)
    if message.id is not None and message.method:
        call.expects = True
        exchange.rpc_id = message.id
    if message.client:
        exchange.client = message.client
    if message.version is not None:
        exchange.revision = message.version
    # Messages of HTTP+SSE have no headers that could repeat them.
    if call.modern or (call.admission.streamable and is_modern(None, message)):
        call.modern = True
        check_mirrors(exchange.fields, exchange.more, message)


def let_pass(exchange: Exchange, verdict: Verdict) -> None:
    """Go on unless the verdict refuses. Raises Refusal."""
    if verdict.refusal is not None:
        raise refused(exchange, verdict, verdict.refusal)


def refused(exchange: Exchange, verdict: Verdict, refusal: Refusal) -> Refusal:
    """What a verdict refuses with: logged and recorded with its reason and setting, which the client is not told."""
    log.info("%s refused by %s", exchange.request_id, verdict.words)
    exchange.fail(refusal.failure, verdict.words)
    if verdict.policy in _EXPLAINED and is_local(exchange):
        refusal.text = f"This is not allowed: {verdict.words}"
    return refusal


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
