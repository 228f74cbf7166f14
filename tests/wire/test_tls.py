"""TLS on both sides: listeners by name and their renewed certificates, backends that prove who they are."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from moongate.errors import StartError
from moongate.testing import Backend, Gateway, gateway
from moongate.wire.tls import Certificates, client_context, server_context
from tests.hostile.talk import PONG, Client, client, echo, run, turned


def _write(directory: Path, name: str, issued: trustme.LeafCert) -> tuple[str, str]:
    """Certificate and key as files, written anew and moved into place as ACME clients do."""
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    for kind, data in (("crt", chain), ("key", issued.private_key_pem.bytes())):
        (directory / f"new.{kind}").write_bytes(data)
        (directory / f"new.{kind}").replace(directory / f"{name}.{kind}")
    return str(directory / f"{name}.crt"), str(directory / f"{name}.key")


def _read(name: str) -> bytes:
    return Path(name).read_bytes()


def _overwrite(name: str, data: bytes | None) -> None:
    """Change a file in place; None removes it."""
    if data is None:
        Path(name).unlink()
    else:
        Path(name).write_bytes(data)


@asynccontextmanager
async def _secure_client(port: int, ca: trustme.CA, name: str) -> AsyncIterator[Client]:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def _serial(peer: Client) -> str:
    return str(peer.writer.get_extra_info("peercert")["serialNumber"])


def _binds(backend: Backend, files: dict[str, tuple[str, str]]) -> str:
    listeners = "".join(
        f"  - name: n{at}\n    hostname: '{name}'\n    protocol: HTTPS\n    tls: {{cert: '{cert}', key: '{key}'}}\n"
        f"    routes: [{{backends: [{{mcp: {{targets: [{{name: t, mcp: {{host: '{backend.url}'}}}}]}}}}]}}]\n"
        for at, (name, (cert, key)) in enumerate(files.items())
    )
    return f"binds:\n- port: 1\n  listeners:\n{listeners}"


@asynccontextmanager
async def _listening(backend: Backend, cert: str, key: str) -> AsyncIterator[Gateway]:
    config = (
        f"gateway:\n  tls: {{cert: '{cert}', key: '{key}'}}\n"
        f"mcpServers:\n  time: {{url: '{backend.url}', type: streamable-http}}\n"
    )
    async with gateway(config) as running:
        yield running


def test_a_listener_speaks_tls_and_renews_its_certificate(tmp_path: Path) -> None:
    """A changed file counts from the next connection on; open connections keep what they have."""

    async def work() -> None:
        ca = trustme.CA()
        files = _write(tmp_path, "a", ca.issue_cert("localhost"))
        async with (
            Backend(echo) as backend,
            _listening(backend, *files) as gate,
            _secure_client(gate.port, ca, "localhost") as old,
        ):
            assert (await old.call()).body == PONG
            gate.runtime.refresh()
            _write(tmp_path, "a", ca.issue_cert("localhost"))
            gate.runtime.refresh()
            async with _secure_client(gate.port, ca, "localhost") as new:
                assert (await new.call()).body == PONG
                assert _serial(new) != _serial(old)
            assert (await old.call()).body == PONG

    run(work())


def test_a_broken_certificate_keeps_the_old_one(tmp_path: Path) -> None:
    """Half a renewal (a key that does not fit, an empty file, no file) changes nothing until it is whole."""

    async def work() -> None:
        ca = trustme.CA()
        cert, key = _write(tmp_path, "a", ca.issue_cert("localhost"))
        good = _read(key)
        async with Backend(echo) as backend, _listening(backend, cert, key) as gate:
            for broken in (ca.issue_cert("localhost").private_key_pem.bytes(), b"", b"garbage", None):
                _overwrite(key, broken)
                gate.runtime.refresh()
                async with _secure_client(gate.port, ca, "localhost") as peer:
                    assert (await peer.call()).body == PONG
            _overwrite(key, good)
            gate.runtime.refresh()
            async with _secure_client(gate.port, ca, "localhost") as peer:
                assert (await peer.call()).body == PONG

    run(work())


def test_the_certificate_is_chosen_by_name(tmp_path: Path) -> None:
    """Exact, then wildcard, then any; and the right one is renewed."""

    async def work() -> None:
        ca = trustme.CA()
        names = {
            "": "localhost",
            "a.c.example": "a.c.example",
            "*.c.example": "*.c.example",
            "*.b.c.example": "*.b.c.example",
        }
        files = {name: _write(tmp_path, f"c{at}", ca.issue_cert(host)) for at, (name, host) in enumerate(names.items())}
        certificates = Certificates(files)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=certificates.context)
        port = server.sockets[0].getsockname()[1]
        try:
            for asked, expected in (
                ("a.c.example", "a.c.example"),
                ("A.C.EXAMPLE", "a.c.example"),
                ("d.c.example", "*.c.example"),
                ("x.b.c.example", "*.b.c.example"),
                ("localhost", "localhost"),
            ):
                async with _secure_client(port, ca, asked) as peer:
                    certificate = peer.writer.get_extra_info("peercert")
                    assert [value for _, value in certificate["subjectAltName"]] == [expected]
            before = certificates.find("a.c.example")
            _write(tmp_path, "c1", ca.issue_cert("a.c.example"))
            assert certificates.refresh() == ["a.c.example"]
            assert certificates.refresh() == []
            assert certificates.find("a.c.example") is not before
        finally:
            server.close()

    run(work())


def test_a_client_that_never_finishes_its_handshake_is_let_go(tmp_path: Path) -> None:
    """It has the time of a head, as on a plain port: a connection that was opened is not held for a minute."""

    async def work() -> None:
        cert, key = _write(tmp_path, "a", trustme.CA().issue_cert("localhost"))
        async with Backend(echo) as backend:
            config = (
                f"gateway:\n  tls: {{cert: '{cert}', key: '{key}'}}\n  limits: {{headTime: 300ms}}\n"
                f"mcpServers:\n  time: {{url: '{backend.url}', type: streamable-http}}\n"
            )
            async with gateway(config) as gate:
                for data in (b"", b"\x16\x03\x01"):
                    async with client(gate.port) as peer:
                        await peer.send(data)
                        await peer.rest()  # TimeoutError if it does not end

    run(work())


def test_plain_http_on_a_tls_port_gets_nothing(tmp_path: Path) -> None:
    """Neither an answer nor a connection that stays."""

    async def work() -> None:
        ca = trustme.CA()
        files = _write(tmp_path, "a", ca.issue_cert("localhost"))
        async with Backend(echo) as backend, _listening(backend, *files) as gate:
            async with client(gate.port) as peer:
                await peer.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert b"HTTP/1" not in await peer.rest()
            assert not gate.runtime.binds[0].server.connections

    run(work())


def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    """1.2 is the least."""
    issued = trustme.CA().issue_cert("localhost")
    assert server_context(*_write(tmp_path, "a", issued)).minimum_version is ssl.TLSVersion.TLSv1_2


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """A start that fails says which file it was."""
    (tmp_path / "a.crt").write_text("garbage")
    missing = str(tmp_path / "missing.pem")
    attempts: list[Callable[[], object]] = [
        lambda: server_context(str(tmp_path / "a.crt"), missing),
        lambda: client_context(missing, None, None),
        lambda: client_context(None, str(tmp_path / "a.crt"), missing),
    ]
    for attempt in attempts:
        with pytest.raises(StartError, match=r"(missing\.pem|a\.crt)"):
            attempt()


@asynccontextmanager
async def _secure_backend(context: ssl.SSLContext) -> AsyncIterator[Backend]:
    backend = Backend(echo)
    server = await asyncio.start_server(backend._accept, "127.0.0.1", 0, ssl=context)
    backend.port = server.sockets[0].getsockname()[1]
    try:
        yield backend
    finally:
        server.close()
        await backend._tasks.close()


def _https(backend: Backend, host: str, tls: str) -> str:
    url = f"https://{host}:{backend.port}/mcp"
    return f"mcpServers:\n  time: {{url: '{url}', type: streamable-http, tls: {{{tls}}}}}\n"


async def _status(config: str) -> tuple[int, str]:
    async with gateway(config) as gate, client(gate.port) as peer:
        answer = await peer.call()
        assert (await peer.call()).status == answer.status
        found = b'"class":"upstream_tls"' in answer.body.replace(b" ", b"")
        return answer.status, "upstream_tls" if found else ""


def test_a_backends_certificate_is_verified(tmp_path: Path) -> None:
    """By the authority of the configuration, and by its name; anything else is upstream_tls and reaches nobody."""

    async def work() -> None:
        ca, other = trustme.CA(), trustme.CA()
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
        good, wrong_name = (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) for _ in range(2))
        ca.issue_cert("localhost", "127.0.0.1").configure_cert(good)
        ca.issue_cert("elsewhere.example").configure_cert(wrong_name)
        right, wrong = (f"ca: '{tmp_path / name}'" for name in ("ca.pem", "other.pem"))
        async with _secure_backend(good) as backend, _secure_backend(wrong_name) as impostor:
            assert await _status(_https(backend, "localhost", right)) == (200, "")
            assert await _status(_https(backend, "127.0.0.1", right)) == (200, "")
            assert backend.connections == 2
            for config in (
                _https(backend, "localhost", wrong),
                _https(backend, "localhost", ""),
                _https(impostor, "localhost", right),
                _https(impostor, "127.0.0.1", right),
            ):
                assert await _status(config) == (502, "upstream_tls")
            assert (len(backend.seen), len(impostor.seen)) == (4, 0)

    run(work())


def test_a_backend_that_speaks_no_tls_is_upstream_tls() -> None:
    """An http server at an https address."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        backend = Backend(echo)
        backend.port = server.sockets[0].getsockname()[1]
        try:
            assert await _status(_https(backend, "127.0.0.1", "")) == (502, "upstream_tls")
        finally:
            server.close()

    run(work())


def test_the_gateway_presents_its_client_certificate(tmp_path: Path) -> None:
    """A backend that demands one sees it; without one there is no connection."""

    async def work() -> None:
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        cert, key = _write(tmp_path, "client", ca.issue_cert("gateway@moongate.example"))
        demanding = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        demanding.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(demanding)
        ca.issue_cert("localhost").configure_cert(demanding)
        trust = f"ca: '{tmp_path / 'ca.pem'}'"
        async with _secure_backend(demanding) as backend:
            assert await _status(_https(backend, "localhost", f"{trust}, cert: '{cert}', key: '{key}'")) == (200, "")
            status, _ = await _status(_https(backend, "localhost", trust))
            assert status == 502
            assert len(backend.seen) == 2

    run(work())


def test_a_client_that_vanishes_over_tls_is_noticed(tmp_path: Path) -> None:
    """With and without TLS's own goodbye."""

    async def work() -> None:
        ca = trustme.CA()
        files = _write(tmp_path, "a", ca.issue_cert("localhost"))
        async with Backend(echo) as backend, _listening(backend, *files) as gate:
            connections = gate.runtime.binds[0].server.connections
            for politely in (True, False):
                async with _secure_client(gate.port, ca, "localhost") as peer:
                    assert (await peer.call()).body == PONG
                    assert len(connections) == 1
                    peer.writer.close() if politely else peer.reset()
                    assert await turned(lambda: not connections, 1)

    run(work())
