"""What a policy is: it looks at an exchange and gives a verdict, with the setting that would change it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from moongate.errors import Refusal
from moongate.model.exchange import Exchange

ALWAYS = float("inf")


class Verdict(NamedTuple):
    """`refusal` None: go on. `reason` and `setting` are for the operator, never for the client.

    `until` (Unix time): how long the verdict holds for the same head on the same connection under the same snapshot. A
    policy that looks at anything else, or counts, says 0: this request only.
    """

    policy: str
    reason: str
    refusal: Refusal | None = None
    setting: str = ""
    until: float = ALWAYS


class HeadPolicy(Protocol):
    """Judges a request by its head, before its body is read. Must not block, wait or raise."""

    name: str

    def judge(self, exchange: Exchange) -> Verdict: ...
