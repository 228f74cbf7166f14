"""Reads the acceptance lines, and from the source of the tests which of them are proved."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

TESTS = Path(__file__).resolve().parent.parent
IDS = Path(__file__).with_name("ids.toml")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Marks = list[tuple[str, ast.Call | None]]  # NAME of pytest.mark.NAME, and the call if it is called
NO_PROOF = frozenset({"skip", "xfail"})  # a test that never runs, or must fail, proves nothing


@dataclass(frozen=True, slots=True)
class Requirement:
    """One acceptance line. `claimed`: the current release promises it."""

    id: str
    text: str
    claimed: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """A mark on a test: the id it names, and the test as `file:line name`."""

    id: str
    test: str


@dataclass(frozen=True, slots=True)
class Scan:
    """All marks that tests carry, and complaints about marks that prove nothing."""

    proofs: tuple[Proof, ...]
    complaints: tuple[str, ...]

    def by_id(self) -> dict[str, list[str]]:
        """Ids with the tests that name them."""
        found: dict[str, list[str]] = {}
        for proof in self.proofs:
            found.setdefault(proof.id, []).append(proof.test)
        return found


def load(file: Path = IDS) -> dict[str, Requirement]:
    """The acceptance lines by id, in the order of the file."""
    with file.open("rb") as stream:
        lines = tomllib.load(stream)
    return {name: Requirement(name, line["text"], line["claimed"]) for name, line in lines.items()}


def missing(requirements: Iterable[Requirement], scan: Scan) -> list[Requirement]:
    """The lines that no test proves."""
    proved = scan.by_id()
    return [requirement for requirement in requirements if requirement.id not in proved]


def unknown(requirements: dict[str, Requirement], scan: Scan) -> list[str]:
    """Marks that name a line which does not exist."""
    return [f"{proof.test}: {proof.id}" for proof in scan.proofs if proof.id not in requirements]


def scan_tree(root: Path = TESTS) -> Scan:
    """Read every test file below a folder."""
    scans = [
        scan_source(file.read_text("utf-8"), str(file.relative_to(root.parent)))
        for file in sorted(root.rglob("test_*.py"))
        if "node_modules" not in file.parts
    ]
    return Scan(
        tuple(proof for scan in scans for proof in scan.proofs),
        tuple(complaint for scan in scans for complaint in scan.complaints),
    )


def scan_source(source: str, file: str) -> Scan:
    """Read one test file: marks on tests, on test classes, in `pytestmark`, in `pytest.param`, by a global."""
    tree = ast.parse(source, file)
    proofs: list[Proof] = []
    complaints: list[str] = []
    carried: set[ast.Call] = set()
    for label, line, marks in _tests(tree):
        idle = any(name in NO_PROOF for name, _ in marks)
        for name, call in marks:
            if name != "requirement" or call is None:
                continue
            carried.add(call)
            if idle:
                complaints.append(f"{file}:{line} {label}: a test that is skipped or must fail proves nothing")
            elif not call.args or call.keywords or not all(_is_text(argument) for argument in call.args):
                complaints.append(f'{file}:{line} {label}: write ids as texts: @pytest.mark.requirement("PM-02")')
            else:
                ids = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
                proofs += [Proof(str(name), f"{file}:{line} {label}") for name in ids]
    used = {call.func for call in carried}
    complaints += [
        f"{file}:{node.lineno} this requirement mark is on no test"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and _mark_name(node) == "requirement" and node not in used
    ]
    return Scan(tuple(proofs), tuple(complaints))


def _tests(tree: ast.Module) -> Iterator[tuple[str, int, Marks]]:
    """Each test function with all marks that it carries or inherits."""
    values = dict(_globals(tree))
    outer = _marks(values["pytestmark"], values) if "pytestmark" in values else []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            of_class = outer + _decorations(node, values)
            for method in node.body:
                if _is_test(method):
                    yield f"{node.name}.{method.name}", method.lineno, of_class + _decorations(method, values)
        elif _is_test(node):
            yield node.name, node.lineno, outer + _decorations(node, values)


def _globals(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names that a module assigns, with their values."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _is_test(node: ast.stmt) -> TypeGuard[Function]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _decorations(node: Function | ast.ClassDef, values: dict[str, ast.expr]) -> Marks:
    return [mark for decorator in node.decorator_list for mark in _marks(decorator, values)]


def _marks(expression: ast.expr, values: dict[str, ast.expr]) -> Marks:
    """All `pytest.mark.NAME` and `pytest.mark.NAME(...)` in an expression and in the globals that it names."""
    nodes = list(ast.walk(expression))
    for name in [node.id for node in nodes if isinstance(node, ast.Name) and node.id in values]:
        nodes += ast.walk(values[name])
    calls = {node.func: node for node in nodes if isinstance(node, ast.Call)}
    named = [(node, _mark_name(node)) for node in nodes if isinstance(node, ast.Attribute)]
    return [(name, calls.get(node)) for node, name in named if name is not None]


def _mark_name(node: ast.Attribute) -> str | None:
    """NAME of `pytest.mark.NAME`."""
    mark = node.value
    if isinstance(mark, ast.Attribute) and mark.attr == "mark" and _is_name(mark.value, "pytest"):
        return node.attr
    return None


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
