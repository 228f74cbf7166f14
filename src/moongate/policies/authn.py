"""Who is calling: static client tokens in any of four headers.

`Authorization: Bearer`, `Authorization: Basic` (anything:token), `API-Key` and `X-API-Key`. Only digests are kept, and
a token is found by its digest, so that no comparison depends on how much of a guess is right. A token in a URL is never
seen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable

from moongate.errors import FailureClass, Refusal
from moongate.model.exchange import Exchange
from moongate.model.principal import Principal, TokenEntry
from moongate.policies.base import Verdict

_KEY_HEADERS = (b"api-key", b"x-api-key")
_CREDENTIALS = (b"authorization", *_KEY_HEADERS)


class Tokens:
    """The client tokens of a snapshot by digest; shared by all routes."""

    def __init__(self, entries: tuple[TokenEntry, ...]) -> None:
        self._entries = {entry.sha256: (entry, entry.principal) for entry in entries}

    def find(self, token: bytes) -> tuple[TokenEntry, Principal] | None:
        """The entry of a token, or None."""
        return self._entries.get(hashlib.sha256(token).digest())


def read_credential(value: bytes) -> bytes | None:
    """The token in an Authorization value: Bearer (RFC 6750) or the password of Basic (RFC 7617). None: neither."""
    scheme, _, rest = value.partition(b" ")
    rest = rest.strip(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return rest or None
    if scheme == b"basic":
        try:
            user_password = base64.b64decode(rest, validate=True)
        except binascii.Error:
            return None
        _, colon, password = user_password.partition(b":")
        return password if colon and password else None
    return None


class TokenPolicy:
    """Requires a token that is good for `route`."""

    name = "authn"

    def __init__(self, tokens: Tokens, route: str, now: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._route = route
        self._now = now
        self._valid = Verdict(self.name, "a valid token")

    def judge(self, exchange: Exchange) -> Verdict:
        """Set the principal; deny with 401 (none, unknown, expired, two that differ) or 403 (for other instances)."""
        fields = exchange.fields
        token: bytes | None = None
        for name in _CREDENTIALS:
            value = fields.get(name)
            if value is None:
                continue
            found = read_credential(value) if name == b"authorization" else value
            if found is None:
                return self._challenge("Authorization is neither Bearer nor Basic with a token as password")
            if token is not None and found != token:
                return self._challenge("two credentials that differ")
            token = found
            exchange.token_header = exchange.token_header or name.decode()
        if exchange.more and any(name in _CREDENTIALS for name, _ in exchange.more):
            return self._challenge("a credential header stands more than once")
        if token is None:
            return self._challenge("no token", error=False)
        exchange.token_print = hashlib.sha256(token).hexdigest()[:8]
        match = self._tokens.find(token)
        if match is None:
            return self._challenge("an unknown token")
        entry, principal = match
        exchange.principal = principal
        if entry.expires is not None and entry.expires <= self._now():
            return self._challenge(
                f"the token {entry.name!r} has expired", setting=f"gateway.tokens: {entry.name}: expires"
            )
        if entry.instances is not None and self._route not in entry.instances:
            reason = f"the token {entry.name!r} is not for {self._route!r}"
            setting = f"gateway.tokens: {entry.name}: instances"
            return Verdict(self.name, reason, Refusal(FailureClass.DENIED, reason), setting)
        return self._valid if entry.expires is None else self._valid._replace(until=entry.expires)

    def _challenge(self, reason: str, *, error: bool = True, setting: str = "gateway.tokens") -> Verdict:
        # RFC 6750 section 3.1: no error code when the request lacks any authentication.
        challenge = b'Bearer realm="moongate", error="invalid_token"' if error else b'Bearer realm="moongate"'
        headers = ((b"www-authenticate", challenge),)
        return Verdict(self.name, reason, Refusal(FailureClass.UNAUTHENTICATED, reason, headers=headers), setting)
