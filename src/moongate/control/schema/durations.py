"""Durations as operators write them: `500ms`, `100s`, `1m`, `1h30m` (AG-05)."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {"d": Fraction(86_400), "h": Fraction(3_600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
_SHAPE = re.compile("".join(rf"(?:(\d{{1,9}}(?:\.\d{{1,6}})?){unit})?" for unit in _UNITS), re.ASCII)

FORMS = "a number with a unit, such as 500ms, 100s, 1m or 1h30m (units: d, h, m, s, ms, in this order)"
# For editors, which know no environment: a text with a reference passes.
PATTERN = r"\$\{|^(?=.)" + "".join(rf"(\d+(\.\d+)?{unit})?" for unit in _UNITS) + "$"


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError for anything but the forms, a bare number included."""
    match = _SHAPE.fullmatch(text)
    if match is None or not text:
        message = f"must be {FORMS}"
        raise ValueError(message)
    parts = zip(match.groups(), _UNITS.values(), strict=True)
    return float(sum(Fraction(number) * unit for number, unit in parts if number is not None))


def format_duration(seconds: float) -> str:
    """The shortest usual form, exact to the millisecond; `parse_duration` reads it back."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, int(size * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"
