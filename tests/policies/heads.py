"""Requests as policies see them."""

from __future__ import annotations

from collections.abc import Mapping

from moongate.model.exchange import Exchange


def exchange(
    fields: Mapping[str, str],
    *,
    method: str = "POST",
    local: str = "127.0.0.1",
    secure: bool = False,
    more: list[tuple[bytes, bytes]] | None = None,
    outer_host: str = "",
) -> Exchange:
    """A request with these header fields that came in on `local`."""
    lines = {name.encode(): value.encode("latin-1") for name, value in fields.items()}
    exchange = Exchange("r", 0.0, 0.0, method, "/mcp/one", lines)
    exchange.source = exchange.peer = "192.0.2.1"
    exchange.more = more or []
    exchange.local_host, exchange.secure, exchange.outer_host = local, secure, outer_host
    return exchange
