"""Who is calling: the outcome of authentication, and the client tokens it is decided from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `name` is the token's name, or "anonymous" where authentication is off."""

    name: str
    token: str | None = None

    @property
    def key(self) -> str:
        """What sealed session ids are bound to."""
        return self.name if self.token is not None else ""


ANONYMOUS = Principal("anonymous")


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One static client token of `gateway.tokens`. The token itself is never kept: `sha256` is its digest (32 bytes).

    `instances` are the route names it is good for (None: all). `expires` is Unix time in seconds (None: never).
    """

    name: str
    sha256: bytes
    instances: frozenset[str] | None = None
    expires: float | None = None
