"""The only place that builds objects and joins the planes; no logic of its own.

`Runtime` holds the listening sockets, the data plane, and what both need. `apply` puts a snapshot into force: new
sockets are opened before anything is swapped, so that a port that cannot be had leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from moongate.audit.journal import Journal
from moongate.audit.redact import RedactingFormatter, Redactor
from moongate.companion import Companion, Console, awaits_publication
from moongate.control.nodes import STORE
from moongate.control.publish import Publisher
from moongate.control.secrets import load_key
from moongate.control.source import Sealed, Source
from moongate.errors import StartError
from moongate.explaining import explain
from moongate.model.snapshot import Bind, Snapshot
from moongate.protocol.methods import METHODS
from moongate.protocol.sealed import Sealer
from moongate.proxy.handle import DataPlane
from moongate.proxy.plan import Plan, build_plan
from moongate.proxy.sessions import SealedSessions
from moongate.proxy.sse import SseDoors
from moongate.reporting import around, asked, facts, gateway
from moongate.tasks import Tasks
from moongate.telemetry import Telemetry
from moongate.upstreams.processes import Processes
from moongate.upstreams.ways import Ways
from moongate.wire.deadlines import Deadlines
from moongate.wire.server import Server
from moongate.wire.tls import Certificates

log = logging.getLogger("moongate")

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
BACKLOG = 1024
FILES = 65_536


class NoPortError(StartError):
    """Cannot listen there."""

    def __init__(self, text: str, port: int) -> None:
        super().__init__(text)
        self.port = port


@dataclass(slots=True)
class OpenBind:
    """One port that is listened on: its sockets by host, its connections, its certificates."""

    server: Server
    certificates: Certificates | None
    hosts: tuple[str, ...]
    sockets: dict[str, asyncio.Server] = field(default_factory=dict)
    port: int = 0

    def close_sockets(self) -> None:
        """Accept no more."""
        for listening in self.sockets.values():
            listening.close()


@dataclass(frozen=True, slots=True)
class Second:
    """What the platform process is to do beside its settings: log from `log_level` on; `announce` says where it is."""

    log_level: str
    announce: Callable[[Console], None]


class Runtime:
    """A running data plane. `start` once, `apply` for each reload, `stop` at the end."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.environ = os.environ if environ is None else environ
        self.binds: dict[int, OpenBind] = {}
        self.plane: DataPlane
        self.journal: Journal
        self.processes: Processes
        self.telemetry = Telemetry(METHODS)
        self.tasks = Tasks("runtime")
        self._deadlines: Deadlines
        self._sessions: SealedSessions
        self._ways: Ways

    async def start(self, snapshot: Snapshot) -> None:
        """Listen. Raises StartError."""
        sealer = Sealer(load_key(self.data_dir, self.environ))
        self._sessions = SealedSessions(sealer)
        self._deadlines = Deadlines(asyncio.get_running_loop())
        try:
            self.journal = Journal(self.data_dir / "journal", strict=snapshot.audit.strict)
        except OSError as error:
            msg = f"{self.data_dir / 'journal'}: cannot be written: {error.strerror}; choose another --data-dir"
            raise StartError(msg) from None
        self.processes = Processes(snapshot.max_processes, self.tasks)
        self._ways = Ways(self.environ, self._deadlines, self.tasks, self.processes, _clean)
        plan = self._plan(snapshot)
        self.plane = DataPlane(plan, self._deadlines, SseDoors(sealer, self._deadlines))
        self.plane.unrecorded = self._unrecorded
        self.journal.sync = snapshot.audit.sync
        RedactingFormatter.redactor = Redactor(snapshot.secrets)
        self.plane.plan = await self._listen(plan)
        _say_left_out(self.plane.plan)

    async def apply(self, snapshot: Snapshot) -> None:
        """Put another snapshot into force. Raises StartError, and then nothing has changed."""
        self._ways.begin()
        plan = self._plan(snapshot)
        before = self.plane.plan
        if snapshot.secrets != before.snapshot.secrets:
            known = snapshot.secrets | before.snapshot.secrets
            RedactingFormatter.redactor = await asyncio.to_thread(Redactor, known)
        self.plane.plan = plan = await self._listen(plan)
        _say_left_out(plan, before)
        self.journal.sync, self.journal.strict = snapshot.audit.sync, snapshot.audit.strict
        before.close(kept=plan.upstreams)
        self._ways.settle(plan.upstreams)
        await self.plane.streams.settle(plan)
        self.telemetry.keep({routes[0].route.name for routes in plan.routes.values()})
        self.processes.max_processes = snapshot.max_processes

    def refresh(self) -> None:
        """Read certificates again that have changed on disk."""
        for bind in self.binds.values():
            if bind.certificates is not None:
                try:
                    for name in bind.certificates.refresh():
                        log.info("the certificate for %s was read again", name or "any name")
                except StartError as error:
                    log.error("a changed certificate is not used, the old one stays: %s", error)  # noqa: TRY400 - no trace: the file is wrong

    async def stop(self) -> None:
        """Stop accepting, finish what is in flight within `Limits.drain_seconds`, then cut."""
        seconds = self.plane.plan.snapshot.limits.drain_seconds
        for bind in self.binds.values():
            bind.close_sockets()
        await asyncio.gather(*(bind.server.close(seconds) for bind in self.binds.values()))
        await self.plane.doors.close()
        self.plane.plan.close()
        await self.processes.close()
        await self.tasks.close()
        self.journal.close()

    @property
    def snapshot(self) -> Snapshot:
        """What is in force."""
        return self.plane.plan.snapshot

    @property
    def servers(self) -> tuple[Server, ...]:
        """One for each port."""
        return tuple(bind.server for bind in self.binds.values())

    @property
    def ports(self) -> dict[int, int]:
        """The real ones, by what was configured."""
        return {port: bind.port for port, bind in self.binds.items()}

    async def serve(self, source: Source, started: Callable[[], None], second: Second | None = None) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP and changed files reload. Raises ConfigError, StartError.

        `second`: with the platform process, unless the configuration turns it off.
        """
        raise_file_limit()
        await _Service(self, source, second).run(started)

    def _unrecorded(self) -> bool:
        return self.journal.failing

    def _plan(self, snapshot: Snapshot) -> Plan:
        commit, count = self.journal.commit, self.telemetry.count
        return build_plan(snapshot, self._ways.connect, self._sessions, commit, count, STORE)

    async def _listen(self, plan: Plan) -> Plan:
        """The plan, without what needs a port for nothing but instances of the store, if that cannot be had."""
        while True:
            try:
                await self._open_wanted(plan.snapshot)
            except NoPortError as error:
                rest = plan.without_bind(error.port, STORE)
                if rest is None:
                    raise
                said = f"the instances of the store have no port: {error}"
                plan = replace(rest, left_out=(*rest.left_out, said))
            else:
                return plan

    async def _open_wanted(self, snapshot: Snapshot) -> None:
        wanted = {bind.port: bind for bind in snapshot.binds}
        opened: list[tuple[int, OpenBind]] = []
        try:
            for port, bind in wanted.items():
                if port in self.binds:
                    self._check_kept(bind)
            for port, bind in wanted.items():
                if port not in self.binds:
                    opened.append((port, await self._open(bind, snapshot)))
        except BaseException:
            for _, fresh in opened:
                fresh.close_sockets()
            raise
        for port, bind in wanted.items():
            if port in self.binds:
                self._keep(bind)
        self.binds.update(opened)
        for open_bind in self.binds.values():
            open_bind.server.use(snapshot.limits)
        for port in self.binds.keys() - wanted.keys():
            gone = self.binds.pop(port)
            gone.close_sockets()
            self.tasks.spawn(gone.server.close(snapshot.limits.drain_seconds), f"drain port {port}")

    async def _open(self, bind: Bind, snapshot: Snapshot) -> OpenBind:
        files = _certificate_files(bind)
        certificates = Certificates(files) if files else None
        server = Server(partial(self.plane.handle, bind.port), snapshot.limits, self._deadlines)
        server.at_once = self.plane.at_once
        opened = OpenBind(server, certificates, bind.hosts, port=bind.port)
        try:
            for host in bind.hosts:
                await self._open_socket(opened, host, optional=bool(opened.sockets))
        except BaseException:
            opened.close_sockets()
            raise
        return opened

    async def _open_socket(self, bind: OpenBind, host: str, *, optional: bool) -> None:
        loop = asyncio.get_running_loop()
        context = bind.certificates.context if bind.certificates is not None else None
        try:
            listening = await loop.create_server(
                bind.server.connect,
                sock=_listening_socket(host, bind.port),
                ssl=context,
                ssl_handshake_timeout=None if context is None else bind.server.limits.head_seconds,
                backlog=BACKLOG,
            )
        except OSError as error:
            if optional and error.errno in _NO_SUCH_ADDRESS:
                return  # a machine without IPv6 has no ::1
            reason = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                reason = "the port is taken by another process; end it, or choose another port"
            msg = f"cannot listen on {host} port {bind.port}: {reason}"
            raise NoPortError(msg, bind.port) from None
        bind.sockets[host] = listening
        if not bind.port:
            bind.port = listening.sockets[0].getsockname()[1]

    def _check_kept(self, bind: Bind) -> None:
        current = self.binds[bind.port]
        files = _certificate_files(bind)
        if current.hosts != bind.hosts:
            raise StartError(f"port {bind.port}: listening on another address needs a restart")
        if bool(files) != (current.certificates is not None):
            msg = f"port {bind.port}: switching TLS on or off needs a restart"
            raise StartError(msg)
        if files:
            Certificates(files)

    def _keep(self, bind: Bind) -> None:
        current = self.binds[bind.port]
        if current.certificates is not None:
            current.certificates.update(_certificate_files(bind))


class _Service:
    """A runtime from the first reading of its configuration to the signal that ends it, with its platform process."""

    def __init__(self, runtime: Runtime, source: Source, second: Second | None) -> None:
        self._runtime = runtime
        self._source = source
        self._second = second
        self._companion: Companion | None = None
        self._stopping = asyncio.Event()
        self._publisher = Publisher(source.paths, source.read, self._apply, runtime.refresh, source.published)
        self._publisher.tried = self._tell_force

    async def run(self, started: Callable[[], None]) -> None:
        """Raises ConfigError, StartError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        snapshot = await self._first()
        if not self._stopping.is_set():
            await self._runtime.start(snapshot)
            await self._serve(started)
        if self._companion is not None:
            await self._companion.stop()

    async def _serve(self, started: Callable[[], None]) -> None:
        runtime = self._runtime
        runtime.tasks.spawn(self._publisher.watch(), "watch files")
        started()
        if self._companion is not None:
            self._companion.on_published = self._publisher.poke
            self._introduce()
            self._tell_force(fine=True)
            self._companion.start()
        self._publisher.warned = frozenset(runtime.snapshot.warnings)
        for warning in runtime.snapshot.warnings:
            log.warning("%s", warning)
        await self._stopping.wait()
        log.info("stopping: finishing what is in flight (at most %g s)", runtime.snapshot.limits.drain_seconds)
        # A second signal ends it at once, the usual way.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        await runtime.stop()

    async def _apply(self, snapshot: Snapshot) -> None:
        if self._second is not None and snapshot.platform.enabled != self._runtime.snapshot.platform.enabled:
            raise StartError("turning the console on or off (console.enabled) needs a restart")
        await self._runtime.apply(snapshot)
        self._introduce()

    def _stop(self) -> None:
        self._stopping.set()
        if self._companion is not None:
            self._companion.give_up()

    def _reload(self) -> None:
        if self._runtime.binds:  # otherwise everything is read in a moment anyway
            self._runtime.tasks.spawn(self._publisher.publish(), "reload")

    def _introduce(self) -> None:
        if self._companion is not None:
            self._companion.tell(self._settings(self._runtime.snapshot), gateway(self._runtime))

    def _tell_force(self, fine: bool) -> None:
        if self._companion is not None:
            self._companion.tell_force({"fine": fine, "leftOut": len(self._runtime.plane.plan.left_out)})

    async def _first(self) -> Snapshot:
        """What is served at first. Where a store has never told who may call, nobody may until it has; so it is where
        what it told cannot be opened any more.
        """
        source, sealed = self._source, None
        try:
            snapshot = source.read()
        except Sealed as error:
            snapshot, sealed = source.read(store=False), error
        waits = source.published is not None and awaits_publication(
            self._runtime.data_dir, snapshot.platform, sealed=sealed is not None
        )
        if self._second is not None and snapshot.platform.enabled:
            self._companion = Companion(self._settings(snapshot), self._answer, self._second.announce)
        if sealed is not None and not (waits and self._companion is not None):
            raise sealed
        if not waits:
            return snapshot
        if self._companion is None:
            raise StartError("there is a store that was never read; start once with the console to serve what it holds")
        if sealed is not None:
            log.error("%s", sealed)
        log.info("waiting for what the store holds")
        self._companion.introduce(around(snapshot, {}))
        self._companion.start()
        try:
            await self._companion.publication()
            return snapshot if self._stopping.is_set() else source.read()
        except BaseException:
            await self._companion.stop()
            raise

    def _settings(self, snapshot: Snapshot) -> dict[str, Any]:
        settings = snapshot.platform
        return {
            "dataDir": str(self._runtime.data_dir.absolute()),
            "environ": dict(self._runtime.environ),
            "logLevel": "info" if self._second is None else self._second.log_level,
            "storeUrl": settings.store_url,
            "host": settings.console_host,
            "port": settings.console_port,
            "keepSeconds": settings.keep_seconds,
            "keepBytes": settings.keep_bytes,
        }

    async def _answer(self, question: str, about: dict[str, Any]) -> dict[str, Any]:
        """What the platform process asks. Raises ConfigError."""
        runtime = self._runtime
        if not runtime.binds:
            raise StartError("the gateway is starting")
        if question == "ping":
            return {}
        if question == "facts":
            return await facts(runtime)
        explaining = asyncio.to_thread(explain, runtime.snapshot, asked(about), runtime.data_dir, runtime.environ)
        return (await explaining).plain()


def _listening_socket(host: str, port: int) -> socket.socket:
    """Raises OSError. `::` is every address of both families, as people expect who write it."""
    # As bytes where it can be: for a text, Python loads all that it knows of names in other scripts (1 MB).
    name = host.encode() if host.isascii() else host
    family, _, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)


def _say_left_out(plan: Plan, before: Plan | None = None) -> None:
    """Once, until it is different."""
    for text in plan.left_out:
        if before is None or text not in before.left_out:
            log.error("left out of what the store holds: %s", text)


def _clean(text: str) -> str:
    """By the secrets that are known when it is said."""
    return RedactingFormatter.redactor.clean(text)


def raise_file_limit() -> None:
    """Connections, and pipes of hosted servers, need more descriptors than the 1024 that many systems begin with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def log_to_stderr(level: str) -> None:
    """Lines on standard error, without secrets. `level`: debug, info, warning or error."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.getLevelNamesMapping()[level.upper()])


def _certificate_files(bind: Bind) -> dict[str, tuple[str, str]]:
    return {
        listener.hostname or "": (listener.tls.cert, listener.tls.key)
        for listener in bind.listeners
        if listener.tls is not None
    }
