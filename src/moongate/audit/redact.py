"""Keeps secrets out of texts: every configured secret is replaced wherever a text is about to leave for a log or a
record, and so is what has the shape of a secret although nobody configured it.

What replaces it is a fingerprint, so that two secrets can still be told apart.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar
from urllib.parse import quote

import msgspec

T = TypeVar("T", str, bytes)

MIN_SECRET = 4
_MASK = re.compile(r"\[secret [0-9a-f]{8}\]")
# What stands before the secret stays, so that a reader knows what was there.
_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)\b(?P<kept>bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}",
        r"(?P<kept>)\bmgk?_[A-Za-z0-9]{16,}",  # Moongate's own tokens and API keys
        r"(?P<kept>)\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*",  # RFC 7519
        r"(?P<kept>)\b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs]|hf|npm|pypi)[-_][A-Za-z0-9_-]{16,}",
        r"(?P<kept>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"(?P<kept>(?<=://))[^/@\s:]{1,256}:[^/@\s]{1,256}(?=@)",  # userinfo of an address
        (
            r"(?i)(?P<kept>\b[a-z0-9_-]{0,32}(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|credential)"
            r"[a-z0-9_-]{0,8}=)[^&\s\"'\[]{4,}"
        ),
        r"(?P<kept>)\b[0-9a-fA-F]{48,}\b",
        # Long, and as mixed as only chance is.
        (
            r"(?P<kept>)(?<![A-Za-z0-9+_-])(?=(?:[A-Za-z+_-]*[0-9]){4})(?=(?:[a-z0-9+_-]*[A-Z]){4})"
            r"(?=(?:[A-Z0-9+_-]*[a-z]){4})[A-Za-z0-9+_-]{32,}={0,2}"
        ),
    )
)
_SECRET_NAMES = re.compile(
    r"(?i)passw(or)?d|passphrase|secret|token|api[_-]?key|credential|authorization|cookie|private[_-]?key"
)
# Up to here one expression of all known secrets is fast; of more, their beginnings are looked for first.
_MANY = 24
_REMEMBERED = 4096
_LONGEST_SHAPE = 64
MAX_ARGUMENTS = 64 * 1024
MAX_ARGUMENTS_TEXT = 8 * 1024
_DEEPEST = 64


def fingerprint(secret: str) -> str:
    """Eight hex digits of its SHA-256: enough to tell two apart, too little to find it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def mask(secret: str) -> str:
    """What stands in a text instead of a secret."""
    return f"[secret {fingerprint(secret)}]"


class Redactor:
    """Replaces known secrets, and what looks like one. Longer secrets first, so that none is half hidden."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {spelt: secret for secret in secrets if len(secret) >= MIN_SECRET for spelt in _spellings(secret)}
        known = sorted(spellings, key=len, reverse=True)
        self._spellings = spellings
        self._known = re.compile("|".join(map(re.escape, known))) if known else None
        self._starts = frozenset(secret[:MIN_SECRET] for secret in known) if len(known) > _MANY else None
        self._longest = max([_LONGEST_SHAPE, *map(len, known)])
        self._short: dict[str, str] = {}
        self._encoded: dict[str, bytes] = {}

    def clean(self, text: str) -> str:
        """`text` without secrets. What was cleaned before stays as it is."""
        if self._known is not None and self._may_hold(text):
            text = self._known.sub(lambda match: mask(self._spellings[match[0]]), text)
        for shape in _SHAPES:
            text = shape.sub(_masked, text)
        return text

    def short(self, text: str, limit: int) -> str:
        """The beginning of `text` without secrets: what is cut off costs nothing, and no half of a secret is left."""
        if len(text) <= 4 * limit:
            return self.clean(text)[:limit]
        cleaned = self.clean(text[: 4 * limit])
        return cleaned[: max(0, min(limit, len(cleaned) - self._longest))]

    def again(self, text: str, limit: int) -> str:
        """As `short`. Remembered: clients call the same addresses and tools again and again."""
        found = self._short.get(text)
        if found is None:
            found = self.short(text, limit)
            _remember(self._short, text, found, limit)
        return found

    def encoded(self, text: str, limit: int) -> bytes:
        """As `again`, as JSON."""
        found = self._encoded.get(text)
        if found is None:
            found = msgspec.json.encode(self.short(text, limit))
            _remember(self._encoded, text, found, limit)
        return found

    def arguments(self, raw: msgspec.Raw | bytes) -> str:
        """The arguments of a call as JSON text without secrets, cut to `MAX_ARGUMENTS_TEXT`."""
        if len(raw) > MAX_ARGUMENTS:
            return f"[{len(raw)} bytes]"
        try:
            decoded = json.loads(bytes(raw))
        except (ValueError, RecursionError):
            return "[unreadable]"
        text = json.dumps(self._walked(decoded, _DEEPEST), ensure_ascii=False, separators=(",", ":"))
        return text[:MAX_ARGUMENTS_TEXT]

    def _walked(self, value: object, left: int) -> object:
        if isinstance(value, str):
            return self.clean(value)
        if not isinstance(value, dict | list):
            return value
        if not left:
            return "[nested deeper]"
        if isinstance(value, list):
            return [self._walked(item, left - 1) for item in value]
        return {
            self.clean(name): mask(str(item))
            if _SECRET_NAMES.search(name) and isinstance(item, str | int | float) and not isinstance(item, bool)
            else self._walked(item, left - 1)
            for name, item in value.items()
        }

    def _may_hold(self, text: str) -> bool:
        starts = self._starts
        return starts is None or not starts.isdisjoint(
            text[place : place + MIN_SECRET] for place in range(len(text) - MIN_SECRET + 1)
        )


def _remember(memory: dict[str, T], text: str, found: T, limit: int) -> None:
    if len(text) <= limit:
        if len(memory) >= _REMEMBERED:
            memory.clear()
        memory[text] = found


def _spellings(secret: str) -> Iterator[str]:
    """As it is, as addresses spell it, as JSON spells it."""
    yield secret
    for spelt in (quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1]):
        if spelt != secret:
            yield spelt


def _masked(match: re.Match[str]) -> str:
    if _MASK.search(match[0]):
        return match[0]
    kept = match["kept"]
    space = " " if kept.isalpha() else ""
    return f"{kept}{space}{mask(match[0][len(kept) :].lstrip())}"


class RedactingFormatter(logging.Formatter):
    """A log formatter whose lines have passed `redactor`, traces included."""

    redactor = Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """One log line (or several, with a trace), cleaned."""
        return self.redactor.clean(super().format(record))
