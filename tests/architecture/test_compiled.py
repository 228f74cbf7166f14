"""What is compiled keeps to the rules of decision 018, by reading it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator

from tests.architecture.rules import ROOT

COMPILED: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["moongate"]["compiled"]
_WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


def waits_in_handlers(tree: ast.AST) -> Iterator[int]:
    """Lines where a coroutine or generator is left while an exception is being handled."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            handled = [*node.handlers, *node.finalbody]
            yield from (inner.lineno for part in handled for inner in ast.walk(part) if isinstance(inner, _WAITS))


def test_nothing_waits_while_an_exception_is_handled() -> None:
    """Compiled, another coroutine that runs meanwhile would leave a broken exception behind: the process crashes."""
    found = [
        f"{name}:{line}"
        for name in COMPILED
        for line in waits_in_handlers(ast.parse((ROOT / "src" / name).read_text("utf-8")))
    ]
    assert found == []


def test_the_check_bites() -> None:
    """On both kinds of blocks, and only there."""
    lines = ("async def f():", " try:", "  await a()", " except E:", "  await b()", " finally:", "  await c()")
    bad = "\n".join(lines)
    assert list(waits_in_handlers(ast.parse(bad))) == [5, 7]
