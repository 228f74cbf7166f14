"""Who imports whom: compares imports with the table and finds cycles."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping

from tests.architecture.rules import LOADER, MAY_IMPORT, NEVER, ONLY_IN, PACKAGE
from tests.architecture.source import Import, Module


def imports_against_table(modules: Collection[Module]) -> list[str]:
    """Complaints about imports of Moongate's own packages that the table does not allow."""
    by_name = {module.name: module for module in modules}
    return [complaint for module in modules for complaint in _against_table(module, by_name)]


def _against_table(module: Module, by_name: Mapping[str, Module]) -> Iterator[str]:
    if module.name == PACKAGE:
        return
    if module.place not in MAY_IMPORT:
        yield f"{module.file}: {module.place} is not in the import table (tests/architecture/rules.py)"
        return
    allowed = MAY_IMPORT[module.place]
    for found in module.imports:
        target = resolve(found, by_name)
        if target is None or "*" in allowed or target.split(".")[1:2] == [module.place]:
            continue
        inner = ".".join(target.split(".")[1:])
        if not _is_allowed(inner, found, allowed, by_name):
            rule = ", ".join(sorted(allowed)) or "nothing of Moongate"
            yield f"{module.file}:{found.line} {module.place} imports {inner or PACKAGE}; it may import {rule}"


def _is_allowed(inner: str, found: Import, allowed: set[str], by_name: Mapping[str, Module]) -> bool:
    package = inner.partition(".")[0]
    if package in allowed or inner in allowed:
        return True
    if f"{package}:config" in allowed:
        module = by_name.get(found.module)
        return module is not None and found.name in config_classes(module)
    return False


def config_classes(module: Module) -> set[str]:
    """Classes that say what a policy or an upstream was told: derived from a class named ...Config, or named so."""
    return {
        node.name
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(name).endswith("Config") for name in (ast.Name(node.name), *node.bases))
    }


def resolve(found: Import, by_name: Collection[str]) -> str | None:
    """The module of ours that an import reads, or None. `from package import module` reads the module."""
    if found.module != PACKAGE and not found.module.startswith(f"{PACKAGE}."):
        return None
    deeper = f"{found.module}.{found.name}"
    # Packages hold no names, so what is imported from one is a module, also when that module is not there (yet).
    return deeper if found.name and (deeper in by_name or found.module == PACKAGE) else found.module


def outside_imports(modules: Iterable[Module]) -> list[str]:
    """Complaints about libraries in packages where they do not belong."""
    complaints = []
    for module in modules:
        for found in module.imports:
            top = found.module.split(".")[0]
            reason = NEVER.get(module.place, {}).get(top)
            if reason:
                complaints.append(f"{module.file}:{found.line} {module.place} never imports {top}: {reason}")
            if top in ONLY_IN and module.place not in ONLY_IN[top]:
                where = ", ".join(sorted(ONLY_IN[top])) or "tests and examples"
                complaints.append(f"{module.file}:{found.line} {top} belongs only in {where}")
    return complaints


def imports_in_functions(modules: Iterable[Module]) -> list[str]:
    """Complaints about imports that stand inside functions, or are made by calls."""
    inside = [
        f"{module.file}:{found.line} {found.inside}() imports {found.module}; imports stand at the top"
        for module in modules
        for found in module.imports
        if found.inside
    ]
    called = [
        f"{module.file}:{node.lineno} {ast.unparse(node.func)}() imports by name; imports are static"
        for module in modules
        if module.name != LOADER
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"__import__", "import_module"}
    ]
    return inside + called


def cycles(modules: Collection[Module]) -> list[str]:
    """Groups of modules that import each other, imports for type checkers included."""
    names = {module.name for module in modules}
    edges = {
        module.name: {target for found in module.imports if (target := resolve(found, names)) in names}
        for module in modules
    }
    reached = {name: _reachable(name, edges) for name in edges}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other]) for name in edges if name in reached[name]
    }
    return sorted("import cycle: " + ", ".join(sorted(group)) for group in groups)


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += edges[name]
    return found
