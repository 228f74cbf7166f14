"""Secrets at rest: sealed with the gateway's key, opened only in the place they were sealed for.

AES-256-GCM; each purpose has a key of its own, derived from the gateway's by HKDF-SHA256 (RFC 5869). The context, such
as `instances/time`, is authenticated with the content: a sealed value that somebody with access to the database moves
to another row does not open there. Form: version (1 byte), key id (4), nonce (12), ciphertext.

A new key: the old one stays as `MOONGATE_KEY_OLD` or `<data-dir>/key.old`, and opens; what is sealed anew gets the new
one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from moongate.control.secrets import VARIABLE, load_key, warn_if_open
from moongate.errors import MoongateError, StartError

OLD_VARIABLE = f"{VARIABLE}_OLD"
OLD_FILE = "key.old"
_VERSION = b"\x01"
_ID_BYTES = 4
_NONCE_BYTES = 12
_HEAD = len(_VERSION) + _ID_BYTES


class SealBroken(MoongateError):
    """A sealed value cannot be opened: another key, another place, or damaged."""


@dataclass(frozen=True, repr=False)
class Keys:
    """The gateway's key, which seals, and older ones, which only open."""

    current: bytes
    old: tuple[bytes, ...] = ()

    @classmethod
    def load(cls, data_dir: Path, environ: Mapping[str, str]) -> Keys:
        """`MOONGATE_KEY` or `<data-dir>/key`, and what came before them. Raises StartError."""
        current = load_key(data_dir, environ)
        old = [_read_old(environ[OLD_VARIABLE], f"the variable {OLD_VARIABLE}")] if environ.get(OLD_VARIABLE) else []
        path = data_dir / OLD_FILE
        try:
            old.append(_read_old(path.read_text(encoding="ascii", errors="replace"), str(path)))
            warn_if_open(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StartError(f"{path}: cannot be read: {error.strerror}") from None
        return cls(current, tuple(key for key in old if key != current))

    def box(self, purpose: str) -> Box:
        """What seals and opens for one purpose."""
        return Box(derive(self.current, purpose), tuple(derive(key, purpose) for key in self.old))


def derive(key: bytes, purpose: str) -> bytes:
    """The key of one purpose: 32 bytes that say nothing about the others."""
    return HKDF(SHA256(), 32, None, f"moongate {purpose}".encode()).derive(key)


def _read_old(text: str, where: str) -> bytes:
    try:
        return load_key(Path(), {VARIABLE: text.strip()})
    except StartError:
        raise StartError(f"{where} does not hold a key; it must be the former {VARIABLE}, or the former file") from None


@dataclass(frozen=True, repr=False)
class Box:
    """Seals with `key`; opens with it and with `old` ones."""

    key: bytes
    old: tuple[bytes, ...] = ()

    @cached_property
    def _ciphers(self) -> dict[bytes, AESGCM]:
        return {_key_id(key): AESGCM(key) for key in (*self.old, self.key)}

    @cached_property
    def _id(self) -> bytes:
        return _key_id(self.key)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Another text each time, also for the same content."""
        nonce = os.urandom(_NONCE_BYTES)
        head = _VERSION + self._id
        return head + nonce + self._ciphers[self._id].encrypt(nonce, plain, head + context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """What `seal` was given with the same context. Raises SealBroken."""
        head, nonce, text = sealed[:_HEAD], sealed[_HEAD : _HEAD + _NONCE_BYTES], sealed[_HEAD + _NONCE_BYTES :]
        cipher = self._ciphers.get(head[len(_VERSION) :]) if head.startswith(_VERSION) else None
        if cipher is None:
            where = f"{OLD_VARIABLE} or <data-dir>/{OLD_FILE}"
            raise SealBroken(f"{context}: was sealed with another key; give the former one as {where}")
        try:
            return cipher.decrypt(nonce, text, head + context.encode())
        except (InvalidTag, ValueError):
            raise SealBroken(f"{context}: is damaged, or was moved here from elsewhere") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the key that seals now."""
        return sealed.startswith(_VERSION + self._id)


def _key_id(key: bytes) -> bytes:
    return HKDF(SHA256(), _ID_BYTES, None, b"moongate key id").derive(key)
