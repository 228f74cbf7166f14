"""What the connection test of an instance is made of: its server is reached as the gateway would, step by step.

Like `runtime`, a place that builds objects and joins them. The test makes its own connections and its own process, so
that it disturbs nobody, and lets go of them at its end. What it says may be shown to operators: no secret is in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from moongate.audit.meanings import MEANINGS
from moongate.audit.redact import Redactor
from moongate.control import nodes
from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import Documents
from moongate.control.jsontext import read_json
from moongate.errors import ConfigError, FailureClass, Refusal, StartError, UpstreamError
from moongate.model.snapshot import MIB, Command, Route, Target, Transport
from moongate.policies.headers import HeaderModifier
from moongate.protocol.jsonrpc import CAPABILITIES_KEY, CLIENT_KEY, VERSION_KEY, parse
from moongate.protocol.revisions import FIRST_MODERN
from moongate.proxy.forward import RequestHeaders
from moongate.proxy.messenger import Messenger, Origin
from moongate.tasks import Tasks
from moongate.upstreams.auto import AutoUpstream
from moongate.upstreams.base import Upstream
from moongate.upstreams.processes import Processes
from moongate.upstreams.proxies import choose_proxy
from moongate.upstreams.ways import Ways
from moongate.wire.deadlines import Deadlines
from moongate.wire.tls import client_context

SECONDS = 30.0
CLOSE_SECONDS = 8.0
LEGACY = "2025-11-25"
MAX_DEPTH = 64
MAX_PAGES = 20
SHOWN_TOOLS = 20
MAX_TEXT = 300
DRAFT = "instance"
_MESSAGE_BYTES = 16 * MIB


class Outcome(StrEnum):
    """How a step ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Step:
    """One thing that was tried. `text` says what was found."""

    name: str
    outcome: Outcome = Outcome.OK
    milliseconds: float = 0.0
    text: str = ""


@dataclass(slots=True)
class Probe:
    """What a connection test has found. `failure` None: the server can be used.

    `tools` None: it has none, or was not asked. `transport` is what worked: streamable-http, sse or stdio.
    """

    transport: str = ""
    revision: str = ""
    server: tuple[str, str] | None = None
    tools: list[str] | None = None
    more_tools: bool = False
    milliseconds: float = 0.0
    failure: FailureClass | None = None
    detail: str = ""
    steps: list[Step] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        meaning = None if self.failure is None else MEANINGS[self.failure]
        tools = None
        if self.tools is not None:
            tools = {"count": len(self.tools), "names": self.tools[:SHOWN_TOOLS], "more": self.more_tools}
        return {
            "fine": self.failure is None,
            "transport": self.transport or None,
            "revision": self.revision or None,
            "server": None if self.server is None else {"name": self.server[0], "version": self.server[1]},
            "tools": tools,
            "milliseconds": self.milliseconds,
            "failure": None if self.failure is None else self.failure.value,
            "meaning": None if meaning is None else meaning.what,
            "advice": None if meaning is None else meaning.do,
            "detail": self.detail or None,
            "steps": [
                {"name": step.name, "outcome": step.outcome.value, "milliseconds": step.milliseconds, "text": step.text}
                for step in self.steps
            ],
        }


async def probe_config(
    config: Mapping[str, Any], environ: Mapping[str, str], seconds: float = SECONDS
) -> dict[str, Any]:
    """The same for an entry of `mcpServers` that holds no references any more; as JSON has it. Raises ConfigError."""
    written = {key: value for key, value in config.items() if key not in {"disabled", "enabled"}}
    root, complaints = read_json(json.dumps({"mcpServers": {DRAFT: written}}), DRAFT)
    if complaints or not isinstance(root, nodes.Mapping):
        raise ConfigError(tuple(complaints))
    snapshot = compile_documents(Documents(root, (DRAFT,)), CompileOptions())
    found = await probe(snapshot.binds[0].listeners[0].routes[0], environ, seconds)
    return found.plain()


async def probe(route: Route, environ: Mapping[str, str], seconds: float = SECONDS) -> Probe:
    """Test the connection to the server of a route within about `seconds`. What fails is in the result."""
    prober = _Prober(route, environ)
    began = time.perf_counter()
    try:
        async with asyncio.timeout(seconds):
            await prober.run()
    except TimeoutError:
        hosted = isinstance(route.target, Command) and not prober.probe.revision
        failure = FailureClass.PROCESS_START if hosted else FailureClass.UPSTREAM_TIMEOUT
        prober.fail(failure, f"the test was ended after {seconds:g} s")
    except (UpstreamError, Refusal) as error:
        prober.fail(error.failure, error.detail)
    except StartError as error:
        prober.fail(FailureClass.UPSTREAM_TLS, str(error))
    finally:
        await prober.close()
    prober.probe.milliseconds = _since(began)
    return prober.probe


class _Prober:
    """One test. `run` raises what fails; `close` lets go of everything."""

    def __init__(self, route: Route, environ: Mapping[str, str]) -> None:
        self.probe = Probe()
        self._route = route
        self._environ = environ
        self._redactor = Redactor(route.secrets)
        self._tasks = Tasks("probe")
        self._processes = Processes(1, self._tasks)
        self._upstream: Upstream | None = None
        self._messenger: Messenger | None = None
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._meta: dict[str, Any] | None = None

    async def run(self) -> None:
        """All steps in order."""
        target = self._route.target
        if isinstance(target, Target):
            await self._reach(target)
        self._connect()
        capabilities = await self._greet()
        await self._settle_transport(target)
        if "tools" in capabilities:
            async with self._step("tools/list") as step:
                await self._list_tools()
                names = self.probe.tools or []
                shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                step.text = f"{len(names)}: {shown}" if names else "none"
        else:
            self.probe.steps.append(Step("tools/list", Outcome.SKIPPED, text="the server says that it has no tools"))

    def fail(self, failure: FailureClass, detail: str) -> None:
        """The step under way, or the test as a whole, has failed."""
        self.probe.failure = failure
        self.probe.detail = self._show(detail)
        steps = self.probe.steps
        if not steps or steps[-1].outcome is not Outcome.FAILED:
            steps.append(Step("prepare", Outcome.FAILED))
        steps[-1].text = self.probe.detail

    async def close(self) -> None:
        """End the session, the connections and the process."""
        began = time.perf_counter()
        step = Step("close")
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._messenger is not None:
                    await self._messenger.close()
                if self._upstream is not None:
                    self._upstream.close()
                await self._processes.close()
        except TimeoutError:
            step.outcome, step.text = Outcome.FAILED, f"not done within {CLOSE_SECONDS:g} s"
        finally:
            await self._tasks.close()
        step.milliseconds = _since(began)
        if self._messenger is not None:
            self.probe.steps.append(step)

    # -- the network

    async def _reach(self, target: Target) -> None:
        """Name, connection and certificate, one after the other; this connection is used for nothing else."""
        proxy = choose_proxy(target.scheme, target.host, target.port, self._environ)
        host, port = (target.host, target.port) if proxy is None else (proxy.host, proxy.port)
        before = "" if proxy is None else "of the proxy: "
        loop = asyncio.get_running_loop()
        async with self._step("resolve") as step:
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                text = f"{host} does not resolve: {error.strerror or error}"
                raise UpstreamError(FailureClass.UPSTREAM_DNS, text) from None
            addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
            step.text = before + ", ".join(addresses[:5])
        async with self._step("connect") as step:
            transport, address = await _connect(addresses, port, target.timeouts.connect)
            step.text = f"{before}{address} port {port}"
        try:
            await self._secure(target, transport, through=proxy is not None)
        finally:
            transport.abort()

    async def _secure(self, target: Target, transport: asyncio.Transport, *, through: bool) -> None:
        if target.scheme != "https" or through:
            text = "through the proxy, with the first request" if target.scheme == "https" else "the address is http"
            self.probe.steps.append(Step("tls", Outcome.SKIPPED, text=text))
            return
        async with self._step("tls") as step:
            context = client_context(target.tls.ca, target.tls.cert, target.tls.key)
            step.text = await _handshake(transport, context, target)

    # -- the protocol

    def _connect(self) -> None:
        """The way to the server as the gateway has it. Raises StartError."""
        route = self._route
        modifiers = tuple(p for p in route.policies if isinstance(p, HeaderModifier) and p.direction == "request")
        lines = RequestHeaders(route.target, modifiers, ()).fixed
        deadlines = Deadlines(asyncio.get_running_loop())
        ways = Ways(self._environ, deadlines, self._tasks, self._processes, self._redactor.clean)
        self._upstream = ways.connect(route, lines)
        target = route.target if isinstance(route.target, Target) else None
        origin = Origin("probe", timeouts=route.target.timeouts, target=target, message_bytes=_MESSAGE_BYTES)
        self._messenger = Messenger(self._upstream, origin, self._heard, self._tasks)

    async def _greet(self) -> dict[str, Any]:
        """Initialize, or discover where sessions are not spoken; the server's capabilities. Raises UpstreamError."""
        me = {"name": "moongate-test", "version": version("moongate")}
        try:
            async with self._step("initialize") as step:
                params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": me}
                result = await self._ask("initialize", params)
                self.probe.revision = self._show(str(result.get("protocolVersion", "")))
                self._note_server(result.get("serverInfo"))
                step.text = self._greeting()
                await self._say("notifications/initialized")
        except UpstreamError as error:
            if error.failure not in {FailureClass.JSONRPC_ERROR, FailureClass.UPSTREAM_HTTP}:
                raise
            self._meta = {VERSION_KEY: FIRST_MODERN, CAPABILITIES_KEY: {}, CLIENT_KEY: me}
            try:
                async with self._step("server/discover") as step:
                    result = await self._ask("server/discover", {})
                    self.probe.revision = FIRST_MODERN
                    meta = result.get("_meta")
                    if isinstance(meta, dict):
                        self._note_server(meta.get("io.modelcontextprotocol/serverInfo"))
                    step.text = self._greeting()
            except UpstreamError:
                self.probe.steps.pop()
                raise error from None
            self.probe.steps[-2].outcome = Outcome.SKIPPED
        capabilities = result.get("capabilities")
        return capabilities if isinstance(capabilities, dict) else {}

    def _note_server(self, info: object) -> None:
        if isinstance(info, dict):
            self.probe.server = (self._show(str(info.get("name", ""))), self._show(str(info.get("version", ""))))

    def _greeting(self) -> str:
        name = " ".join(self.probe.server or ()).strip()
        return f"{name or 'a server without a name'}, revision {self.probe.revision or 'unknown'}"

    async def _settle_transport(self, target: Target | Command) -> None:
        if isinstance(target, Command):
            self.probe.transport = "stdio"
        elif isinstance(self._upstream, AutoUpstream):
            sse = await self._upstream.through() is not None
            self.probe.transport = (Transport.SSE if sse else Transport.STREAMABLE_HTTP).value
        else:
            self.probe.transport = target.transport.value

    async def _list_tools(self) -> None:
        names: list[str] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            result = await self._ask("tools/list", {} if cursor is None else {"cursor": cursor})
            tools = result.get("tools")
            names += [self._show(str(tool.get("name", ""))) for tool in tools or () if isinstance(tool, dict)]
            self.probe.tools = names
            following = result.get("nextCursor")
            if not isinstance(following, str) or following == cursor:
                return
            cursor = following
        self.probe.more_tools = True

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of a request. Raises UpstreamError."""
        self._number += 1
        number = self._number
        await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answer = self._answers.pop(number, {})
        error = answer.get("error")
        if isinstance(error, dict):
            text = f"{method} was answered with error {error.get('code')}: {error.get('message')}"
            raise UpstreamError(FailureClass.JSONRPC_ERROR, text)
        result = answer.get("result")
        if not isinstance(result, dict):
            raise UpstreamError(FailureClass.UPSTREAM_PROTOCOL, f"{method} was answered without a result")
        return result

    async def _say(self, method: str) -> None:
        await self._send({"jsonrpc": "2.0", "method": method})

    async def _send(self, message: dict[str, Any]) -> None:
        if self._messenger is None:
            return
        if self._meta is not None:
            message["params"]["_meta"] = self._meta
        body = json.dumps(message).encode()
        await self._messenger.post(body, parse(body, MAX_DEPTH))

    async def _heard(self, message: bytes) -> None:
        """What the server says; requests of its own are not answered, for nothing was declared that it may ask."""
        with suppress(ValueError, RecursionError):
            said = json.loads(message)
            if isinstance(said, dict) and isinstance(said.get("id"), int) and "method" not in said:
                self._answers[said["id"]] = said

    # -- what is shown

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[Step]:
        step = Step(name)
        self.probe.steps.append(step)
        began = time.perf_counter()
        try:
            yield step
        except BaseException as error:
            step.outcome = Outcome.FAILED
            step.text = self._show(getattr(error, "detail", str(error)))
            raise
        finally:
            step.milliseconds = _since(began)

    def _show(self, text: str) -> str:
        """Without secrets, without what could drive a terminal, and not longer than people read."""
        text = self._redactor.clean(text)
        text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
        return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


async def _connect(addresses: list[str], port: int, seconds: float) -> tuple[asyncio.Transport, str]:
    """A connection to the first address that takes one. Raises UpstreamError."""
    loop = asyncio.get_running_loop()
    failure = UpstreamError(FailureClass.UPSTREAM_CONNECT, "the name has no address")
    for address in addresses:
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                transport, _ = await loop.create_connection(asyncio.Protocol, address, port)
        except TimeoutError:
            text = f"no connection to {address} port {port} within {seconds / len(addresses):g} s"
            failure = UpstreamError(FailureClass.UPSTREAM_TIMEOUT, text)
        except OSError as error:
            text = f"{address} port {port}: {os.strerror(error.errno) if error.errno else error}"
            failure = UpstreamError(FailureClass.UPSTREAM_CONNECT, text)
        else:
            return transport, address
    raise failure


async def _handshake(transport: asyncio.Transport, context: ssl.SSLContext, target: Target) -> str:
    """What was agreed on, and how long the certificate holds. Raises UpstreamError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(target.timeouts.connect):
            secured = await loop.start_tls(transport, asyncio.Protocol(), context, server_hostname=target.host)
    except TimeoutError:
        raise UpstreamError(FailureClass.UPSTREAM_TIMEOUT, "the TLS handshake took too long") from None
    except ssl.SSLCertVerificationError as error:
        text = f"the certificate does not verify: {error.verify_message}"
        raise UpstreamError(FailureClass.UPSTREAM_TLS, text) from None
    except OSError as error:
        text = f"{target.host}: {getattr(error, 'reason', None) or 'it hung up during the handshake'}"
        raise UpstreamError(FailureClass.UPSTREAM_TLS, text) from None
    if secured is None:
        raise UpstreamError(FailureClass.UPSTREAM_TLS, f"{target.host} hung up during the handshake")
    try:
        agreed = secured.get_extra_info("ssl_object")
        certificate = secured.get_extra_info("peercert") or {}
        until = certificate.get("notAfter")
        words = [agreed.version() if agreed is not None else "TLS"]
        return ", ".join([*words, f"the certificate is valid until {until}"] if until else words)
    finally:
        secured.abort()


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
