"""What the compiler says about a configuration: complaints and warnings, each with the place it is about."""

from __future__ import annotations

from pathlib import Path

from moongate.control.nodes import Loc, Mapping, Place, describe, dotted, find
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

    def file_path(self, loc: Loc, written: str) -> str:
        """A path in a configuration is relative to the file that names it."""
        return str(Path(self.place(loc).file).parent / written)
