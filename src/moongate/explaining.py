"""What `moongate explain` is made of: one request through the real router, policies and parsers, and no further.

Like `runtime`, a place that builds objects and joins them. Nothing is listened on, no server is called, nothing is
written: the upstream that it plugs in cannot send.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from moongate.control.addresses import route_addresses
from moongate.control.secrets import VARIABLE, load_key
from moongate.errors import Complaint, ConfigError, FailureClass, Refusal, UpstreamError
from moongate.model.exchange import Exchange
from moongate.model.snapshot import Bind, Limits, Route, Snapshot, Target
from moongate.policies.base import Verdict
from moongate.policies.cors import judge_public
from moongate.policies.host import is_loopback
from moongate.policies.pipeline import verdicts
from moongate.protocol.jsonrpc import parse
from moongate.protocol.sealed import Sealer
from moongate.proxy.access import judge
from moongate.proxy.admit import WELL_KNOWN, let_in, match, note, see_through
from moongate.proxy.call import Admission, Call
from moongate.proxy.match import Door
from moongate.proxy.plan import RoutePlan, build_plan
from moongate.proxy.reply import FAILURES
from moongate.proxy.sessions import SealedSessions
from moongate.proxy.sse import Addresses
from moongate.upstreams.base import Reply, Request
from moongate.wire.deadlines import Deadlines
from moongate.wire.messages import MalformedMessage, RequestHead, parse_request
from moongate.wire.server import Server, ServerConnection

# Without a preflight a page may send these (Fetch standard section 2.2.1 and 2.2.2).
_PLAIN_METHODS = frozenset({"GET", "HEAD", "POST"})
_PLAIN_HEADERS = frozenset({"accept", "accept-language", "content-language", "range"})
_PLAIN_TYPES = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
# These are the browser's own; a page sends none of them.
_BROWSERS = frozenset({"host", "origin", "content-length", "cookie", "referer", "user-agent", "connection"})
_USUAL = {
    "POST": (("content-type", "application/json"), ("accept", "application/json, text/event-stream")),
    "GET": (("accept", "text/event-stream"),),
}
_NOT_ASKED = "not asked"
_SHOWN_ROUTES = 10
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on


# Where a question comes from that does not say it.
HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to be explained. `url`: an address, or a path. `host` None: the address's own. `source`: from where."""

    method: str
    url: str
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    source: str = HERE
    body: bytes | None = None


class Outcome(StrEnum):
    """How a step, or the whole, ends. NOT_GRANTED: a preflight whose answer lacks what the page needs."""

    OK = "ok"
    FORWARDED = "forwarded"
    ANSWERED = "answered"
    NOT_GRANTED = "not granted"
    REFUSED = "refused"
    NOT_REACHED = "-"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was judged: by which rule, how, why, and which setting would change it."""

    rule: str
    outcome: Outcome
    reason: str
    setting: str = ""


@dataclass(slots=True)
class Explanation:
    """What becomes of a request. `lines` are what every answer to it carries; `preflight` is what a browser asks first.

    `status` and `failure` are the gateway's own answer's (None: the server answers).
    """

    request: str
    steps: list[Step] = field(default_factory=list)
    outcome: Outcome = Outcome.FORWARDED
    status: int | None = None
    failure: FailureClass | None = None
    route: str = ""
    lines: list[str] = field(default_factory=list)
    preflight: Explanation | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON: what `moongate explain --json` prints and the API answers."""
        return {
            "request": self.request,
            "outcome": self.outcome.value,
            "fine": self.fine,
            "status": self.status,
            "failure": None if self.failure is None else self.failure.value,
            "route": self.route or None,
            "steps": [
                {"rule": one.rule, "outcome": one.outcome.value, "reason": one.reason, "setting": one.setting or None}
                for one in self.steps
            ],
            "answerHeaders": self.lines,
            "preflight": None if self.preflight is None else self.preflight.plain(),
        }

    @property
    def fine(self) -> bool:
        """Whether it goes on, or gets the answer that was configured; a browser's preflight included."""
        good = self.outcome in {Outcome.FORWARDED, Outcome.ANSWERED}
        return good and (self.preflight is None or self.preflight.fine)


def explain(snapshot: Snapshot, asked: Asked, data_dir: Path, environ: Mapping[str, str]) -> Explanation:
    """Judge one request as the gateway would, with all counters full. Raises ConfigError for what cannot be asked."""
    sealer = _sealer(data_dir, environ)

    async def judged() -> Explanation:
        return Explainer(snapshot, sealer).explain(asked)

    return asyncio.run(judged())


def _sealer(data_dir: Path, environ: Mapping[str, str]) -> Sealer:
    """The key that session ids were sealed with, if there is one; none is made."""
    if VARIABLE in environ or (data_dir / "key").is_file():
        return Sealer(load_key(data_dir, environ))
    return Sealer(secrets.token_bytes(32))


class _NoServer:
    """The upstream of every route: nothing can be sent through it."""

    def send_now(self, request: Request) -> Reply | None:
        """See `base.Upstream`."""
        raise UpstreamError(FailureClass.INTERNAL, f"{request.method} must not be sent while it is explained")

    async def send(self, request: Request, path: str | None = None) -> Reply:
        """See `base.Upstream`."""
        raise UpstreamError(FailureClass.INTERNAL, f"{request.method} {path} must not be sent while it is explained")

    def renew(self) -> None:
        """See `base.Upstream`."""

    def close(self) -> None:
        """See `base.Upstream`."""


class Explainer:
    """Explains requests under one snapshot. Needs a running event loop, because a connection does."""

    def __init__(self, snapshot: Snapshot, sealer: Sealer) -> None:
        self._snapshot = snapshot
        self._plan = build_plan(snapshot, _no_server, SealedSessions(sealer), lambda _record, _then: None)
        self._addresses = Addresses(sealer)
        deadlines = Deadlines(asyncio.get_running_loop())
        self._connection = ServerConnection(Server(_nobody, Limits(), deadlines))

    def explain(self, asked: Asked) -> Explanation:
        """The request, and the preflight that a browser would send before it. Raises ConfigError."""
        asked = _complete(asked)
        place = self._place(asked)
        explanation = self._judge(asked, place)
        before = _preflight(asked)
        if before is not None:
            preflight = self._judge(before, place)
            # A page of the gateway's own origin asks for nothing, and what fails before is not about pages.
            if any(step.rule == "cors" and step.outcome is not Outcome.OK for step in preflight.steps):
                explanation.preflight = preflight
        return explanation

    # -- where it comes in

    def _place(self, asked: Asked) -> _Place:
        """The port and address that the request comes in on. Raises ConfigError."""
        try:
            parts = urlsplit(asked.url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise _wrong("URL", "is not an address") from None
        if not parts.scheme and asked.url.startswith("/"):
            return self._found(asked, self._snapshot.binds, _target(parts))
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise _wrong(
                "URL", "must be an address such as http://127.0.0.1:8000/mcp/time, or a path such as /mcp/time"
            )
        binds = tuple(bind for bind in self._snapshot.binds if bind.port == port)
        target = _target(parts)
        public = urlsplit(self._snapshot.public_url or "")
        if parts.hostname == public.hostname and (not binds or parts.port == public.port):
            binds = binds or self._snapshot.binds
            target = target.removeprefix(public.path.rstrip("/")) or "/"
        if not binds:
            ports = ", ".join(str(bind.port) for bind in self._snapshot.binds)
            raise _wrong("URL", f"nothing listens on port {port}; the ports are: {ports}")
        return self._found(asked, binds, target)

    def _found(self, asked: Asked, binds: tuple[Bind, ...], target: str) -> _Place:
        """The first of the ports that has a route for it."""
        places = [_Place(bind, target) for bind in binds]
        for place in places:
            try:
                head = _parse(asked, place, self._snapshot)
                match(self._plan, _exchange(asked, place, head), head)
            except (Refusal, MalformedMessage):
                continue
            return place
        return places[0]

    # -- what is judged

    def _judge(self, asked: Asked, place: _Place) -> Explanation:
        explanation = Explanation(_shown(asked, place))
        try:
            head = _parse(asked, place, self._snapshot)
        except MalformedMessage as error:
            _refuse(explanation, "HTTP", Refusal(FailureClass.BAD_REQUEST, error.detail, status=error.status))
            return explanation
        exchange = _exchange(asked, place, head)
        for rule, step in (("proxies", self._see_through), ("route", self._match)):
            try:
                step(explanation, exchange, head)
            except Refusal as refusal:
                _refuse(explanation, rule, refusal)
                if rule == "route":
                    explanation.steps.append(Step("routes", Outcome.NOT_REACHED, self._routes()))
            if explanation.outcome is not Outcome.FORWARDED:
                return _finished(explanation, exchange)
        route, door = match(self._plan, exchange, head)
        exchange.route = explanation.route = route.route.name
        if self._heads(explanation, route, exchange):
            try:
                self._rest(explanation, Admission(self._plan, route, 0.0), door, (asked, exchange, head))
            except Refusal as refusal:
                _refuse(explanation, "message" if explanation.steps[-1].rule == "request" else "request", refusal)
        limit = route.message_limit
        if limit is not None and all(step.rule != limit.name for step in explanation.steps):
            explanation.steps.append(Step(limit.name, Outcome.NOT_REACHED, _NOT_ASKED))
        return _finished(explanation, exchange)

    def _routes(self) -> str:
        """What there would have been."""
        urls = [address.url for address in route_addresses(self._snapshot)]
        more = f", and {len(urls) - _SHOWN_ROUTES} more" if len(urls) > _SHOWN_ROUTES else ""
        return f"there are: {', '.join(urls[:_SHOWN_ROUTES]) or 'none'}{more}"

    def _see_through(self, explanation: Explanation, exchange: Exchange, _head: RequestHead) -> None:
        see_through(self._plan, exchange)
        if self._plan.trust is not None:
            scheme = "https" if exchange.secure else "http"
            asked_for = f", asked for {exchange.outer_host}" if exchange.outer_host else ""
            text = f"the client is {exchange.source} ({scheme}{asked_for})"
            explanation.steps.append(Step("proxies", Outcome.OK, text))

    def _match(self, explanation: Explanation, exchange: Exchange, head: RequestHead) -> None:
        if head.path.startswith(WELL_KNOWN) and (verdict := judge_public(exchange)) is not None:
            _add(explanation, verdict)
            return
        route, door = match(self._plan, exchange, head)
        text = f"{route.route.name} ({route.route.where}), {door.value}"
        explanation.steps.append(Step("route", Outcome.OK, text))

    def _heads(self, explanation: Explanation, route: RoutePlan, exchange: Exchange) -> bool:
        """Each policy's verdict, and which of them were not asked; whether the request goes on."""
        judged = 0
        for verdict in verdicts(route.policies, exchange):
            _add(explanation, verdict)
            judged += 1
        _add_shadow(explanation, exchange)
        for policy in route.policies[judged:]:
            explanation.steps.append(Step(policy.name, Outcome.NOT_REACHED, _NOT_ASKED))
        return explanation.outcome is Outcome.FORWARDED

    def _rest(
        self, explanation: Explanation, admission: Admission, door: Door, at: tuple[Asked, Exchange, RequestHead]
    ) -> None:
        """Form, session, message, and what counts calls. Raises Refusal."""
        asked, exchange, head = at
        call = Call(self._connection, exchange, let_in(admission, door, exchange, head, self._addresses))
        explanation.steps.append(Step("request", Outcome.OK, _admitted(call)))
        if asked.method == "POST" and asked.body is None:
            explanation.steps.append(Step("message", Outcome.NOT_REACHED, "none was given (--message)"))
        elif asked.method == "POST":
            explanation.steps.append(Step("message", Outcome.OK, self._message(call, asked.body or b"")))
            if admission.caller is not None:
                exchange.shadow = ""
                _add_message(explanation, call, judge(call, admission.caller))
                _add_shadow(explanation, exchange)
        limit = admission.route.message_limit
        if limit is not None and explanation.outcome is Outcome.FORWARDED:
            _add_message(explanation, call, limit.judge_messages(exchange, max(1, len(call.batch))))
        if explanation.outcome is Outcome.FORWARDED:
            explanation.steps.append(Step("server", Outcome.FORWARDED, _server(admission.route.route)))

    def _message(self, call: Call, body: bytes) -> str:
        limit = call.route.route.body_bytes
        if len(body) > limit:
            raise Refusal(FailureClass.TOO_LARGE, f"a body of {len(body)} bytes, {limit} are allowed")
        call.body = body
        note(call, parse(body, self._snapshot.limits.json_depth))
        if call.batch:
            return f"an array of {len(call.batch)} messages"
        exchange = call.exchange
        words = [exchange.rpc_method or "a response", exchange.rpc_target]
        era = "every request stands alone" if call.modern else "revisions with sessions"
        return f"{' '.join(filter(None, words))} ({era})"


@dataclass(frozen=True, slots=True)
class _Place:
    """The port that a request comes in on, and the target of its request line."""

    bind: Bind
    target: str

    @property
    def secure(self) -> bool:
        return any(listener.tls is not None for listener in self.bind.listeners)

    def local_host(self, asked: Asked) -> str:
        """The gateway's address that the connection came to: the one that was asked for, or loopback."""
        named = urlsplit(asked.url).hostname or ""
        hosts = self.bind.hosts
        if named in hosts or (_EVERYWHERE & set(hosts) and _is_literal(named)):
            return named
        first = hosts[0]
        if first not in _EVERYWHERE:
            return first
        return "127.0.0.1" if is_loopback(asked.source) else "the gateway's address"


def _complete(asked: Asked) -> Asked:
    """With the headers that every client of MCP sends. Raises ConfigError for what cannot be a header."""
    names = {name.lower() for name, _ in asked.headers}
    usual = tuple(item for item in _USUAL.get(asked.method, ()) if item[0] not in names)
    if any(not text.isprintable() for pair in asked.headers for text in pair):
        raise _wrong("--header", "holds a control character")
    return Asked(asked.method, asked.url, asked.host, (*usual, *asked.headers), asked.source, asked.body)


def _preflight(asked: Asked) -> Asked | None:
    """What a browser asks before it lets a page send the request (Fetch standard section 4.8); None: nothing."""
    fields = {name.lower(): value for name, value in asked.headers}
    if "origin" not in fields or asked.method == "OPTIONS":
        return None
    media = fields.get("content-type", "text/plain").partition(";")[0].strip().lower()
    plain = _PLAIN_HEADERS | _BROWSERS | ({"content-type"} if media in _PLAIN_TYPES else frozenset())
    unusual = sorted(name for name in fields if name not in plain and not name.startswith(("sec-", "proxy-")))
    if asked.method in _PLAIN_METHODS and not unusual:
        return None
    headers = [("Origin", fields["origin"]), ("Access-Control-Request-Method", asked.method)]
    if unusual:
        headers.append(("Access-Control-Request-Headers", ",".join(unusual)))
    return Asked("OPTIONS", asked.url, asked.host, tuple(headers), asked.source)


def _parse(asked: Asked, place: _Place, snapshot: Snapshot) -> RequestHead:
    """The head as it would come over the wire. Raises MalformedMessage."""
    lines = [f"{asked.method} {place.target} HTTP/1.1", f"host: {_host(asked, place)}"]
    lines += [f"{name}: {value}" for name, value in asked.headers if name.lower() not in {"host", "content-length"}]
    if asked.method == "POST":
        lines.append(f"content-length: {len(asked.body or b'')}")
    raw = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8")
    if len(raw) > snapshot.limits.head_bytes:
        raise MalformedMessage(f"a head of {len(raw)} bytes, {snapshot.limits.head_bytes} are allowed", 431)
    return parse_request(raw, snapshot.limits.header_count)


def _host(asked: Asked, place: _Place) -> str:
    if asked.host is not None:
        return asked.host
    if authority := urlsplit(asked.url).netloc.rpartition("@")[2]:
        return authority
    hostname = place.bind.listeners[0].hostname if place.bind.listeners else None
    name = hostname or place.local_host(asked)
    bracketed = f"[{name}]" if ":" in name else name
    return f"{bracketed}:{place.bind.port}"


def _exchange(asked: Asked, place: _Place, head: RequestHead) -> Exchange:
    exchange = Exchange("explained", time.time(), time.perf_counter(), head.method, head.path, head.fields)
    exchange.more, exchange.query = head.more, head.query
    exchange.source = exchange.peer = asked.source
    exchange.local_host, exchange.port, exchange.secure = place.local_host(asked), place.bind.port, place.secure
    return exchange


def _add(explanation: Explanation, verdict: Verdict) -> None:
    """A verdict as a step; the first that is final decides."""
    if verdict.refusal is not None:
        _refuse(explanation, verdict.policy, verdict.refusal, verdict.setting)
        return
    outcome = Outcome.OK
    if verdict.answer is not None:
        outcome = Outcome.NOT_GRANTED if verdict.setting else Outcome.ANSWERED
        explanation.outcome, explanation.status = outcome, verdict.answer.status
        explanation.lines += _lines(verdict.answer.lines)
    explanation.steps.append(Step(verdict.policy, outcome, verdict.reason, verdict.setting))


def _add_message(explanation: Explanation, call: Call, verdict: Verdict) -> None:
    """The verdict on a message; a legacy client is told in the answer to its call."""
    _add(explanation, verdict)
    if verdict.refusal is not None and call.expects and not call.modern:
        explanation.status = 200 if call.admission.door is Door.STREAM else 202


def _add_shadow(explanation: Explanation, exchange: Exchange) -> None:
    """What access rules in mode shadow would have denied."""
    if exchange.shadow:
        reason, _, setting = exchange.shadow.removeprefix("access: ").partition("; to change this, set ")
        explanation.steps.append(Step("access", Outcome.OK, f"only on trial (mode: shadow): {reason}", setting))


def _refuse(explanation: Explanation, rule: str, refusal: Refusal, setting: str = "") -> None:
    explanation.outcome, explanation.failure = Outcome.REFUSED, refusal.failure
    explanation.status = refusal.status or FAILURES[refusal.failure].status
    explanation.steps.append(Step(rule, Outcome.REFUSED, refusal.detail, setting))


def _finished(explanation: Explanation, exchange: Exchange) -> Explanation:
    explanation.lines += _lines(exchange.answer_lines)
    return explanation


def _lines(raw: bytes) -> list[str]:
    return [line.decode("latin-1") for line in raw.split(b"\r\n") if line]


def _admitted(call: Call) -> str:
    session = call.admission.session
    if session is not None:
        return f"a session of revision {session.revision}"
    return "its form is fine" + ("" if call.modern else ", without a session")


def _server(route: Route) -> str:
    target = route.target
    if not isinstance(target, Target):
        return f"{target.name}, a local server ({target.isolation.value})"
    path = target.path.partition("?")[0]
    called = f", called {target.called}" if target.host_header is not None else ""
    return f"{target.name} at {target.scheme}://{target.authority}{path}{called}"


def _shown(asked: Asked, place: _Place) -> str:
    scheme = "https" if place.secure else "http"
    path = place.target.partition("?")[0]
    return f"{asked.method} {scheme}://{_host(asked, place)}{path} from {asked.source}"


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


def _wrong(where: str, text: str) -> ConfigError:
    return ConfigError((Complaint(where, text),))


def _no_server(_route: Route, _lines: bytes) -> _NoServer:
    return _NoServer()


async def _nobody(_connection: ServerConnection, _request: RequestHead | MalformedMessage) -> None:
    """No request ever comes."""
