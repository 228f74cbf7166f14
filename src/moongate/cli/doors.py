"""The client configuration of an instance, as the verbs `instance client-config` and `token create` print it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moongate.cli.flags import usage
from moongate.cli.tables import Row, console, safe
from moongate.control.clients import CLIENTS, Door, snippet

PLAIN = "mcpServers"


def check(client: str | None) -> None:
    """Exits with 2 for a client that nobody knows."""
    if client is not None and client not in CLIENTS:
        usage(f"{client!r} is not one of {', '.join(CLIENTS)}", "--client")


def with_token(instance: Row, token: str, client: str | None) -> list[dict[str, Any]]:
    """The configuration of a client (None: the one that most read) with a token that was just made."""
    addresses = instance["addresses"]
    door = Door(instance["name"], addresses["streamableHttp"], addresses["sse"], token_needed=True, token=token)
    return [snippet(client or PLAIN, door).plain()]


def show(found: Iterable[Row]) -> None:
    """Each with where it goes; the text itself as it is, ready to copy."""
    out = console()
    for number, one in enumerate(found):
        if number:
            out.print()
        out.print(f"{safe(one['title'])}: {safe(one['place'])}", style="bold")
        print("\n".join(safe(line) for line in one["text"].rstrip("\n").split("\n")))
        for note in one["notes"]:
            out.print(safe(note), style="dim")
