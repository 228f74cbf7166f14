"""What `moongate connect` is made of: one client on standard input and output, one server over the network.

Like `runtime`, a place that builds objects and joins them; no logic of its own.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from moongate.audit.redact import RedactingFormatter, Redactor
from moongate.control.compile import CompileOptions
from moongate.control.line import Line, read_line
from moongate.errors import Complaint, ConfigError
from moongate.model.snapshot import ClientTls, Target
from moongate.proxy.forward import header_lines
from moongate.proxy.messenger import Messenger, Origin
from moongate.proxy.stdio_door import StdioDoor
from moongate.tasks import Tasks
from moongate.upstreams.auto import over_http
from moongate.upstreams.http import HttpUpstream
from moongate.upstreams.proxies import choose_proxy
from moongate.wire.deadlines import Deadlines
from moongate.wire.tls import client_context

PRINCIPAL = "stdio"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the messages go, and what no text may hold."""

    target: Target
    secrets: frozenset[str]


def read_destination(line: Line, ca: str | None, environ: Mapping[str, str]) -> Destination:
    """Judge an address as those in files are judged. `ca`: a private authority's PEM file. Raises ConfigError."""
    snapshot, _ = read_line(line, environ, CompileOptions())
    target = snapshot.binds[0].listeners[0].routes[0].target
    if not isinstance(target, Target):
        raise ConfigError((Complaint("command line", "an address is expected, such as https://example.com/mcp"),))
    if ca is not None:
        if target.scheme != "https":
            raise ConfigError((Complaint("--ca", "the address is http, which has no certificates; write https"),))
        target = replace(target, tls=ClientTls(ca=ca))
    return Destination(target, snapshot.secrets)


class Connection:
    """One run of `moongate connect`."""

    def __init__(self, destination: Destination, environ: Mapping[str, str]) -> None:
        """Raises StartError: a certificate or a proxy that cannot be used."""
        RedactingFormatter.redactor = Redactor(destination.secrets)
        target = destination.target
        self._target = target
        self._context = client_context(target.tls.ca, None, None) if target.scheme == "https" else None
        self._proxy = choose_proxy(target.scheme, target.host, target.port, environ)

    async def run(self, pipes: tuple[int, int]) -> None:
        """Carry messages between the client on `pipes` (to read from, to write to) and the server, until the client
        has gone or a signal comes.
        """
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, stopping.set)
        tasks = Tasks("connect")
        target, deadlines = self._target, Deadlines(loop)
        http = HttpUpstream(target, deadlines, self._context, self._proxy, header_lines(target.headers))
        upstream = over_http(http, deadlines, tasks)

        def messenger(deliver: Callable[[bytes], Awaitable[None]], streams: Tasks) -> Messenger:
            origin = Origin(PRINCIPAL, timeouts=target.timeouts, target=target)
            return Messenger(upstream, origin, deliver, streams)

        try:
            await StdioDoor(messenger, pipes, RedactingFormatter.redactor.clean).run(stopping)
        finally:
            upstream.close()
            await tasks.close()
