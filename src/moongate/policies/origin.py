"""Pages of other origins are refused until they are let in by name: the safe default of the MCP transport (`Origin`
MUST be validated, invalid is 403).

Requests without `Origin` (SDKs, curl) are not touched. The gateway's own origin is the one that `Host` and the
connection spell, or `gateway.publicUrl`.
"""

from __future__ import annotations

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.policies.base import Verdict
from moongate.policies.host import split_authority

DEFAULT_PORTS = {"http": "80", "https": "443"}


def parse_origin(value: str) -> tuple[str, str, str] | None:
    """Scheme, host, port (default filled in) of a serialised origin (RFC 6454 section 6.2); None if it is none."""
    scheme, separator, authority = value.lower().partition("://")
    if not separator or scheme not in DEFAULT_PORTS or not authority or "/" in authority or "@" in authority:
        return None
    host, port = split_authority(authority)
    return (scheme, host, port or DEFAULT_PORTS[scheme])


class OriginPolicy:
    """`public_url`'s origin counts as ours beside the one that the request itself came to."""

    name = "origin"

    def __init__(self, public_url: str | None) -> None:
        self._none = Verdict(self.name, "no Origin")
        scheme, _, rest = (public_url or "").partition("://")
        self._public = parse_origin(f"{scheme}://{rest.partition('/')[0]}")

    def judge(self, exchange: Exchange) -> Verdict:
        """Deny (403) what a page of another origin sends."""
        value = exchange.fields.get(b"origin")
        if value is None:
            return self._none
        origin = parse_origin(value.decode("latin-1"))
        scheme = "https" if exchange.secure else "http"
        own = parse_origin(f"{scheme}://{exchange.fields.get(b'host', b'').decode('latin-1')}")
        repeated = any(name == b"origin" for name, _ in exchange.more)
        if origin is not None and not repeated and origin in (own, self._public):
            return Verdict(self.name, "the gateway's own origin")
        reason = f"Origin {value.decode('latin-1')[:200]!r} is not the gateway's own"
        setting = "gateway.publicUrl, if that page is served under the gateway's public name"
        return Verdict(self.name, reason, Refusal(FailureClass.DENIED, reason), setting)
