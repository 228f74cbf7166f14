"""What the compiler says about a configuration: complaints and warnings, each with the place it is about."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from moongate.control.environment import is_ordinary
from moongate.control.nodes import Loc, Mapping, Place, describe, dotted, find, scalars
from moongate.errors import Complaint


class Findings:
    """Collects; nobody stops at the first one."""

    def __init__(self, root: Mapping) -> None:
        self._root = root
        self.complaints: list[Complaint] = []
        self.warnings: list[Complaint] = []

    def complain(self, loc: Loc, text: str) -> None:
        """The configuration cannot be used as it is."""
        self.complaints.append(Complaint(str(self.place(loc)), f"{dotted(loc)}: {text}"))

    def warn(self, loc: Loc, text: str) -> None:
        """It can be used, but the operator should know."""
        self.warnings.append(Complaint(str(self.place(loc)), f"{dotted(loc)}: {text}"))

    def place(self, loc: Loc) -> Place:
        """Where the value at a path, or its nearest parent, was written."""
        return find(self._root, loc).place

    def found(self, loc: Loc) -> str:
        """What was written there, safe to print."""
        return describe(find(self._root, loc).node, loc)

    def references(self, loc: Loc) -> tuple[str, ...]:
        """The environment variables that a value was made from."""
        return getattr(find(self._root, loc).node, "references", ())

    def inserted(self, loc: Loc) -> Iterator[tuple[str, str]]:
        """The environment variables that the value at a path, or those below it, were made from, and what they held."""
        node = find(self._root, loc).node
        for scalar in () if node is None else scalars(node):
            yield from scalar.inserted

    @cached_property
    def variables(self) -> frozenset[str]:
        """The environment variables that the whole configuration names, and that are therefore the gateway's alone."""
        names = {name for scalar in scalars(self._root) for name in scalar.references}
        return frozenset(name for name in names if not is_ordinary(name))

    def file_path(self, loc: Loc, written: str) -> str:
        """A path in a configuration is relative to the file that names it."""
        return str(Path(self.place(loc).file).parent / written)
