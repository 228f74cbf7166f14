"""Access rules as they are configured, and which of them are about a caller and what he asks for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from moongate.model.principal import Principal
from moongate.model.snapshot import PolicyConfig
from moongate.policies.cel import Condition, ConditionConfig
from moongate.protocol.asks import METHOD, RESOURCE, Ask
from moongate.protocol.uris import canonical


@dataclass(frozen=True, slots=True)
class AccessRuleConfig(PolicyConfig):
    """One rule. `patterns` are pairs of kind and glob, empty for everything. Without users and groups: about everybody;
    with them: any of these users, and members of any of these groups. `sources` are networks. `setting`: where it
    stands.
    """

    allow: bool
    patterns: tuple[tuple[str, str], ...] = ()
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    when: ConditionConfig | None = None
    setting: str = "access.rules[0]"

    @property
    def words(self) -> str:
        """What it says, without its condition, which may hold what came from the environment."""
        what = " ".join(f"{kind}:{glob}" for kind, glob in self.patterns) or "everything"
        who = [*sorted(self.users), *(f"group {group}" for group in sorted(self.groups))]
        words = [
            "allow" if self.allow else "deny",
            what,
            f"to {', '.join(who) or 'everybody'}",
            f"from {', '.join(self.sources) or 'everywhere'}",
        ]
        return " ".join(words)

    def __str__(self) -> str:
        return self.words + ("" if self.when is None else f" when {self.when.source}")


@dataclass(frozen=True, slots=True)
class AccessConfig(PolicyConfig):
    """One set of rules. `shadow`: it only records what it would have denied."""

    rules: tuple[AccessRuleConfig, ...]
    shadow: bool = False
    setting: str = "access"


class Glob:
    """A pattern in which `*` stands for any text, slashes and colons included. Takes linear time."""

    def __init__(self, pattern: str) -> None:
        self._first, *self._more = pattern.split("*")

    def matches(self, name: str) -> bool:
        """Whether it stands for the whole name."""
        if not self._more:
            return name == self._first
        *middle, last = self._more
        at, end = len(self._first), len(name) - len(last)
        if end < at or not name.startswith(self._first) or not name.endswith(last):
            return False
        for part in middle:
            found = name.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


class Rule:
    """One rule, ready."""

    def __init__(self, config: AccessRuleConfig) -> None:
        self.config = config
        self.setting = config.setting
        self.everything = not config.patterns
        self.condition = None if config.when is None else Condition(config.when)
        self._networks = [ipaddress.ip_network(network) for network in config.sources]
        self._globs: dict[str, list[Glob]] = {}
        for kind, pattern in config.patterns:
            forms = {pattern, canonical(pattern)} if kind == RESOURCE else {pattern}
            self._globs.setdefault(kind, []).extend(map(Glob, forms))

    @property
    def tells_resources(self) -> bool:
        """Whether it depends on which resource is asked for."""
        when = self.config.when
        named = any(kind == RESOURCE and glob.strip("*") for kind, glob in self.config.patterns)
        return named or (when is not None and "resource" in when.reads)

    def concerns(self, principal: Principal, source: str) -> bool:
        """Whether it is about a caller. An address that cannot be read is in every denied network, and in no other."""
        config = self.config
        if (config.users or config.groups) and (
            principal.name not in config.users and principal.groups.isdisjoint(config.groups)
        ):
            return False
        if not self._networks:
            return True
        try:
            address = ipaddress.ip_address(source.partition("%")[0])
        except ValueError:
            return not config.allow
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)

    def matches(self, ask: Ask) -> bool:
        """Whether it is about what is asked for."""
        if self.everything:
            return True
        if any(glob.matches(ask.method) for glob in self._globs.get(METHOD, ())):
            return True
        return bool(ask.kind) and any(glob.matches(ask.name) for glob in self._globs.get(ask.kind, ()))
