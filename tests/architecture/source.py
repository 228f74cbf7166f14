"""Reads Python files: their imports, functions, classes and handlers, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.architecture.rules import PACKAGE, ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = Function | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Import:
    """One imported thing: `module`, or `name` from `module`. `inside`: the function that it stands in."""

    module: str
    name: str | None
    line: int
    inside: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """A function or class, with its dotted name within the module."""

    qualname: str
    node: Scope
    method: bool

    @property
    def lines(self) -> int:
        """From `def` or `class` to the last line; decorators do not count."""
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    @property
    def public(self) -> bool:
        """No part of the name begins with an underscore, and it is not local to a function."""
        return not any(part.startswith(("_", "<")) for part in self.qualname.split("."))


@dataclass(frozen=True)
class Module:
    """One Python file. `file` is relative to the project, `name` is dotted."""

    file: str
    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, self.file)

    @property
    def is_package(self) -> bool:
        """Whether this is an `__init__`."""
        return self.file.endswith("__init__.py")

    @property
    def place(self) -> str:
        """The package below the root package, or the module beside the packages, that the import table speaks of."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """All imports, wherever they stand: at the top, in functions, under TYPE_CHECKING."""
        return tuple(self._imports(self.tree, None))

    def _imports(self, node: ast.AST, inside: str | None) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, None, child.lineno, inside)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    yield Import(self._absolute(child), alias.name, child.lineno, inside)
            else:
                yield from self._imports(child, child.name if isinstance(child, Function) else inside)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        base = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """All functions and classes, nested ones too."""
        return tuple(self._definitions(self.tree, "", in_class=False))

    def _definitions(self, node: ast.AST, prefix: str, *, in_class: bool) -> Iterator[Definition]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Scope):
                yield Definition(prefix + child.name, child, in_class and isinstance(child, Function))
                is_class = isinstance(child, ast.ClassDef)
                inner = f"{prefix}{child.name}." + ("" if is_class else "<locals>.")
                yield from self._definitions(child, inner, in_class=is_class)
            else:
                yield from self._definitions(child, prefix, in_class=in_class)

    def qualname_at(self, line: int) -> str:
        """The innermost function or class around a line, or "<module>"."""
        around = [
            definition
            for definition in self.definitions
            if definition.node.lineno <= line <= (definition.node.end_lineno or definition.node.lineno)
        ]
        return min(around, key=lambda definition: definition.lines).qualname if around else "<module>"


def module_from(text: str, name: str = f"{PACKAGE}.proxy.snippet", file: str | None = None) -> Module:
    """A module from a text, to show that a check bites."""
    return Module(file or f"src/{name.replace('.', '/')}.py", name, text)


def read_modules(folder: str) -> tuple[Module, ...]:
    """All Python files below a folder of the project; none if there is no such folder."""
    files = [file for file in sorted((ROOT / folder).rglob("*.py")) if "node_modules" not in file.parts]
    return tuple(_read(file) for file in files)


def _read(file: Path) -> Module:
    relative = file.relative_to(ROOT)
    parts = relative.with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return Module(str(relative), ".".join(parts), file.read_text("utf-8"))
