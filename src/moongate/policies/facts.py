"""What conditions see of a call: its caller, what it asks for, its arguments and headers, the time."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from moongate.model.exchange import Exchange
from moongate.model.principal import Principal
from moongate.policies.arguments import read_arguments
from moongate.policies.cel import CHANGING, Condition, Prepared
from moongate.policies.checks import Always, Check
from moongate.protocol.asks import USES, Ask

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})


class Group:
    """Conditions that the library is asked together: what they read is handed over to it once. For one caller, and one
    thing that he asks for.
    """

    __slots__ = ("conditions", "fits", "prepared", "reads")

    def __init__(self) -> None:
        self.conditions: list[Condition] = []
        self.reads: frozenset[str] = frozenset()
        self.fits: bool = True
        self.prepared: Prepared | None = None

    def add(self, condition: Condition) -> int:
        """Give its place."""
        self.conditions.append(condition)
        self.reads |= condition.reads
        self.fits = Prepared.fits(self.conditions)
        return len(self.conditions) - 1


class Facts:
    """Each value is made when the first condition reads it."""

    __slots__ = ("_arguments", "_asked", "_exchange", "_found", "_instance", "_made", "_principal", "_read", "_source")

    def __init__(
        self,
        instance: str,
        principal: Principal,
        source: str,
        exchange: Exchange | None = None,
        arguments: msgspec.Raw | None = None,
    ) -> None:
        self._instance: str = instance
        self._principal: Principal = principal
        self._source: str = source
        self._exchange: Exchange | None = exchange
        self._arguments: msgspec.Raw | None = arguments
        self._made: dict[str, object] | None = None
        self._asked: dict[Group, list[bool | None]] | None = None
        self._read: bool = False
        self._found: dict[str, object] | None = None

    @property
    def arguments(self) -> dict[str, object] | None:
        """Those of the call; None: no condition may judge them."""
        if not self._read:
            self._read = True
            self._found = None if self._arguments is None else read_arguments(self._arguments)
        return self._found

    def left_of(self, condition: Condition, ask: Ask) -> Check:
        """What checks a condition whenever this caller asks for the same; `Always(None)` if it is the library's."""
        if condition.check is None:
            return Always(None)
        return condition.check.fold({name: self._value(name, ask) for name in condition.reads - CHANGING})

    def asked(self, group: Group, ask: Ask) -> list[bool | None]:
        """What the library says of each condition; None: it cannot be evaluated."""
        if self._asked is None:
            self._asked = {}
        found = self._asked.get(group)
        if found is None:
            self._asked[group] = found = self._ask(group, ask)
        return found

    def _ask(self, group: Group, ask: Ask) -> list[bool | None]:
        arguments = self.arguments if group.fits else None
        if arguments is None:
            return [self.holds(condition, ask) for condition in group.conditions]
        if group.prepared is None:
            group.prepared = Prepared(
                group.conditions, {name: self._value(name, ask) for name in group.reads - CHANGING}
            )
        return group.prepared.ask(group.conditions, arguments)

    def holds_always(self, condition: Condition, ask: Ask) -> bool | None:
        """Whether it holds whatever arguments, headers and time are; None: it depends on them."""
        lasting = condition.reads - CHANGING
        return condition.holds_always({name: self._value(name, ask) for name in lasting})

    def holds(self, condition: Condition, ask: Ask) -> bool | None:
        """None: it cannot be evaluated."""
        values: dict[str, object] = {}
        for name in condition.reads:
            value = self._value(name, ask)
            if value is None:
                return None
            values[name] = value
        return condition.holds(values)

    def _value(self, name: str, ask: Ask) -> object:
        if name == "method":
            return ask.method
        if name in USES:
            return ask.name if ask.kind == name else ""
        made = self._made
        if made is None:
            self._made = made = {}
        if name not in made:
            made[name] = self._make(name)
        return made[name]

    def _make(self, name: str) -> object:
        principal = self._principal
        if name == "principal":
            return {"name": principal.name, "groups": sorted(principal.groups), "token": principal.token or ""}
        if name == "source":
            return self._source
        if name == "instance":
            return self._instance
        if name == "now":
            return datetime.now(UTC)
        if name == "headers":
            return None if self._exchange is None else _headers(self._exchange)
        return self.arguments


def _headers(exchange: Exchange) -> dict[str, str]:
    """Names in lower case; lines of one name are joined (RFC 9110 section 5.3). Credentials are left out."""
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.fields.items()}
    for name, value in exchange.more:
        key = name.decode("latin-1")
        found[key] = f"{found[key]}, {value.decode('latin-1')}" if key in found else value.decode("latin-1")
    return {name: value for name, value in found.items() if name not in _CREDENTIALS}
