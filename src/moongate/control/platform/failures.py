"""The ways in which the services say no; the text of each may be shown to whoever asked.

Beside these: `ConfigError` with every complaint about what was sent, and `StoreAway` while there is no database.
"""

from __future__ import annotations

from moongate.errors import MoongateError


class NotFound(MoongateError):
    """There is no such thing (404)."""


class Exists(MoongateError):
    """The name is taken (409)."""


class Stale(MoongateError):
    """Somebody else changed it since the caller looked (412 with If-Match, otherwise 409). `revision` is today's."""

    def __init__(self, text: str, revision: int) -> None:
        super().__init__(text)
        self.revision = revision


class ReadOnly(MoongateError):
    """It comes from a file, and is changed there (409)."""


class Forbidden(MoongateError):
    """The caller's role does not allow it (403)."""


class Needed(MoongateError):
    """Something else still needs it: the last admin (409)."""


class TooMany(MoongateError):
    """Too many wrong guesses (429); `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many attempts; try again in {retry_after:.0f} s")
        self.retry_after = retry_after
