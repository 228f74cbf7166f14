"""Header modifiers: what the operator adds to, sets in, or removes from requests to a target and answers to clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from moongate.model.snapshot import PolicyConfig


@dataclass(frozen=True, slots=True)
class HeaderModifier(PolicyConfig):
    """`add` appends beside what is there, `set` replaces, `remove` drops (in that order: remove, set, add)."""

    direction: Literal["request", "response"]
    add: tuple[tuple[str, str], ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
