"""The second process: it owns the store, publishes what is in it, serves the API, and brings records into the store.

The only place that builds its objects. The data plane starts it (`companion`), as `python -m moongate.platform_process`
with the number of an inherited socket; settings and secrets come over that. It ends when the other end is closed.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from moongate.audit.chain import chain_key
from moongate.audit.ingest import Ingester
from moongate.audit.redact import RedactingFormatter, Redactor
from moongate.audit.retention import keep
from moongate.console.app import build_app
from moongate.console.link import Link
from moongate.console.operators import sign_in_link
from moongate.console.services import Backing, Services
from moongate.control.compile import CompileOptions
from moongate.control.platform.documents import InForce
from moongate.control.platform.instances import FileInstance, Surroundings
from moongate.control.platform.platform import Platform
from moongate.control.published import NAME, Published, read_published, write_published
from moongate.control.schema.durations import parse_duration
from moongate.control.sealing import Keys, SealBroken
from moongate.control.source import Source
from moongate.errors import StartError
from moongate.probing import probe_config
from moongate.reporting import around
from moongate.runtime import log_to_stderr
from moongate.store.changes import Changes
from moongate.store.engine import open_store
from moongate.store.failing import StoreAway
from moongate.tasks import Tasks

log = logging.getLogger("moongate")

LINE_BYTES = 256 * 1024 * 1024
HOST, FIRST_PORT, LAST_PORT = "127.0.0.1", 8001, 8099
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on
SETTINGS_SECONDS = 10.0
AGAIN_SECONDS, LONGEST_SECONDS = 0.5, 10.0
# How long what the journal holds may take to be brought in at the end: when asked to stop, when left alone.
FINISH_SECONDS, ORPHAN_SECONDS = 10.0, 2.0
JOURNAL = "journal"
OK, FAILED = 0, 3


class Quiet(uvicorn.Server):
    """uvicorn without its own signal handlers: this process has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them alone."""
        yield


class PlatformProcess:
    """One run of it."""

    def __init__(self, settings: Mapping[str, Any], link: Link) -> None:
        self._link = link
        self._settings = settings
        self._data_dir = Path(settings["dataDir"])
        self._environ: dict[str, str] = settings["environ"]
        self._keys = Keys.load(self._data_dir, self._environ)
        self._chain_keys = _chain_keys(self._keys)
        self._backing = Backing()
        self._tasks = Tasks("platform")
        self._tried = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._retention: tuple[float, int | None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._server: Quiet | None = None

    async def run(self) -> None:
        """Until the gateway is gone, or says so. Raises StartError."""
        serving = self._tasks.spawn(self._serve(), "serve")
        living = self._tasks.spawn(self._live_on_store(), "store")
        ending = self._tasks.spawn(self._link.ended.wait(), "wait for the end")
        await asyncio.wait((serving, living, ending), return_when=asyncio.FIRST_COMPLETED)
        living.cancel()
        if self._server is None:
            serving.cancel()
        else:
            self._server.should_exit = True
        await asyncio.wait((living,), timeout=1.0)
        await self._finish(FINISH_SECONDS if self._link.wanted else ORPHAN_SECONDS)
        await asyncio.wait((serving,), timeout=3.0)
        await self._tasks.close()
        if self._backing.store is not None:
            await self._backing.store.close()
        if not self._link.ended.is_set():
            raise StartError("a part of the platform process has ended")

    # -- the admin port

    async def _serve(self) -> None:
        """The API, as soon as there is a port for it. Nothing else waits for that."""
        listening = await self._listen()
        address = _address(listening)
        if not ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
            log.warning("the console can be reached from elsewhere without TLS; better put a proxy with TLS before it")
        services = Services(
            backing=self._backing,
            directory=self._data_dir / JOURNAL,
            keys=self._chain_keys,
            live=self._link,
            probe=self._probe,
            address=address,
        )
        self._server = Quiet(_configured(build_app(services)))
        self._tasks.spawn(self._announce(address, listening.getsockname()[1]), "announce")
        await self._server.serve([listening])

    async def _listen(self) -> socket.socket:
        pause, said = AGAIN_SECONDS, ""
        while True:
            try:
                return listen(self._settings)
            except StartError as error:
                if str(error) != said:
                    said = str(error)
                    log.error("%s; all else goes on, and it is tried again", said)  # noqa: TRY400 - no trace: nothing of ours failed
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_SECONDS)

    async def _announce(self, address: str, port: int) -> None:
        """Say where it is; the first operator's link as soon as there is a store that has none."""
        await self._tried.wait()
        said = False
        while True:
            link = None
            if self._backing.platform is not None:
                with suppress(StoreAway):
                    code = await self._backing.platform.codes.first()
                    link = None if code is None else sign_in_link(address, code)
            if not said or link is not None:
                self._link.say({"said": "listening", "address": address, "port": port, "link": link})
                said = True
            if self._backing.platform is not None:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    # -- what stands on the store

    async def _live_on_store(self) -> None:
        platform = await self._open()
        store = self._backing.store
        if store is None:
            return
        self._backing.ingester = ingester = Ingester(
            store, self._data_dir / JOURNAL, self._chain_keys[0], platform.tokens.touch
        )
        self._backing.changes = changes = Changes(store)
        self._tried.set()
        work = Tasks("store")
        try:
            work.spawn(ingester.run(), "ingest")
            work.spawn(self._publish_when_told(platform, work), "publish when told")
            while True:
                if await self._try(platform, work):
                    await asyncio.sleep(AGAIN_SECONDS)
                else:
                    await changes.changed()
        finally:
            await work.close()
            await changes.close()

    async def _open(self) -> Platform:
        """The store, as soon as it can be had."""
        pause = AGAIN_SECONDS
        while True:
            try:
                store = self._backing.store = await open_store(self._settings["storeUrl"], self._data_dir)
                surroundings = Surroundings(self._file_instances, self._base)
                platform = await Platform.open(store, self._data_dir, self._environ, surroundings)
            except (StartError, StoreAway) as error:
                self._backing.why = f"the store cannot be used now: {error}"
                log.error("%s; trying again in %g s", self._backing.why, pause)  # noqa: TRY400 - no trace: nothing of ours failed
                self._link.say({"said": "waiting", "why": str(error)})
                self._tried.set()
                if self._backing.store is not None:
                    await self._backing.store.close()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_SECONDS)
            else:
                self._backing.platform = platform
                return platform

    async def _try(self, platform: Platform, work: Tasks) -> bool:
        """Publish. What was published before stays, if that cannot be; whether it may be tried again soon."""
        try:
            await self._publish(platform)
            await self._keep_records(platform, work)
        except (StoreAway, OSError, SealBroken, OtherStoreError) as error:
            why = str(error)
            if why != self._backing.unpublished:
                log.error("what the store holds is not published, what was published before stays: %s", why)  # noqa: TRY400 - no trace: nothing of ours failed
            self._backing.unpublished = why
            self._link.say({"said": "waiting", "why": why})
            return isinstance(error, StoreAway | OSError)
        self._backing.unpublished = None
        return False

    async def _publish(self, platform: Platform) -> None:
        store = self._backing.store
        if store is None:
            return
        async with self._publishing:
            found = await platform.document()
            identity = await store.identity()  # read last: what is published is never taken for another store's
            changed = await asyncio.to_thread(publish, self._data_dir, self._keys, found, identity)
        if changed:
            log.debug("what the store holds was published")
        self._link.say({"said": "published"})

    async def _publish_when_told(self, platform: Platform, work: Tasks) -> None:
        """Which tokens are of use depends on the instances of files, too."""
        while True:
            await self._link.news.wait()
            self._link.news.clear()
            await self._try(platform, work)  # else it is published when the store is back

    async def _keep_records(self, platform: Platform, work: Tasks) -> None:
        """Old records go; how old, may be set in the store too."""
        found = await platform.settings.get()
        seconds = self._settings["keepSeconds"] if found.audit_keep is None else parse_duration(found.audit_keep)
        wanted = (seconds, found.audit_keep_bytes or self._settings["keepBytes"])
        store = self._backing.store
        if wanted == self._retention or store is None:
            return
        if self._keeping is not None:
            self._keeping.cancel()
        self._retention = wanted
        self._keeping = work.spawn(keep(store, self._chain_keys, *wanted), "retention")

    async def _finish(self, seconds: float) -> None:
        """Bring in what the journal holds. What is left is brought in by the next one."""
        if self._backing.ingester is not None:
            with suppress(TimeoutError, StoreAway, OSError):
                await self._backing.ingester.catch_up(seconds)

    # -- what the gateway said

    async def _probe(self, config: dict[str, Any]) -> dict[str, Any]:
        """A connection test. Programs do not get the variables that hold secrets of files, as in the gateway."""
        known = [secret for secret in self._link.gateway.get("secrets", ()) if secret]
        environ = {name: value for name, value in self._environ.items() if not any(secret in value for secret in known)}
        return await probe_config(config, environ)

    def _file_instances(self) -> tuple[FileInstance, ...]:
        return _instances_of(self._link.gateway)

    def _base(self, name: str) -> str:
        return _base_of(self._link.gateway, name)


def _instances_of(gateway: Mapping[str, Any]) -> tuple[FileInstance, ...]:
    found = gateway.get("instances", ())
    return tuple(FileInstance(one["name"], one["where"], one["config"]) for one in found)


def _base_of(gateway: Mapping[str, Any], name: str) -> str:
    known = {one["name"]: one["address"] for one in gateway.get("instances", ())}
    return str(known.get(name) or f"{gateway.get('base', 'http://127.0.0.1:8000/mcp')}/{name}").rstrip("/")


class OtherStoreError(StartError):
    """What was published comes from another store: an empty one in its place would open the gateway."""


def publish(data_dir: Path, keys: Keys, found: InForce, store: str) -> bool:
    """Write it, unless that is what stands there; whether it was written. `store` is the identity of the one it comes
    from. That tokens are in use stays. Raises OSError, OtherStoreError.
    """
    before, current = _before(data_dir, keys)
    if before is not None and not before.empty and before.store not in {"", store}:
        text = (
            "the store is not the one that what is in force was published from: it is new, or another one; bring the "
            f"former store back, or, if this one is right, stop, remove {data_dir / NAME} and start again"
        )
        raise OtherStoreError(text)
    in_use = found.tokens_in_use or (before is not None and before.tokens_in_use)
    if current and before == Published(json.dumps(found.document), in_use, store):
        return False
    write_published(data_dir, keys.current, found.document, tokens_in_use=in_use, store=store)
    return True


def _before(data_dir: Path, keys: Keys) -> tuple[Published | None, bool]:
    """What was published before, if it can be opened; whether that is so with today's key."""
    try:
        return read_published(data_dir, keys.current), True
    except ValueError:
        with suppress(ValueError):
            return read_published(data_dir, *keys.old), False
    return None, False


@asynccontextmanager
async def local_app(
    data_dir: Path, environ: Mapping[str, str], files: tuple[Path, ...] = ()
) -> AsyncIterator[tuple[ASGIApp, dict[str, str]]]:
    """The app without a gateway around it, and the headers of its built-in admin: for the command line.

    `files` are the gateway's. What was changed is published at the end, unless a gateway runs there, which does it
    itself. Raises ConfigError, StartError, StoreAway.
    """
    snapshot = Source(files, CompileOptions(), _Forgiving(environ)).read() if files else None
    known = {} if snapshot is None else around(snapshot, {})
    keys = Keys.load(data_dir, environ)
    chain_keys = _chain_keys(keys)
    store = await open_store(None if snapshot is None else snapshot.platform.store_url, data_dir)
    try:
        surroundings = Surroundings(lambda: _instances_of(known), partial(_base_of, known))
        platform = await Platform.open(store, data_dir, environ, surroundings)
        ingester = Ingester(store, data_dir / JOURNAL, chain_keys[0], platform.tokens.touch)
        secret = secrets.token_urlsafe(32)
        services = Services(
            backing=Backing(store, platform, ingester),
            directory=data_dir / JOURNAL,
            keys=chain_keys,
            probe=partial(probe_config, environ=environ),
            local_admin=secret,
        )
        yield build_app(services), {"authorization": f"Bearer {secret}"}
        if not _attended(data_dir / JOURNAL):
            found = await platform.document()
            await asyncio.to_thread(publish, data_dir, keys, found, await store.identity())
    finally:
        await store.close()


class _Forgiving(dict[str, str]):
    """An environment without gaps: who looks after the store need not have the secrets that the files name."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return f"not-set-{name}"


def _attended(journal: Path) -> bool:
    """Whether a platform process brings these records in; then it publishes too, and knows the gateway's files."""
    try:
        lock = os.open(journal / "ingest.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _chain_keys(keys: Keys) -> tuple[bytes, ...]:
    """Today's first, which new records are chained with."""
    return tuple(map(chain_key, (keys.current, *keys.old)))


def listen(settings: Mapping[str, Any]) -> socket.socket:
    """The admin port's socket: the port that is set, or that was used before, or the usual one, or the next free one.

    Raises StartError.
    """
    host, port, before = settings["host"] or HOST, settings["port"], settings.get("portBefore")
    ports = [port] if port is not None else [*filter(None, (before,)), *range(FIRST_PORT, LAST_PORT + 1)]
    reason = ""
    for wanted in ports:
        try:
            family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            return socket.create_server((host, wanted), family=family, backlog=256)
        except OSError as error:
            reason = error.strerror or str(error)
    shown = str(port) if port is not None else f"{FIRST_PORT} to {LAST_PORT}"
    raise StartError(f"the console cannot listen on {host} port {shown}: {reason}; set console.port")


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _configured(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=256,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
    )


async def _run(number: int) -> int:
    pair = socket.socket(fileno=number)
    reader, writer = await asyncio.open_connection(sock=pair, limit=LINE_BYTES)
    link = Link(writer, lambda: _know_secrets(link))
    tasks = Tasks("link")
    tasks.spawn(link.hear(reader), "hear")
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, link.stop)
    try:
        async with asyncio.timeout(SETTINGS_SECONDS):
            settings = await link.settings
        log_to_stderr(settings["logLevel"])
        for chatty in ("uvicorn", "alembic", "aiosqlite"):  # the last says what statements hold
            logging.getLogger(chatty).setLevel(logging.WARNING)
        await PlatformProcess(settings, link).run()
    except StartError as error:
        log.error("%s", error)  # noqa: TRY400 - no trace: nothing of ours failed
        return FAILED
    except TimeoutError:
        return FAILED
    finally:
        await tasks.close()
        writer.close()
    return OK


def _know_secrets(link: Link) -> None:
    RedactingFormatter.redactor = Redactor(link.gateway.get("secrets", ()))


def main() -> None:
    """The number of the inherited socket is the only argument."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(_run(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
