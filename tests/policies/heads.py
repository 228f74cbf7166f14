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
    return Exchange(
        request_id="r",
        time=0.0,
        started=0.0,
        source="192.0.2.1",
        method=method,
        path="/mcp/one",
        fields={name.encode(): value.encode("latin-1") for name, value in fields.items()},
        more=more or [],
        local_host=local,
        secure=secure,
        peer="192.0.2.1",
        outer_host=outer_host,
    )
