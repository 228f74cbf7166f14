"""Session ids that carry their own state: an AEAD token that only this gateway can make and read. And message addresses
of HTTP+SSE, which carry theirs; neither kind can be opened as the other.

Form: base64url without padding of nonce (12 bytes) and AES-256-GCM ciphertext. Inside: the backend's own session id,
the route, the principal, the negotiated revision, the client's name, the expiry. Nobody else's, no other route's and no
forged id can be opened; all of these look like an unknown session (404), as the specification wants.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

T = TypeVar("T")

KEY_BYTES = 32
_NONCE_BYTES = 12
_SESSION = b"moongate session 1"
_ADDRESS = b"moongate address 1"
_MAX_TOKEN = 8192


class Session(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a sealed id says. `upstream` is the backend's session id; `expires` is Unix time."""

    upstream: bytes
    route: str
    principal: str
    revision: str
    client: str
    expires: float


class Address(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the address says that an SSE client posts to. `endpoint` is path and query of the backend's own address, ""
    where the gateway itself speaks to the client; `door` names the stream that the answers go to.
    """

    endpoint: str
    door: str
    route: str
    principal: str
    expires: float


class NotOurs(Exception):
    """The id was not made with this key, or not by us at all."""


_ENCODE = msgspec.msgpack.Encoder().encode
_SESSIONS = msgspec.msgpack.Decoder(Session)
_ADDRESSES = msgspec.msgpack.Decoder(Address)


class Sealer:
    """Seals and opens session ids and addresses with one key (32 bytes). Raises ValueError on another length."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            msg = f"the key has {len(key)} bytes, {KEY_BYTES} are needed"
            raise ValueError(msg)
        self._aead = AESGCM(key)

    def seal(self, session: Session) -> bytes:
        """A header value of visible ASCII."""
        return self._seal(_ENCODE(session), _SESSION)

    def open(self, token: bytes) -> Session:
        """What `seal` was given. Raises NotOurs."""
        return self._open(token, _SESSION, _SESSIONS)

    def seal_address(self, address: Address) -> bytes:
        """A query value of unreserved characters (RFC 3986)."""
        return self._seal(_ENCODE(address), _ADDRESS)

    def open_address(self, token: bytes) -> Address:
        """What `seal_address` was given. Raises NotOurs."""
        return self._open(token, _ADDRESS, _ADDRESSES)

    def _seal(self, plain: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._aead.encrypt(nonce, plain, context)).rstrip(b"=")

    def _open(self, token: bytes, context: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
        try:
            if len(token) > _MAX_TOKEN:
                raise NotOurs
            sealed = base64.b64decode(token + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
            if len(sealed) <= _NONCE_BYTES or base64.urlsafe_b64encode(sealed).rstrip(b"=") != token:
                raise NotOurs
            return decoder.decode(self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context))
        except (binascii.Error, InvalidTag, msgspec.DecodeError):
            raise NotOurs from None
