"""From a route to its upstream: which transport, which proxy, which certificates, which process.

What holds sessions or processes outlives a reload that does not concern it; plain HTTP pools are made anew.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from moongate.model.snapshot import ClientTls, Command, Route, Target
from moongate.tasks import Tasks
from moongate.upstreams.auto import over_http
from moongate.upstreams.base import Upstream
from moongate.upstreams.bridge import Bridge
from moongate.upstreams.http import HttpUpstream
from moongate.upstreams.keeping import BridgeOptions
from moongate.upstreams.processes import Processes
from moongate.upstreams.proxies import choose_proxy
from moongate.upstreams.stdio import StdioOpener
from moongate.wire.deadlines import Deadlines
from moongate.wire.tls import client_context

_Stamp = tuple[int, int]


class Ways:
    """The ways to all servers. `clean` takes secrets out of what processes say."""

    def __init__(
        self,
        environ: Mapping[str, str],
        deadlines: Deadlines,
        tasks: Tasks,
        processes: Processes,
        clean: Callable[[str], str],
    ) -> None:
        self._environ = environ
        self._deadlines = deadlines
        self._tasks = tasks
        self._processes = processes
        self._clean = clean
        self._contexts: dict[tuple[str | None, str | None, str | None], ssl.SSLContext] = {}
        self._hosted: dict[tuple[str, Command], tuple[Bridge, StdioOpener]] = {}
        self._remote: dict[tuple[str, Target, bytes, tuple[_Stamp, ...]], Upstream] = {}

    def begin(self) -> None:
        """Another configuration is compiled: certificates are read again."""
        self._contexts.clear()

    def settle(self, used: tuple[Upstream, ...]) -> None:
        """It is in force: what it does not use is forgotten (and was closed)."""
        kept = {id(upstream) for upstream in used}
        self._hosted = {key: pair for key, pair in self._hosted.items() if id(pair[0]) in kept}
        self._remote = {key: upstream for key, upstream in self._remote.items() if id(upstream) in kept}

    def connect(self, route: Route, lines: bytes) -> Upstream:
        """The upstream of a route; `lines` go with every request. Raises StartError (certificates, proxies)."""
        target = route.target
        if isinstance(target, Command):
            return self._host(route, target)
        key = (route.key, target, lines, _stamps(target.tls))
        upstream = self._remote.get(key)
        if upstream is not None:
            upstream.renew()
            return upstream
        proxy = choose_proxy(target.scheme, target.host, target.port, self._environ)
        http = HttpUpstream(target, self._deadlines, self._context(target), proxy, lines)
        upstream = over_http(http, self._deadlines, self._tasks)
        if upstream is not http:
            self._remote[key] = upstream
        return upstream

    def _context(self, target: Target) -> ssl.SSLContext | None:
        if target.scheme != "https":
            return None
        key = (target.tls.ca, target.tls.cert, target.tls.key)
        if key not in self._contexts:
            self._contexts[key] = client_context(*key)
        return self._contexts[key]

    def _host(self, route: Route, command: Command) -> Bridge:
        known = self._hosted.get((route.key, command))
        if known is not None:
            bridge, opener = known
            bridge.renew()
            opener.command = command
            return bridge
        opener = StdioOpener(command, self._processes, self._environ, self._clean)
        options = BridgeOptions(
            name=route.name,
            isolation=command.isolation,
            timeouts=command.timeouts,
            start_seconds=command.start_seconds,
            idle_seconds=command.idle_seconds,
            max_conversations=command.max_processes,
        )
        bridge = Bridge(opener, options, self._deadlines, self._tasks)
        self._hosted[route.key, command] = bridge, opener
        return bridge


def _stamps(tls: ClientTls) -> tuple[_Stamp, ...]:
    stamps = []
    for path in (tls.ca, tls.cert, tls.key):
        with suppress(OSError):  # whoever reads the file says what is wrong with it
            if path is not None:
                status = Path(path).stat()
                stamps.append((status.st_mtime_ns, status.st_size))
    return tuple(stamps)
