"""TLS contexts: for listeners, with reload when the files change, and for connections to backends."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from moongate.errors import StartError


def client_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Verify against the system's roots, and `ca` beside them; present `cert`. Raises StartError."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    try:
        if ca is not None:
            context.load_verify_locations(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(name for name in (ca, cert, key) if name)
        msg = f"{files}: cannot be used for TLS: {error}"
        raise StartError(msg) from None
    return context


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """One listener's certificate. Raises StartError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        msg = f"{cert}, {key}: cannot be used for TLS: {error}"
        raise StartError(msg) from None
    return context


class Certificates:
    """The certificates of one port, chosen by SNI (RFC 6066 section 3) and read again when their files change.

    `files` maps a hostname, `*.suffix` or "" (any other name) to (cert, key). Open connections keep what they have.
    """

    def __init__(self, files: Mapping[str, tuple[str, str]]) -> None:
        self._files = dict(files)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._stamps: dict[str, tuple[float, ...]] = {}
        for name in self._files:
            self._load(name)
        first = next(iter(self._files))
        self.context = self._contexts[first]
        self.context.sni_callback = self._choose

    def update(self, files: Mapping[str, tuple[str, str]]) -> None:
        """Other files, after a reload. Raises StartError and keeps what was."""
        other = Certificates(files)
        self._files, self._contexts, self._stamps = other._files, other._contexts, other._stamps

    def refresh(self) -> list[str]:
        """Read again what has changed; returns those names. Raises StartError, and keeps the old certificate."""
        changed = [name for name, pair in self._files.items() if _stamp(pair) != self._stamps[name]]
        for name in changed:
            self._stamps[name] = _stamp(self._files[name])
            self._load(name)
        return changed

    def _load(self, name: str) -> None:
        cert, key = self._files[name]
        self._contexts[name] = server_context(cert, key)
        self._stamps[name] = _stamp((cert, key))

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self.find((name or "").lower())

    def find(self, name: str) -> ssl.SSLContext:
        """The context for a host name: exact, then the longest wildcard, then the one for any, then the first."""
        if name in self._contexts:
            return self._contexts[name]
        suffix = name
        while "." in suffix:
            suffix = suffix.partition(".")[2]
            if (wildcard := f"*.{suffix}") in self._contexts:
                return self._contexts[wildcard]
        return self._contexts.get("") or next(iter(self._contexts.values()))


def _stamp(pair: tuple[str, str]) -> tuple[float, ...]:
    stamps: list[float] = []
    for name in pair:
        try:
            status = Path(name).stat()
            stamps += (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            stamps.append(-1.0)
    return tuple(stamps)
