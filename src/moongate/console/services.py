"""What the routes are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from moongate.console.live import Live, NoGateway
from moongate.control.platform.platform import Platform
from moongate.store.changes import Changes
from moongate.store.engine import Store
from moongate.store.failing import StoreAway

# Tries a server out: an entry of `mcpServers` with its secrets. Raises ConfigError.
Probe = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Counts(Protocol):
    """What was brought into the store, and what hindered it."""

    ingested: int
    damaged: int
    failures: int
    behind_bytes: int


class Ingesting(Protocol):
    """Brings records from the journal into the store."""

    @property
    def counts(self) -> Counts: ...

    async def catch_up(self, seconds: float) -> None:
        """All that was in the journal at the call is in the store then. Raises StoreAway, OSError, TimeoutError."""
        ...


@dataclass(slots=True)
class Backing:
    """What stands on the database. None while it was never reached; `why` says what was found then.

    `unpublished` says why what the store holds cannot be published now.
    """

    store: Store | None = None
    platform: Platform | None = None
    ingester: Ingesting | None = None
    changes: Changes | None = None
    why: str = "the store is being opened"
    unpublished: str | None = None

    @property
    def reachable(self) -> bool:
        """Whether it answers now, as far as is known."""
        return self.changes is not None and self.changes.reachable


@dataclass(slots=True)
class Services:
    """`directory` is the journal's, `keys` are those of its chain (today's first). `address` is where the app listens,
    `tails` how many of the audit trail are open.

    `local_admin`: who knows this secret is a built-in admin, for the command line that runs the app in its own process.
    """

    backing: Backing
    directory: Path
    keys: tuple[bytes, ...] = ()
    live: Live = field(default_factory=NoGateway)
    probe: Probe | None = None
    local_admin: str | None = field(default=None, repr=False)
    address: str | None = None
    tails: int = 0

    @property
    def platform(self) -> Platform:
        """Raises StoreAway while there is no database."""
        if self.backing.platform is None:
            raise StoreAway(self.backing.why)
        return self.backing.platform

    @property
    def store(self) -> Store:
        """Raises StoreAway while there is no database."""
        if self.backing.store is None:
            raise StoreAway(self.backing.why)
        return self.backing.store


def of_request(request: Request) -> Services:
    """Those of the app that a request came to."""
    services: Services = request.app.state.services
    return services


def _platform(request: Request) -> Platform:
    return of_request(request).platform


Given = Annotated[Services, Depends(of_request)]
OnPlatform = Annotated[Platform, Depends(_platform)]
