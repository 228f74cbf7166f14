"""What a policy is: it looks at an exchange and gives a verdict, with the setting that would change it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from moongate.errors import Refusal
from moongate.model.exchange import Exchange

ALWAYS = float("inf")


class HeadAnswer(NamedTuple):
    """An answer that a policy gives itself, such as a preflight's: status, whole header lines, body.

    `changeable`: the operator's response header modifiers apply.
    """

    status: int
    lines: bytes = b""
    body: bytes = b""
    changeable: bool = False


class Verdict(NamedTuple):
    """Neither `refusal` nor `answer`: go on. `reason` and `setting` are for the operator, never for the client.

    `policy` is the rule, `setting` what would change its verdict ("": nothing would). `until` (Unix time): how long the
    verdict holds for the same head on the same connection under the same snapshot. A policy that looks at anything
    else says 0: this request only. One that counts is asked for each request, whatever is remembered. `lines` are
    header lines for every answer to this request, whoever gives it.
    """

    policy: str
    reason: str
    refusal: Refusal | None = None
    setting: str = ""
    until: float = ALWAYS
    lines: bytes = b""
    answer: HeadAnswer | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more is judged."""
        return self.refusal is not None or self.answer is not None

    @property
    def words(self) -> str:
        """Rule, reason and setting in one sentence: for the log, the audit record and `moongate explain`."""
        change = f"; to change this, set {self.setting}" if self.setting else ""
        return f"{self.policy}: {self.reason}{change}"


class HeadPolicy(Protocol):
    """Judges a request by its head, before its body is read. Must not block, wait or raise."""

    name: str

    def judge(self, exchange: Exchange) -> Verdict: ...
