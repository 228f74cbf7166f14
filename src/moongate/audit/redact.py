"""Keeps secrets out of texts: every configured secret is replaced wherever a text is about to leave for a log or a
record.

What replaces it is a fingerprint, so that two secrets can still be told apart.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable

MIN_SECRET = 4
_SHAPES = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}")


def fingerprint(secret: str) -> str:
    """Eight hex digits of its SHA-256: enough to tell two apart, too little to find it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


class Redactor:
    """Replaces known secrets, and what looks like an HTTP credential. Longer secrets first, so that none is half
    hidden.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def clean(self, text: str) -> str:
        """`text` without secrets."""
        if self._known is not None:
            text = self._known.sub(lambda match: f"[secret {fingerprint(match[0])}]", text)
        return _SHAPES.sub(lambda match: f"{match[1]} [secret {fingerprint(match[0])}]", text)


class RedactingFormatter(logging.Formatter):
    """A log formatter whose lines have passed `redactor`, traces included."""

    redactor = Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """One log line (or several, with a trace), cleaned."""
        return self.redactor.clean(super().format(record))
