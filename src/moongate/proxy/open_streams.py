"""The event streams that are open, and which of them must end because another configuration is in force.

A stream outlives the plan under which it was opened, unless its instance is gone (or disabled), or its client would not
be let in any more: its token was disabled, has expired, is for other instances now, or an access rule says no.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from moongate.policies.pipeline import judge_head
from moongate.policies.rate import RateLimit
from moongate.proxy.access import Cut, cutter_by
from moongate.proxy.call import Call
from moongate.proxy.plan import Plan, RoutePlan
from moongate.wire.deadlines import NEVER, Deadlines

# Judging some thousands at once would hold up requests.
_TURN = 100
# How far ahead the clock is trusted: it may be set anew.
_AHEAD_SECONDS = 60.0


class OpenStreams:
    """Those of one data plane, whose plan in force `plan` gives."""

    def __init__(self, plan: Callable[[], Plan], deadlines: Deadlines) -> None:
        # When the first of them must be judged again; see `deadlines.Watched`.
        self.deadline = NEVER
        self._plan = plan
        self._deadlines = deadlines
        # What ends each; None: as at the end of the gateway.
        self._calls: dict[Call, Callable[[], None] | None] = {}
        # Until when (Unix time) those may stay whose token expires.
        self._until: dict[Call, float] = {}

    def add(self, call: Call, end: Callable[[], None] | None = None) -> None:
        """It opens. `end`, if it must end before its time and there is no other way."""
        self._calls[call] = end
        self._keep(call, call.admission.until)

    def remove(self, call: Call) -> None:
        """It has ended."""
        self._calls.pop(call, None)
        if self._until.pop(call, None) is not None and not self._until:
            self._deadlines.forget(self)

    @property
    def counts(self) -> Counter[str]:
        """How many, by the instance's name."""
        return Counter(call.route.route.name for call in self._calls)

    async def settle(self, plan: Plan) -> None:
        """End those that this plan would not open."""
        for number, call in enumerate(tuple(self._calls)):
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            if call in self._calls and call.admission.plan is not plan:
                self._judge(call, plan)

    def expire(self) -> None:
        """See `deadlines.Watched`."""
        now = time.time()
        for call, until in tuple(self._until.items()):
            if until <= now:
                self._judge(call, self._plan())
        self._wait()

    def _judge(self, call: Call, plan: Plan) -> None:
        found = _opens(call, plan)
        if found is None:
            self._until.pop(call, None)
            self._end(call)
        else:
            until, call.cut = found
            self._keep(call, until)

    def _keep(self, call: Call, until: float) -> None:
        if until == NEVER:
            self._until.pop(call, None)
        else:
            self._until[call] = until
            self._wait()

    def _wait(self) -> None:
        if not self._until:
            self._deadlines.forget(self)
            return
        ahead = min(min(self._until.values()) - time.time(), _AHEAD_SECONDS)
        self.deadline = asyncio.get_running_loop().time() + ahead
        self._deadlines.watch(self)

    def _end(self, call: Call) -> None:
        """As if the gateway was stopping; what has not begun yet is cut."""
        connection, end = call.connection, self._calls.get(call)
        if connection.on_drain is not None:
            connection.on_drain()
        elif end is not None:
            end()
        elif call.exchange.method == "GET":
            connection.abort()


def _opens(call: Call, plan: Plan) -> tuple[float, Cut | None] | None:
    """Until when it may, and what takes out of it what its client may not see now; None: not at all. A route may stand
    under several hostnames, whose policies differ.
    """
    found = [one for route in plan.routes.get(call.route.route.key, ()) if (one := _lets_in(call, route)) is not None]
    if not found:
        return None
    cuts = [cut for _, cut in found if cut is not None]
    renewed = call.cut if call.exchange.method != "GET" else partial(_cut_by_all, cuts) if cuts else None
    return max(until for until, _ in found), renewed


def _cut_by_all(cuts: list[Cut], message: bytes) -> bytes:
    for cut in cuts:
        message = cut(message)
    return message


def _lets_in(call: Call, route: RoutePlan) -> tuple[float, Cut | None] | None:
    policies = tuple(policy for policy in route.policies if not isinstance(policy, RateLimit))
    exchange = call.exchange.again("", 0.0, 0.0)
    verdict = judge_head(policies, exchange)
    if verdict.refusal is not None:
        return None
    caller = None if route.access is None else route.access.caller(exchange)
    return verdict.until, None if caller is None else cutter_by(route.access, caller, exchange)
