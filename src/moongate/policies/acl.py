"""Access rules: who may use which tools, prompts, resources and methods.

Two sets of rules may hold for a route, the gateway's and its own; a call must pass both. In each set deny beats allow,
and once there is any allow rule, what no rule allows is denied. What belongs to every conversation (initialize, ping,
lists, notifications, ...) need not be allowed: lists are filtered instead.

A rule that reads neither arguments, headers nor the time says the same each time: what is decided by such rules is
remembered, and of the others what is left to be asked. Everything that cannot be judged is denied.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.model.principal import Principal
from moongate.policies.access_rules import AccessConfig, Rule
from moongate.policies.base import ALWAYS, Verdict
from moongate.policies.cel import Condition
from moongate.policies.checks import Always, Check
from moongate.policies.facts import Facts, Group
from moongate.protocol.asks import SAY_MORE, USES, Ask, UnclearError, asks_of, using
from moongate.protocol.jsonrpc import Envelope

MAX_CALLERS = 1024
MAX_DECISIONS = 4096
MAX_REMEMBERED_NAME = 256
_SHOWN = 80
# A condition on the time is asked again after so many seconds.
_TICK = 1.0
_NAME = "access"
_NOTHING = msgspec.Raw()


class Caller:
    """Somebody, as the rules see him: a principal at an address."""

    __slots__ = ("principal", "source", "views")

    def __init__(self, principal: Principal, source: str) -> None:
        self.principal = principal
        self.source = source
        self.views: tuple[_View, ...] = ()

    @property
    def words(self) -> str:
        """As refusals name him."""
        return f"{self.principal.name!r} from {self.source}"


class _Applied(NamedTuple):
    """A rule for one caller. `condition` None: it holds, or (`broken`) it cannot be evaluated, and denies."""

    rule: Rule
    condition: Condition | None
    broken: bool = False

    @property
    def of_head(self) -> bool:
        """Whether the head is enough to judge by it."""
        when = self.rule.config.when
        return self.rule.everything and (self.condition is None or when is None or when.of_head)


class _View(NamedTuple):
    """One set of rules for one caller."""

    config: AccessConfig
    denies: tuple[_Applied, ...]
    allows: tuple[_Applied, ...]
    closed: bool


class _Left:
    """A rule that is left to be asked in the call: by its `check`, and what that does not know, of the library, as one
    `group` with others. `verdict` is that of one that allows.
    """

    __slots__ = ("check", "group", "one", "place", "verdict")

    def __init__(self, one: _Applied, check: Check, group: Group, place: int, verdict: Verdict | None) -> None:
        self.one: _Applied = one
        self.check: Check = check
        self.group: Group = group
        self.place: int = place
        self.verdict: Verdict | None = verdict


class _Pending:
    """What is left to be evaluated in the call. `allowed`: nothing more need allow it, and if none of `denies` holds
    this is the verdict. `reads`: arguments matter.
    """

    __slots__ = ("allowed", "allows", "denies", "reads", "view")

    def __init__(self, view: _View, allowed: Verdict | None, denies: list[_Left], allows: list[_Left]) -> None:
        self.view: _View = view
        self.allowed: Verdict | None = allowed
        self.denies: list[_Left] = denies
        self.allows: list[_Left] = allows
        self.reads: bool = any("arguments" in left.group.reads for left in (*denies, *allows))


class _Decision:
    """What is remembered: what the rules that always say the same say, and which others must be asked. `simple`: none,
    and nothing is noted.
    """

    __slots__ = ("ask", "hidden", "pending", "shadow", "simple", "verdict")

    def __init__(self, ask: Ask, verdict: Verdict, shadow: str, pending: list[_Pending]) -> None:
        self.ask: Ask = ask
        self.verdict: Verdict = verdict
        self.shadow: str = shadow
        self.pending: list[_Pending] = pending
        self.hidden: bool = verdict.refusal is not None
        self.simple: bool = not pending and not shadow


@lru_cache(maxsize=32)
def _ready(config: AccessConfig) -> tuple[Rule, ...]:
    """Its rules; those of the whole gateway are the same for every route."""
    return tuple(map(Rule, config.rules))


class Access:
    """The rules of one route. As a head policy it refuses who may use nothing at all."""

    name = _NAME

    def __init__(self, configs: Sequence[AccessConfig], instance: str) -> None:
        self.filters = any(not config.shadow for config in configs)
        self._instance: str = instance
        self._sets = [(config, _ready(config)) for config in configs]
        # Sets on trial must not refuse what the others can judge.
        judging = [rules for config, rules in self._sets if not (self.filters and config.shadow)]
        self._strict = any(rule.tells_resources for rules in judging for rule in rules)
        self._callers: dict[tuple[Principal, str], Caller] = {}
        self._decisions: dict[tuple[Caller, str, str | None], _Decision] = {}

    def caller(self, exchange: Exchange) -> Caller:
        """Who calls. What was found out about him is remembered."""
        key = (exchange.principal, exchange.source)
        found = self._callers.get(key)
        if found is None:
            found = Caller(*key)
            found.views = tuple(self._view(config, rules, found) for config, rules in self._sets)
            if len(self._callers) >= MAX_CALLERS:
                self._callers.clear()
                self._decisions.clear()
            self._callers[key] = found
        return found

    def _view(self, config: AccessConfig, rules: tuple[Rule, ...], caller: Caller) -> _View:
        applied = [
            one
            for rule in rules
            if rule.concerns(caller.principal, caller.source) and (one := self._apply(rule, caller)) is not None
        ]
        return _View(
            config,
            tuple(one for one in applied if not one.rule.config.allow),
            tuple(one for one in applied if one.rule.config.allow),
            any(rule.config.allow for rule in rules),
        )

    def _apply(self, rule: Rule, caller: Caller) -> _Applied | None:
        """A rule for one caller; None if it never concerns him."""
        when, condition = rule.config.when, rule.condition
        if when is None or condition is None or when.changing or not when.of_head:
            return _Applied(rule, condition)
        held = Facts(self._instance, caller.principal, caller.source).holds(condition, Ask(""))
        if held is None:
            return None if rule.config.allow else _Applied(rule, None, broken=True)
        return _Applied(rule, None) if held else None

    # -- by the head

    def judge(self, exchange: Exchange) -> Verdict:
        """Deny (403) whom a rule about everything denies, and who could not be allowed anything."""
        caller = self.caller(exchange)
        until = ALWAYS
        facts = Facts(self._instance, caller.principal, caller.source, exchange)
        for view in caller.views:
            refused = _judge_head(view, facts, caller)
            if refused is not None and not view.config.shadow:
                return refused
            if refused is not None:
                exchange.shadow = exchange.shadow or refused.words
            if any(_reads_time(one) for one in (*view.denies, *view.allows)):
                until = time.time() + _TICK
        return Verdict(_NAME, f"{caller.words} may come in", until=until)

    # -- by the message

    def judge_message(self, caller: Caller, exchange: Exchange, message: Envelope, raw: bytes) -> Verdict:
        """Whether a message may go on. What rules in shadow mode would have denied is noted in the exchange."""
        decision = self._decisions.get((caller, message.method, message.target))
        if decision is not None:
            if decision.simple:
                return decision.verdict
            return _judge_ask(decision, exchange, self._facts(caller, exchange, message), caller)
        try:
            asks = asks_of(message, raw, strict=self._strict)
        except UnclearError as unclear:
            return self._unclear(caller, exchange, str(unclear))
        facts = self._facts(caller, exchange, message)
        verdict = Verdict(_NAME, "asks for nothing")
        only = len(asks) == 1 and message.method not in SAY_MORE
        for ask in asks:
            found = _judge_ask(self._decision(caller, ask, only=only), exchange, facts, caller)
            if found.refusal is not None:
                return found
            verdict = verdict if ask.also else found
        return verdict

    def _unclear(self, caller: Caller, exchange: Exchange, why: str) -> Verdict:
        """It cannot be judged: that is denied, if anything might be."""
        refused = _denied(f"{why}, so that the rules for {caller.words} cannot judge it", "")
        if self.filters:
            return refused
        exchange.shadow = exchange.shadow or refused.words
        return Verdict(_NAME, why)

    def _facts(self, caller: Caller, exchange: Exchange, message: Envelope) -> Facts:
        arguments = _NOTHING if message.arguments is None else message.arguments
        return Facts(self._instance, caller.principal, caller.source, exchange, arguments)

    def _decision(self, caller: Caller, ask: Ask, *, only: bool = True) -> _Decision:
        """What is always so. `only`: the message asks for nothing else, so that its method and target find it again."""
        key = (caller, ask.method, ask.name or None)
        only = only and bool(ask.name or not ask.kind)
        found = self._decisions.get(key) if only else None
        if found is None:
            found = self._decide(caller, ask)
            if only and len(ask.name) <= MAX_REMEMBERED_NAME and len(ask.method) <= MAX_REMEMBERED_NAME:
                if len(self._decisions) >= MAX_DECISIONS:
                    self._decisions.clear()
                self._decisions[key] = found
        return found

    def _decide(self, caller: Caller, ask: Ask) -> _Decision:
        facts = Facts(self._instance, caller.principal, caller.source)
        shadow, reasons = "", []
        pending: list[_Pending] = []
        refused: Verdict | None = None
        for view in caller.views:
            verdict, left = _judge_static(view, ask, facts, caller)
            if verdict.refusal is not None and view.config.shadow:
                shadow = shadow or verdict.words
            elif verdict.refusal is not None:
                refused = refused or verdict
            else:
                reasons.append(verdict.reason)
            if left is not None:
                pending.append(left)
        if refused is not None:
            return _Decision(ask, refused, shadow, [])
        verdict = Verdict(_NAME, "; ".join(reasons) or "only rules in shadow mode would have denied it")
        return _Decision(ask, verdict, shadow, pending)

    # -- what lists show

    def visible(self, caller: Caller, exchange: Exchange, kind: str, name: str) -> bool:
        """Whether a list shows a tool, prompt or resource: if a call of it might be allowed, whatever its arguments."""
        try:
            asks = using(kind, name, USES[kind], strict=self._strict)
        except UnclearError:
            return False
        facts = Facts(self._instance, caller.principal, caller.source, exchange)
        for ask in asks:
            decision = self._decision(caller, ask, only=len(asks) == 1)
            if decision.hidden or any(_hides(pending, ask, facts) for pending in decision.pending):
                return False
        return True


def _judge_head(view: _View, facts: Facts, caller: Caller) -> Verdict | None:
    """Whom nothing is allowed, whatever his messages say."""
    nothing = Ask("")
    for one in view.denies:
        if one.of_head and (one.condition is None or facts.holds(one.condition, nothing) is not False):
            return _by_rule(one, caller, nothing)
    if view.closed and not any(_may_allow(one, facts, nothing) for one in view.allows):
        return _denied(
            f"no rule allows anything to {caller.words}",
            f"{view.config.setting}.rules: another rule, such as {{allow: [...], users: [{caller.principal.name!r}]}}",
        )
    return None


def _may_allow(one: _Applied, facts: Facts, ask: Ask) -> bool:
    when = one.rule.config.when
    return one.condition is None or when is None or not when.of_head or facts.holds(one.condition, ask) is True


def _reads_time(one: _Applied) -> bool:
    when = one.rule.config.when
    return one.condition is not None and when is not None and when.of_head and "now" in when.reads


def _judge_static(view: _View, ask: Ask, facts: Facts, caller: Caller) -> tuple[Verdict, _Pending | None]:
    """What the rules that always say the same say of it, and what is left to be asked in the call."""
    left_denies = []
    for one in view.denies:
        if not one.rule.matches(ask):
            continue
        condition = one.condition
        if condition is None:
            return _by_rule(one, caller, ask), None
        held = facts.holds_always(condition, ask)
        if held is None and condition.changing:
            if not (ask.common and "arguments" in condition.reads):
                left_denies.append(one)
        elif held is not False:
            return _by_rule(one._replace(broken=held is None), caller, ask), None
    allowed, left_allows = _allowed(view, ask, facts)
    if allowed is None and not left_allows:
        return _by_none(view, caller, ask), None
    if allowed is not None and not left_denies:
        return allowed, None
    left = _left([*left_denies, *left_allows], ask, facts)
    pending = _Pending(view, allowed, left[: len(left_denies)], left[len(left_denies) :])
    return allowed or Verdict(_NAME, f"{_shown(ask)} depends on its conditions"), pending


def _allowed(view: _View, ask: Ask, facts: Facts) -> tuple[Verdict | None, list[_Applied]]:
    """What allows it (apart from what denies it), and otherwise what might."""
    if not view.closed:
        return Verdict(_NAME, f"{view.config.setting} does not deny {_shown(ask)}"), []
    if ask.common or ask.also:
        return Verdict(_NAME, f"{_shown(ask)} need not be allowed"), []
    left = []
    for one in view.allows:
        if not one.rule.matches(ask):
            continue
        held = True if one.condition is None else facts.holds_always(one.condition, ask)
        if held:
            return _by_allow(one, ask), []
        if held is None and one.condition is not None and one.condition.changing:
            left.append(one)
    return None, left


def _left(rules: Sequence[_Applied], ask: Ask, facts: Facts) -> list[_Left]:
    checked, unchecked = Group(), Group()
    left = []
    for one in rules:
        if one.condition is not None:
            check = facts.left_of(one.condition, ask)
            group = unchecked if isinstance(check, Always) else checked
            verdict = _by_allow(one, ask) if one.rule.config.allow else None
            left.append(_Left(one, check, group, group.add(one.condition), verdict))
    return left


def _judge_ask(decision: _Decision, exchange: Exchange, facts: Facts, caller: Caller) -> Verdict:
    if decision.shadow:
        exchange.shadow = exchange.shadow or decision.shadow
    verdict = decision.verdict
    if verdict.refusal is not None:
        return verdict
    for pending in decision.pending:
        found = _judge_pending(pending, decision.ask, facts, caller)
        if found.refusal is None:
            verdict = found
        elif pending.view.config.shadow:
            exchange.shadow = exchange.shadow or found.words
        else:
            return found
    return verdict


def _judge_pending(pending: _Pending, ask: Ask, facts: Facts, caller: Caller) -> Verdict:
    arguments = facts.arguments if pending.reads else None
    for left in pending.denies:
        held = None if arguments is None else left.check.ask(arguments)
        if held is None:
            held = facts.asked(left.group, ask)[left.place]
        if held is not False:
            return _by_rule(left.one._replace(broken=held is None), caller, ask)
    if pending.allowed is not None:
        return pending.allowed
    for left in pending.allows:
        held = None if arguments is None else left.check.ask(arguments)
        if held is None:
            held = facts.asked(left.group, ask)[left.place]
        if held and left.verdict is not None:
            return left.verdict
    return _by_none(pending.view, caller, ask)


def _hides(pending: _Pending, ask: Ask, facts: Facts) -> bool:
    """Whether rules that read no arguments deny it now."""
    if pending.view.config.shadow:
        return False
    for left in pending.denies:
        condition = left.one.condition
        if condition is None or "arguments" in condition.reads:
            continue
        if facts.holds(condition, ask) is not False:
            return True
    if pending.allowed is not None:
        return False
    conditions = [left.one.condition for left in pending.allows]
    return not any(
        condition is None or "arguments" in condition.reads or facts.holds(condition, ask) is True
        for condition in conditions
    )


def _shown(ask: Ask) -> str:
    name = ask.name if len(ask.name) <= _SHOWN else ask.name[:_SHOWN] + "..."
    return f"{ask.kind} {name!r} ({ask.method})" if ask.kind else f"method {ask.method[:_SHOWN]!r}"


def _by_allow(one: _Applied, ask: Ask) -> Verdict:
    return Verdict(_NAME, f"{_shown(ask)} is allowed by {one.rule.setting}")


def _by_rule(one: _Applied, caller: Caller, ask: Ask) -> Verdict:
    what = _shown(ask) if ask.method else "everything"
    why = "whose condition cannot be evaluated: " if one.broken else ""
    return _denied(
        f"{what} is denied to {caller.words} by the rule {why}{one.rule.config.words[:_SHOWN]}", one.rule.setting
    )


def _by_none(view: _View, caller: Caller, ask: Ask) -> Verdict:
    pattern = f"{ask.kind}:{ask.name[:_SHOWN]}" if ask.kind else f"method:{ask.method[:_SHOWN]}"
    setting = f"{view.config.setting}.rules: another rule, such as {{allow: [{pattern!r}]}}"
    return _denied(f"no rule allows {_shown(ask)} to {caller.words}", setting)


def _denied(reason: str, setting: str) -> Verdict:
    return Verdict(_NAME, reason, Refusal(FailureClass.DENIED, reason), setting)
