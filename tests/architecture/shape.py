"""Sizes, docstrings, handlers and tasks: what a module may look like."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator

from tests.architecture import rules
from tests.architecture.source import Definition, Function, Module


def sizes(modules: Iterable[Module]) -> list[str]:
    """Complaints about modules, classes, functions and parameter lists over their budgets."""
    complaints: list[str] = []
    for module in modules:
        lines = len(module.text.splitlines())
        if lines > rules.MODULE_LINES:
            complaints.append(f"{module.file}: {lines} lines, allowed are {rules.MODULE_LINES}")
        for definition in module.definitions:
            complaints += [f"{module.file}:{definition.node.lineno} {text}" for text in _too_big(definition)]
    return complaints


def _too_big(definition: Definition) -> Iterator[str]:
    is_function = isinstance(definition.node, Function)
    limit = rules.FUNCTION_LINES if is_function else rules.CLASS_LINES
    if definition.lines > limit:
        yield f"{definition.qualname} has {definition.lines} lines, allowed are {limit}"
    count = parameters(definition)
    if count > rules.PARAMETERS:
        yield f"{definition.qualname} has {count} parameters, allowed are {rules.PARAMETERS}"


def parameters(definition: Definition) -> int:
    """How many parameters a function has; `self` and `cls` do not count."""
    if not isinstance(definition.node, Function):
        return 0
    arguments = definition.node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    count = len(every) + (arguments.vararg is not None) + (arguments.kwarg is not None)
    static = any(ast.unparse(decorator) == "staticmethod" for decorator in definition.node.decorator_list)
    return count - (1 if definition.method and not static and every else 0)


def percentile95(modules: Iterable[Module]) -> int:
    """The length that 95 of 100 functions do not exceed."""
    lengths = sorted(
        definition.lines
        for module in modules
        for definition in module.definitions
        if isinstance(definition.node, Function)
    )
    return lengths[math.ceil(len(lengths) * 0.95) - 1] if lengths else 0


def package_doors(modules: Iterable[Module]) -> list[str]:
    """Complaints about `__init__` files that hold anything but a docstring."""
    return [
        f"{module.file}: a package's __init__ holds its docstring and nothing else"
        for module in modules
        if module.is_package and (ast.get_docstring(module.tree) is None or len(module.tree.body) != 1)
    ]


def docstrings(modules: Iterable[Module]) -> list[str]:
    """Complaints about modules, public classes and functions, and methods of interfaces without a docstring."""
    complaints = []
    for module in modules:
        if ast.get_docstring(module.tree) is None:
            complaints.append(f"{module.file}: no docstring")
        of_interfaces = {name for definition in module.definitions for name in _interface_methods(definition)}
        for definition in module.definitions:
            needed = definition.public and (not definition.method or definition.qualname in of_interfaces)
            if needed and ast.get_docstring(definition.node) is None:
                complaints.append(f"{module.file}:{definition.node.lineno} {definition.qualname} has no docstring")
    return complaints


def _interface_methods(definition: Definition) -> set[str]:
    """What an interface asks for; its only method and its properties are explained by the class's own docstring."""
    node = definition.node
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    if not any(ast.unparse(base).split("[")[0].split(".")[-1] in {"Protocol", "ABC"} for base in bases):
        return set()
    methods = {
        f"{definition.qualname}.{child.name}"
        for child in node.body
        if isinstance(child, Function) and "property" not in map(ast.unparse, child.decorator_list)
    }
    return methods if len(methods) > 1 else set()


def sentences_of_tests(modules: Iterable[Module]) -> list[str]:
    """Complaints about tests that do not say in a sentence what they show."""
    return [
        f"{module.file}:{definition.node.lineno} {definition.qualname} has no docstring"
        for module in modules
        for definition in module.definitions
        if isinstance(definition.node, Function) and definition.public
        if definition.node.name.startswith("test_") and ast.get_docstring(definition.node) is None
    ]


def global_statements(modules: Iterable[Module]) -> list[str]:
    """Complaints about `global`."""
    return [
        f"{module.file}:{node.lineno} global {', '.join(node.names)}: values arrive by constructor"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]


def loose_tasks(modules: Iterable[Module]) -> list[str]:
    """Complaints about tasks made anywhere but in the one module that owns them."""
    return [
        f"{module.file}:{node.lineno} {node.attr}: tasks are made by {rules.TASK_HOME}, which names and owns them"
        for module in modules
        if module.name != rules.TASK_HOME
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"create_task", "ensure_future"}
    ]


def broad_handlers(modules: Iterable[Module]) -> set[tuple[str, str]]:
    """File and function of each place that swallows everything. A handler that ends by raising again is fine."""
    return {
        (module.file, module.qualname_at(node.lineno))
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler | ast.Call) and _swallows(node)
    }


def _swallows(node: ast.ExceptHandler | ast.Call) -> bool:
    if isinstance(node, ast.Call):
        suppresses = ast.unparse(node.func) in {"suppress", "contextlib.suppress"}
        return suppresses and any(_is_broad(argument) for argument in node.args)
    last = node.body[-1]
    return _is_broad(node.type) and not (isinstance(last, ast.Raise) and last.exc is None)


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    names = {ast.unparse(kind).split(".")[-1] for kind in kinds}
    return not names.isdisjoint({"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"})


def package_maps(modules: Iterable[Module]) -> list[str]:
    """Complaints about modules and packages that the map at their package's door does not name."""
    every = list(modules)
    doors = {
        module.name: ast.get_docstring(module.tree) or ""
        for module in every
        if module.is_package and module.name != rules.PACKAGE and "migrations" not in module.name
    }
    complaints = []
    for module in every:
        package, _, name = module.name.rpartition(".")
        if package in doors and name != "migrations" and f"`{name}`" not in doors[package]:
            complaints.append(f"{module.file}: the map of {package} does not name `{name}`")
    return complaints
