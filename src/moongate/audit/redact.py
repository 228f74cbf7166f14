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
from typing import ClassVar, TypeVar
from urllib.parse import quote

import msgspec

T = TypeVar("T", str, bytes)

MIN_SECRET = 4
_MASK = re.compile(r"\[secret [0-9a-f]{8}\]")
# What stands before the secret stays, so that a reader knows what was there. Clients choose the texts: each of these
# reads a text once, so none may begin anew at every place of a run of the characters that it repeats.
_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)\b(?P<kept>bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}",
        r"(?P<kept>)\bmgk?_[A-Za-z0-9]{16,}",  # Moongate's own tokens and API keys
        r"(?P<kept>)(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*",  # RFC 7519
        r"(?P<kept>)\b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs]|hf|npm|pypi)[-_][A-Za-z0-9_-]{16,}",
        r"(?P<kept>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"(?P<kept>(?<=://))[^/@\s:]{1,256}:[^/@\s]{1,256}(?=@)",  # userinfo of an address
        (
            r"(?i)(?P<kept>(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|credential)"
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
# Up to here one expression of all known secrets is fast; more are looked up by their beginnings.
_MANY = 24
# Members that name what stands in a member beside them.
_NAMED = frozenset({"name", "key"})
_VALUES = frozenset({"value", "values", "val"})
_LONGEST_NAME = 256
_REMEMBERED = 4096
_LONGEST_SHAPE = 64
MAX_ARGUMENTS = 64 * 1024
MAX_ARGUMENTS_TEXT = 8 * 1024
_DEEPEST = 64
# Addresses are written in bytes of percent and two digits (RFC 3986 section 2.1), maybe several times over.
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_DECODED_TIMES = 3


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
        self._known = re.compile("|".join(map(re.escape, known))) if 0 < len(known) <= _MANY else None
        self._starts = _starts(known) if len(known) > _MANY else {}
        self._longest = max([_LONGEST_SHAPE, *map(len, known)])
        self._short: dict[str, str] = {}
        self._encoded: dict[str, bytes] = {}

    def clean(self, text: str) -> str:
        """`text` without secrets. What was cleaned before stays as it is; what holds an encoded one is decoded."""
        cleaned = decoded = self._plain(text)
        for _ in range(_DECODED_TIMES):
            if "%" not in decoded or (further := _ENCODED.sub(_decoded, decoded)) == decoded:
                break
            decoded = self._plain(further)
            if decoded != further:
                cleaned = decoded
        return cleaned

    def _plain(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(lambda match: mask(self._spellings[match[0]]), text)
        elif self._starts:
            text = self._looked_up(text)
        for shape in _SHAPES:
            text = shape.sub(_masked, text)
        return text

    def _looked_up(self, text: str) -> str:
        """`text` without known secrets, if there are many: as quick as if there were few."""
        starts, spellings = self._starts, self._spellings
        pieces: list[str] = []
        done = 0
        places = (place for place in range(len(text) - MIN_SECRET + 1) if text[place : place + MIN_SECRET] in starts)
        for place in places:
            if place < done:
                continue
            for length in starts[text[place : place + MIN_SECRET]]:
                found = text[place : place + length]
                if found in spellings:
                    pieces += (text[done:place], mask(spellings[found]))
                    done = place + length
                    break
        return "".join([*pieces, text[done:]]) if pieces else text

    def short(self, text: str, limit: int, reads: int = 4) -> str:
        """The beginning of `text` without secrets: no half of one is left, and what lies beyond `reads` times the limit
        costs nothing.
        """
        if len(text) <= reads * limit:
            return self.clean(text)[:limit]
        text = text[: reads * limit]
        cleaned = self.clean(text)
        # Of what was cut through, percent and two digits may stand for each character.
        torn = 3 * self._longest if "%" in text else self._longest
        return cleaned[: max(0, min(limit, len(cleaned) - torn))]

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

    def arguments(self, raw: msgspec.Raw) -> str:
        """The arguments of a call as JSON text without secrets, cut to `MAX_ARGUMENTS_TEXT`."""
        if len(raw) > MAX_ARGUMENTS:
            return f"[{len(raw)} bytes]"
        try:
            decoded = json.loads(bytes(raw))
        except (ValueError, RecursionError):
            return "[unreadable]"
        walk = _Walk(self)
        text = json.dumps(walk.value(decoded, _DEEPEST), ensure_ascii=False, separators=(",", ":"))
        return text[:MAX_ARGUMENTS_TEXT]


class _Walk:
    """Goes through the arguments of one call, up to as much as a record takes: the rest is not even looked at."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._left = MAX_ARGUMENTS_TEXT

    def value(self, value: object, deeper: int, *, secret: bool = False) -> object:
        """Without secrets; all texts and numbers are some if it is `secret`."""
        if not isinstance(value, dict | list):
            return self._scalar(value, secret=secret)
        self._left -= 2
        if not deeper:
            return "[nested deeper]"
        if isinstance(value, list):
            return [self.value(item, deeper - 1, secret=secret) for item in value if self._left > 0]
        # {"name": "password", "value": "..."} says the same as {"password": "..."}.
        pair = any(
            lowered in _NAMED and isinstance(named, str) and _SECRET_NAMES.search(named[:_LONGEST_NAME])
            for lowered, named in ((name.lower(), named) for name, named in value.items() if len(name) <= _LONGEST_NAME)
        )
        return {
            self._text(name): self.value(
                item,
                deeper - 1,
                secret=secret or bool(_SECRET_NAMES.search(name)) or (pair and name.lower() in _VALUES),
            )
            for name, item in value.items()
            if self._left > 0
        }

    def _scalar(self, value: object, *, secret: bool) -> object:
        if isinstance(value, str):
            if not secret or not value:
                return self._text(value)
            value = mask(value)
        elif secret and isinstance(value, int | float) and not isinstance(value, bool):
            value = mask(str(value))
        self._left -= len(str(value)) + 1
        return value

    def _text(self, text: str) -> str:
        redactor, left = self._redactor, self._left
        cleaned = redactor.short(text, max(left, 1), 2) if len(text) > left else redactor.clean(text)
        self._left -= len(cleaned) + 3
        return cleaned


def _starts(known: Iterable[str]) -> dict[str, list[int]]:
    """Of each beginning, how long the secrets are that begin so; the longest first."""
    found: dict[str, set[int]] = {}
    for secret in known:
        found.setdefault(secret[:MIN_SECRET], set()).add(len(secret))
    return {start: sorted(lengths, reverse=True) for start, lengths in found.items()}


def _decoded(match: re.Match[str]) -> str:
    """What the bytes spell; of that, what has no shape stays encoded, so that no line ends where it did not."""
    text = bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace")
    return text if text.isprintable() else "".join(each if each.isprintable() else quote(each) for each in text)


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

    redactor: ClassVar[Redactor] = Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """One log line (or several, with a trace), cleaned."""
        return self.redactor.clean(super().format(record))
