"""Passwords of operators: scrypt (RFC 7914) of the standard library, with a salt for each."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import unicodedata

# 32 MB and some 80 ms for each guess: cost 2^15, block size 8.
_LOG_COST, _BLOCK, _LANES = 15, 8, 1
_SALT, _LENGTH = 16, 32
_NOBODY = "scrypt$15$8$1$AAAAAAAAAAAAAAAAAAAAAA==$" + base64.b64encode(bytes(_LENGTH)).decode()


class Hasher:
    """Hashes away from the event loop, two at a time: many attempts at once cost patience, not memory."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(2)

    async def hash(self, password: str) -> str:
        """What is stored: the parameters, the salt and the hash."""
        salt = os.urandom(_SALT)
        async with self._turn:
            made = await asyncio.to_thread(_scrypt, password, salt, (_LOG_COST, _BLOCK, _LANES))
        parts = (_LOG_COST, _BLOCK, _LANES, base64.b64encode(salt).decode(), base64.b64encode(made).decode())
        return "$".join(("scrypt", *map(str, parts)))

    async def matches(self, password: str, stored: str | None) -> bool:
        """In the same time for a wrong password and for somebody who does not exist (None)."""
        _, cost, block, lanes, salt, expected = (stored or _NOBODY).split("$")
        parameters = (int(cost), int(block), int(lanes))
        async with self._turn:
            made = await asyncio.to_thread(_scrypt, password, base64.b64decode(salt), parameters)
        return hmac.compare_digest(made, base64.b64decode(expected)) and stored is not None


def _scrypt(password: str, salt: bytes, parameters: tuple[int, int, int]) -> bytes:
    log_cost, block, lanes = parameters
    cost = 1 << log_cost
    return hashlib.scrypt(
        unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass"),
        salt=salt,
        n=cost,
        r=block,
        p=lanes,
        maxmem=256 * cost * block,
        dklen=_LENGTH,
    )
