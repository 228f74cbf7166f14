"""Requests that a page forges in its visitor's name: refused unless the page is the gateway's own, or named.

The way that OWASP recommends where no token can be put into the page: Fetch Metadata first, then `Origin`. GET, HEAD
and OPTIONS change nothing and pass. `Sec-Fetch-Site` says what the browser knows, and pages cannot write it; browsers
leave it out towards plain-http names, and there `Origin` is compared with the gateway's own. No `Origin` is no browser.
"""

from __future__ import annotations

from dataclasses import dataclass

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.model.snapshot import PolicyConfig
from moongate.policies.base import Verdict
from moongate.policies.origins import Origin, OriginSet, OwnOrigin, read_origin

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FROM_US = frozenset({b"same-origin", b"none"})
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class CsrfConfig(PolicyConfig):
    """One `csrf` block. Origins in the form that browsers send, patterns, or `*`. `setting` is where the block stands,
    or would; `written` False: there is none.
    """

    additional_origins: tuple[str, ...] = ()
    setting: str = "csrf"
    written: bool = False


class CsrfPolicy:
    """What one `csrf` block says. `named` are origins that pass because the `cors` policy names them."""

    name = "csrf"

    def __init__(self, config: CsrfConfig, own: OwnOrigin, named: OriginSet | None = None) -> None:
        self._setting = f"{config.setting}.additionalOrigins"
        self._additional = OriginSet(config.additional_origins)
        self._named = named or OriginSet()
        self._own = own

    def judge(self, exchange: Exchange) -> Verdict:
        """Deny (403) what may have been forged."""
        if exchange.method in _SAFE:
            return Verdict(self.name, f"{exchange.method} changes nothing")
        found = read_origin(exchange)
        text, origin = ("", None) if found is None else found
        site = exchange.fields.get(b"sec-fetch-site")
        if site is not None:
            repeated = exchange.more and any(name == b"sec-fetch-site" for name, _ in exchange.more)
            if site in _FROM_US and not repeated:
                return Verdict(self.name, f"Sec-Fetch-Site is {site.decode('ascii')}")
        elif found is None:
            return Verdict(self.name, "no Origin: not a browser")
        elif origin is not None and self._own.is_own(exchange, origin):
            return Verdict(self.name, "the gateway's own origin")
        if origin is not None and (self._additional.allows(origin) or self._named.names(origin)):
            return Verdict(self.name, f"{origin} is named")
        return self._refuse(text, origin, site)

    def _refuse(self, text: str, origin: Origin | None, site: bytes | None) -> Verdict:
        setting = ""
        if origin is not None and not origin.opaque:
            reason = f"{origin} is neither the gateway's own origin nor named"
            setting = f"{self._setting}: [{origin}]"
        elif text:
            reason = f"Origin {text[:_SHOWN]!r} may be anybody's; serve the page from a web server, and name its origin"
        else:
            reason = "a request of another site, without Origin; pages that use fetch() send one, which can be named"
        if site is not None:
            reason += f" (Sec-Fetch-Site: {site.decode('latin-1')[:_SHOWN]})"
        return Verdict(self.name, reason, Refusal(FailureClass.DENIED, reason), setting)
