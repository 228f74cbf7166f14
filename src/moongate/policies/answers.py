"""Routes that the gateway answers itself: a fixed answer, or a redirect. No server is called."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from moongate.model.exchange import Exchange
from moongate.model.snapshot import PolicyConfig
from moongate.policies.base import HeadAnswer, Verdict
from moongate.policies.host import split_authority

# What cannot stand in a Location is percent-encoded (RFC 3986 section 2.1).
_NEVER_IN_LOCATION = re.compile(rb"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class DirectResponseConfig(PolicyConfig):
    """The answer to every request of a route. `setting`: where it stands."""

    status: int
    body: str = ""
    setting: str = "directResponse"


@dataclass(frozen=True, slots=True)
class RedirectConfig(PolicyConfig):
    """Where every request of a route is sent; what is None stays as it was asked for.

    `host` is a name, or an IP literal without brackets. `drop_port`: the new port is the scheme's own. `path` replaces
    the whole path, `prefix` the one of `prefixes` (the path prefixes that the route takes) that begins it.
    """

    status: int = 302
    scheme: Literal["http", "https"] | None = None
    host: str | None = None
    port: int | None = None
    drop_port: bool = False
    path: str | None = None
    prefix: str | None = None
    prefixes: tuple[str, ...] = ()
    setting: str = "requestRedirect"


class DirectResponsePolicy:
    """Answers. The body is JSON if it reads as an object or array of JSON, otherwise plain text."""

    name = "directResponse"

    def __init__(self, config: DirectResponseConfig) -> None:
        body = config.body.encode()
        lines = b"content-type: %b\r\n" % _media_type(config.body) if body else b""
        reason = f"{config.setting} answers every request of this route with {config.status}, without a server"
        self._verdict = Verdict(self.name, reason, answer=HeadAnswer(config.status, lines, body, changeable=True))

    def judge(self, exchange: Exchange) -> Verdict:  # noqa: ARG002 - the same for all
        """Always final."""
        return self._verdict


class RedirectPolicy:
    """Answers with a `Location` (RFC 9110 section 10.2.2), which keeps the query."""

    name = "requestRedirect"

    def __init__(self, config: RedirectConfig) -> None:
        self._config = config

    def judge(self, exchange: Exchange) -> Verdict:
        """Always final."""
        config = self._config
        location = self._origin(exchange) + self._path(exchange.path)
        if exchange.query is not None:
            location += f"?{exchange.query}"
        target = _NEVER_IN_LOCATION.sub(lambda found: b"%%%02X" % found[0][0], location.encode("utf-8"))
        reason = (
            f"{config.setting} sends every request of this route elsewhere ({config.status}): {target.decode('ascii')}"
        )
        return Verdict(
            self.name, reason, answer=HeadAnswer(config.status, b"location: %b\r\n" % target, changeable=True)
        )

    def _origin(self, exchange: Exchange) -> str:
        """Scheme and authority; empty where nothing names a host, which leaves the client at the same one."""
        config = self._config
        asked, digits = split_authority(exchange.outer_host or exchange.fields.get(b"host", b"").decode("latin-1"))
        host = asked if config.host is None else config.host
        if not host:
            return ""
        scheme = config.scheme or ("https" if exchange.secure else "http")
        port = config.port
        if port is None and not config.drop_port and _PORT.fullmatch(digits):
            port = int(digits)
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}" + ("" if port in {None, 443 if scheme == "https" else 80} else f":{port}")

    def _path(self, path: str) -> str:
        config = self._config
        if config.path is not None:
            return config.path
        # Two slashes at the beginning would be read as the name of another host.
        if config.prefix is None:
            return path if not path.startswith("//") else "/" + path.lstrip("/")
        fitting = [prefix for prefix in config.prefixes if path == prefix or path.startswith(f"{prefix}/")]
        rest = path[len(max(fitting, key=len, default="")) :]
        return "/" + (config.prefix.rstrip("/") + rest).lstrip("/")


def _media_type(body: str) -> bytes:
    try:
        structured = isinstance(json.loads(body), dict | list)
    except (ValueError, RecursionError):
        structured = False
    return b"application/json" if structured else b"text/plain; charset=utf-8"
