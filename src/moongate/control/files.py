"""Configuration files: read, check their form, expand `${NAME}`, and merge several into one tree."""

from __future__ import annotations

from collections.abc import Mapping as Environment
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path

from moongate.control.environment import expand
from moongate.control.jsontext import read_json
from moongate.control.nodes import Entry, Loc, Mapping, Node, Place, Scalar, Sequence, dotted
from moongate.control.reading import MAX_BYTES, Unreadable
from moongate.control.yamltext import read_yaml
from moongate.errors import Complaint

# Blocks that several files may fill together, and lists that are put one after the other.
_SHARED_BLOCKS: frozenset[Loc] = frozenset({("gateway",), ("mcpServers",)})
_SHARED_LISTS: frozenset[Loc] = frozenset({("binds",), ("gateway", "tokens")})
# Keys that mean nothing to the gateway and may stand in every file.
_REPEATABLE = frozenset({"$schema", "config"})


@dataclass(frozen=True, slots=True)
class Documents:
    """What was written, merged into one tree, with what is wrong about its form.

    `complaints` are added to those that `compile_documents` finds, so that the operator sees all of them at once.
    `complete` is False when a file could not be read or understood: names that seem unknown may be in it.
    `tokens_in_use`: there are or were client tokens elsewhere than in files. `access`: rules for the whole gateway from
    elsewhere, which hold beside those of files.
    """

    root: Mapping
    paths: tuple[str, ...]
    complaints: tuple[Complaint, ...] = ()
    complete: bool = True
    warnings: tuple[Complaint, ...] = ()
    tokens_in_use: bool = False
    access: Node | None = None


def load(paths: Many[str | Path], env: Environment[str, str]) -> Documents:
    """Read files (JSON or YAML) and merge them; never raises: everything wrong is in `Documents.complaints`."""
    texts: list[tuple[str, str]] = []
    complaints: list[Complaint] = []
    for path in paths:
        try:
            texts.append((str(path), _read(Path(path))))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            complaints.append(Complaint(str(path), f"cannot be read: {reason}"))
    documents = load_texts(texts, env)
    return Documents(
        documents.root,
        tuple(str(path) for path in paths),
        (*complaints, *documents.complaints),
        complete=documents.complete and not complaints,
    )


def load_texts(texts: Many[tuple[str, str]], env: Environment[str, str]) -> Documents:
    """The same for texts that are in memory: pairs of the name to show and the content."""
    complaints: list[Complaint] = []
    complete = True
    root: Mapping | None = None
    for name, text in texts:
        try:
            node, found = _parse(name, text)
        except Unreadable as error:
            complaints.append(Complaint(str(error.place), error.reason))
            complete = False
            continue
        complaints.extend(found)
        complaints.extend(expand(node, env))
        root = node if root is None else merge(root, node, complaints)
    if root is None:
        root = Mapping({}, Place(texts[0][0] if texts else "configuration", 1))
    return Documents(root, tuple(name for name, _ in texts), tuple(complaints), complete=complete)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        message = f"it is larger than {MAX_BYTES} bytes"
        raise ValueError(message)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"line {line} is not UTF-8 text"
        raise ValueError(message) from error


def _parse(name: str, text: str) -> tuple[Mapping, list[Complaint]]:
    """By content first: what begins with a brace is JSON, unless its name says YAML and it only is that."""
    node: Node | None
    extension = Path(name).suffix.lower()
    if extension == ".json" or (text.lstrip().startswith("{") and extension not in {".yaml", ".yml"}):
        node, complaints = read_json(text, name)
    elif text.lstrip().startswith("{"):
        try:
            node, complaints = read_json(text, name)
        except Unreadable:
            node, complaints = read_yaml(text, name)
    else:
        node, complaints = read_yaml(text, name)
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return Mapping({}, Place(name, 1)), complaints
    if not isinstance(node, Mapping):
        raise Unreadable(node.place, "a configuration is a block of keys such as mcpServers, binds and gateway")
    return node, complaints


def merge(first: Mapping, second: Mapping, complaints: list[Complaint]) -> Mapping:
    """Two documents as one; what both give is complained about."""
    return _merge(first, second, (), complaints)


def _merge(first: Mapping, second: Mapping, loc: Loc, complaints: list[Complaint]) -> Mapping:
    entries = dict(first.entries)
    for key, entry in second.entries.items():
        here = (*loc, key)
        if key not in entries or _empty(entries[key].node):
            entries[key] = entry
        elif not _empty(entry.node) and not (loc == () and key in _REPEATABLE):
            entries[key] = _merge_entry(entries[key], entry, here, complaints)
    return Mapping(entries, first.place)


def _merge_entry(first: Entry, second: Entry, loc: Loc, complaints: list[Complaint]) -> Entry:
    if loc in _SHARED_BLOCKS and isinstance(first.node, Mapping) and isinstance(second.node, Mapping):
        return Entry(first.place, _merge(first.node, second.node, loc, complaints))
    if loc in _SHARED_LISTS and isinstance(first.node, Sequence) and isinstance(second.node, Sequence):
        return Entry(first.place, Sequence(first.node.items + second.node.items, first.node.place))
    complaints.append(
        Complaint(
            str(second.place), f"{dotted(loc)} was already given at {first.place}; keep one of them, or rename it"
        ),
    )
    return first


def _empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None
