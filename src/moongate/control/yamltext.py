"""YAML text to nodes, from the parser's events, with the core types of YAML 1.2.

Why not a ready loader: lines are needed for every key and value, duplicate keys are errors, `off`, `yes` and dates stay
the text that was written (YAML 1.1 would make `auth: off` a boolean), and aliases must not multiply without a limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from moongate.control.nodes import Entry, Mapping, Node, Place, Scalar, Sequence
from moongate.control.reading import MAX_DEPTH, MAX_NODES, Unreadable, twice
from moongate.errors import Complaint

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_OTHER_BASE = re.compile(r"0x[0-9a-fA-F]{1,15}\Z|0o[0-7]{1,20}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


def read_yaml(text: str, file: str) -> tuple[Node | None, list[Complaint]]:
    """The one document of a text (None: there is none) and complaints about keys that were given twice."""
    builder = _Builder(file, text)
    try:
        node = builder.document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark else text.encode()[: getattr(error, "position", 0)].count(b"\n") + 1
        raise Unreadable(Place(file, line), _reason(error, text, mark)) from error
    return node, builder.complaints


def _reason(error: yaml.YAMLError, text: str, mark: yaml.Mark | None) -> str:
    problem = getattr(error, "problem", None) or "unreadable character"
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "not valid YAML: a tab cannot indent; write spaces"
    if "${" in line and ("{" in line.replace("${", "") or "[" in line):
        return 'not valid YAML: inside {...} and [...] a reference needs quotes; write "${NAME}"'
    return f"not valid YAML: {problem}"


class _Builder:
    """Walks the parser's events once; recursion is bounded by MAX_DEPTH."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.complaints: list[Complaint] = []
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0

    def document(self) -> Node | None:
        node: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if node is not None:
                    raise Unreadable(self._place(event), "a second YAML document begins; write one document in a file")
                node = self._node(next(self._events), 0)
        return node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            raise Unreadable(place, "a value is expected here")
        if depth > MAX_DEPTH:
            raise Unreadable(place, f"nested deeper than {MAX_DEPTH} levels")
        before = self._count
        self._spend(1, place)
        self._refuse_tag(event, place)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(_value(event), place)
        elif isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(place, depth)
        else:
            node = Sequence([], place)
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                node.items.append(self._node(item, depth + 1))
        if event.anchor:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _mapping(self, place: Place, depth: int) -> Mapping:
        mapping = Mapping({}, place)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_place = self._place(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable(key_place, "a key must be plain text, not a block, a list or an alias")
            key = str(event.value)
            value = self._node(next(self._events), depth + 1)
            if key in mapping.entries:
                self.complaints.append(twice(key, key_place, mapping.entries[key].place))
            else:
                mapping.entries[key] = Entry(key_place, value)
        return mapping

    def _alias(self, event: yaml.AliasEvent, place: Place) -> Node:
        if event.anchor not in self._anchors:
            raise Unreadable(place, f"*{event.anchor} is used, but no &{event.anchor} stands above it")
        node, size = self._anchors[event.anchor]
        self._spend(size, place)
        return _copy(node)

    def _spend(self, nodes: int, place: Place) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise Unreadable(place, f"more than {MAX_NODES} keys and values in one file")

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: Place) -> None:
        tag = event.tag
        if tag is not None and not (isinstance(event, yaml.ScalarEvent) and tag in _TEXT_TAGS):
            raise Unreadable(place, "YAML tags (!name) have no meaning here; remove the tag")

    def _place(self, event: yaml.Event) -> Place:
        return Place(self.file, event.start_mark.line + 1 if event.start_mark else 1)


def _copy(node: Node) -> Node:
    """Every use of an alias is a node of its own, because expansion changes nodes in place."""
    if isinstance(node, Mapping):
        return Mapping({key: Entry(entry.place, _copy(entry.node)) for key, entry in node.entries.items()}, node.place)
    if isinstance(node, Sequence):
        return Sequence([_copy(item) for item in node.items], node.place)
    return Scalar(node.value, node.place)


def _value(event: yaml.ScalarEvent) -> str | int | float | bool | None:
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INTEGER.match(text):
        return int(text)
    if _OTHER_BASE.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text
