"""The event streams that are open, and which of them must end because another configuration is in force.

A stream outlives the plan under which it was opened, unless its instance is gone (or disabled), or its client would not
be let in any more: its token was disabled, is for other instances now, or an access rule says no.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from copy import copy

from moongate.policies.pipeline import judge_head
from moongate.policies.rate import RateLimit
from moongate.proxy.call import Call
from moongate.proxy.plan import Plan, RoutePlan

# Judging some thousands at once would hold up requests.
_TURN = 100


class OpenStreams:
    """Those of one data plane."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()

    def add(self, call: Call) -> None:
        """It opens."""
        self._calls.add(call)

    def remove(self, call: Call) -> None:
        """It has ended."""
        self._calls.discard(call)

    @property
    def counts(self) -> Counter[str]:
        """How many, by the instance's name."""
        return Counter(call.route.route.name for call in self._calls)

    async def settle(self, plan: Plan) -> None:
        """End those that this plan would not open."""
        for number, call in enumerate(tuple(self._calls)):
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            if call in self._calls and call.admission.plan is not plan and not _opens(call, plan):
                _end(call)


def _opens(call: Call, plan: Plan) -> bool:
    """A route may stand under several hostnames, whose policies differ."""
    return any(_lets_in(call, route) for route in plan.routes.get(call.route.route.key, ()))


def _lets_in(call: Call, route: RoutePlan) -> bool:
    policies = tuple(policy for policy in route.policies if not isinstance(policy, RateLimit))
    return judge_head(policies, copy(call.exchange)).refusal is None


def _end(call: Call) -> None:
    """As if the gateway was stopping; what has not begun yet is cut."""
    connection = call.connection
    if connection.on_drain is not None:
        connection.on_drain()
    elif call.exchange.method == "GET":
        connection.abort()
