"""How many requests a caller may make: token buckets in this process, one set for each caller of a route.

With client tokens a caller is a principal, otherwise the source address (of IPv6 its /64, which is what one customer
has). A bucket begins full. What is remembered of callers is bounded: the one that was away longest is forgotten, and
begins anew with full buckets.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.model.snapshot import PolicyConfig
from moongate.policies.base import Verdict

MAX_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class BucketConfig(PolicyConfig):
    """At most `size` requests at once; `fill` more after each `interval` seconds. `setting`: where it stands."""

    size: int
    fill: int
    interval: float
    setting: str = "localRateLimit"

    def __str__(self) -> str:
        return f"{self.size} at once, {self.fill} more every {self.interval:g} s"


@dataclass(frozen=True, slots=True)
class RateLimitConfig(PolicyConfig):
    """Buckets that must all hold enough for a request to go on."""

    buckets: tuple[BucketConfig, ...]


class _Bucket:
    """`filled` is when it was last filled, a whole number of intervals after it was made."""

    __slots__ = ("filled", "tokens")

    def __init__(self, tokens: int, now: float) -> None:
        self.tokens = tokens
        self.filled = now


class RateLimit:
    """The limit of one route. `by_source`: it tells callers apart by address, and so needs only the head."""

    name = "localRateLimit"

    def __init__(self, config: RateLimitConfig, *, by_source: bool, now: Callable[[], float] = time.monotonic) -> None:
        self.by_source = by_source
        self._configs = config.buckets
        self._now = now
        self._callers: OrderedDict[str, tuple[_Bucket, ...]] = OrderedDict()
        rules = "; ".join(map(str, config.buckets))
        self._enough = Verdict(self.name, f"within the limit for each {'source' if by_source else 'caller'}: {rules}")

    def judge(self, exchange: Exchange) -> Verdict:
        """Count one request."""
        return self.judge_messages(exchange, 1)

    def judge_messages(self, exchange: Exchange, count: int) -> Verdict:
        """Count `count` requests that came as one, all or none of them; deny with 429 and Retry-After (RFC 9110
        section 10.2.3).
        """
        caller = _network(exchange.source) if self.by_source else exchange.principal.name
        now = self._now()
        buckets = self._buckets(caller, now)
        for bucket, config in zip(buckets, self._configs, strict=True):
            fills = int((now - bucket.filled) / config.interval)
            if fills > 0:
                bucket.tokens = min(config.size, bucket.tokens + fills * config.fill)
                bucket.filled += fills * config.interval
        for bucket, config in zip(buckets, self._configs, strict=True):
            if bucket.tokens < count:
                return self._refuse(caller, count, config, bucket.filled - now + _wait(bucket, config, count))
        for bucket in buckets:
            bucket.tokens -= count
        return self._enough

    def _buckets(self, caller: str, now: float) -> tuple[_Bucket, ...]:
        found = self._callers.get(caller)
        if found is None:
            found = self._callers[caller] = tuple(_Bucket(config.size, now) for config in self._configs)
            if len(self._callers) > MAX_CALLERS:
                self._callers.popitem(last=False)
        else:
            self._callers.move_to_end(caller)
        return found

    def _refuse(self, caller: str, count: int, config: BucketConfig, seconds: float) -> Verdict:
        asked = "a request" if count == 1 else f"an array of {count} messages"
        reason = f"{asked} of {caller!r} over the limit: {config}"
        retry = (b"retry-after", b"%d" % max(1, math.ceil(seconds)))
        refusal = Refusal(FailureClass.RATE_LIMITED, reason, headers=(retry,))
        return Verdict(self.name, reason, refusal, f"{config.setting}: maxTokens, tokensPerFill or fillInterval")


def _wait(bucket: _Bucket, config: BucketConfig, count: int) -> float:
    """Seconds from the last filling until the bucket holds enough, or (where it never will) until it is full."""
    missing = min(count, config.size) - bucket.tokens
    return math.ceil(max(missing, 1) / config.fill) * config.interval


@functools.lru_cache(maxsize=4096)
def _network(source: str) -> str:
    """Whose address it is: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
