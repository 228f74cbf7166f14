"""Who is calling: the outcome of authentication, and the client tokens it is decided from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `name` is the user's, or "anonymous" where authentication is off; `token` names the token it came with.

    `groups` are those of the user: access rules speak of them.
    """

    name: str
    token: str | None = None
    groups: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """What sealed session ids are bound to."""
        return self.name if self.token is not None else ""


ANONYMOUS = Principal("anonymous")


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One client token. The token itself is never kept: `sha256` is its digest (32 bytes).

    `name` is the token's own, `user` who calls with it ("": the same). `instances` are the route names it is good for
    (None: all). `expires` is Unix time in seconds (None: never).
    """

    name: str
    sha256: bytes
    instances: frozenset[str] | None = None
    expires: float | None = None
    user: str = ""
    groups: frozenset[str] = frozenset()

    @property
    def principal(self) -> Principal:
        """Who calls with it."""
        return Principal(self.user or self.name, self.name, self.groups)
