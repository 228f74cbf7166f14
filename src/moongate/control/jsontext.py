"""JSON text to nodes (RFC 8259, and nothing beside it).

Own, because the library's decoder keeps no lines and lets a later duplicate key win, and because YAML readers refuse
the tabs that JSON files are indented with.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from moongate.control.nodes import Entry, Mapping, Node, Place, Scalar, Sequence
from moongate.control.reading import MAX_DEPTH, MAX_NODES, Unreadable, twice
from moongate.errors import Complaint

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_MAX_DIGITS = 300


def read_json(text: str, file: str) -> tuple[Node | None, list[Complaint]]:
    """The value of a text and complaints about keys that were given twice."""
    reader = _Reader(file, text)
    return reader.document(), reader.complaints


class _Reader:
    """One pass from left to right; recursion is bounded by MAX_DEPTH."""

    def __init__(self, file: str, text: str) -> None:
        self.complaints: list[Complaint] = []
        self._file = file
        self._text = text
        self._at = 0
        self._count = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> Node | None:
        if not self._peek():
            return None
        node = self._value(0)
        if self._peek():
            raise self._error("there is text after the end of the JSON value; remove it")
        return node

    def _value(self, depth: int) -> Node:
        first = self._peek()
        place = self._place()
        self._count += 1
        if depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels")
        if self._count > MAX_NODES:
            raise self._error(f"more than {MAX_NODES} keys and values in one file")
        if first == "{":
            return self._object(place, depth)
        if first == "[":
            return self._array(place, depth)
        if first == '"':
            return Scalar(self._string(), place)
        return Scalar(self._atom(), place)

    def _object(self, place: Place, depth: int) -> Mapping:
        mapping = Mapping({}, place)
        self._at += 1
        while self._peek() != "}" or mapping.entries:
            if self._peek() != '"':
                raise self._error("a key in double quotes is expected here" + self._comma_hint())
            key_place = self._place()
            key = self._string()
            if self._peek() != ":":
                raise self._error("a colon is expected after the key")
            self._at += 1
            value = self._value(depth + 1)
            if key in mapping.entries:
                self.complaints.append(twice(key, key_place, mapping.entries[key].place))
            else:
                mapping.entries[key] = Entry(key_place, value)
            if not self._continues("}"):
                return mapping
        self._at += 1
        return mapping

    def _array(self, place: Place, depth: int) -> Sequence:
        sequence = Sequence([], place)
        self._at += 1
        while self._peek() != "]" or sequence.items:
            sequence.items.append(self._value(depth + 1))
            if not self._continues("]"):
                return sequence
        self._at += 1
        return sequence

    def _continues(self, closing: str) -> bool:
        """True after a comma, False after the closing bracket."""
        found = self._peek()
        if found not in {",", closing}:
            raise self._error(f"a comma or {closing} is expected here")
        self._at += 1
        return found == ","

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise self._error("a text does not end on its line, or holds a control character or an unknown escape")
        value: str = json.loads(match.group())
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise self._error("a text holds half of a surrogate pair (\\ud800 to \\udfff), which is no character")
        self._at = match.end()
        return value

    def _atom(self) -> float | int | bool | None:
        match = _WORD.match(self._text, self._at)
        word = match.group() if match else ""
        if word in _WORDS:
            self._at += len(word)
            return _WORDS[word]
        number = _NUMBER.fullmatch(word)
        if number is None or len(word) > _MAX_DIGITS:
            raise self._error(
                "a value is expected here: text in double quotes, a number, true, false, null, { or ["
                + self._comma_hint()
            )
        self._at += len(word)
        return float(word) if number.group(1) or number.group(2) else int(word)

    def _comma_hint(self) -> str:
        if self._text.startswith(("//", "/*", "#"), self._at):
            return " (JSON has no comments; a file named .yaml may hold JSON with # comments)"
        before = self._text[: self._at].rstrip()
        return " (remove the comma before it)" if before.endswith(",") and self._peek() in {"}", "]"} else ""

    def _peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        match = _SPACE.match(self._text, self._at)
        if match:
            self._at = match.end()
        return self._text[self._at : self._at + 1]

    def _place(self) -> Place:
        return Place(self._file, bisect_right(self._breaks, self._at - 1) + 1)

    def _error(self, reason: str) -> Unreadable:
        return Unreadable(self._place(), f"not valid JSON: {reason}")
