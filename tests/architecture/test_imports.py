"""Packages import only what the table allows, at the top of the file, without cycles."""

from __future__ import annotations

import pytest

from moongate.cli.lazy import LOCAL, VERBS
from tests.architecture.imports import cycles, imports_against_table, imports_in_functions, outside_imports
from tests.architecture.rules import MAY_IMPORT
from tests.architecture.source import Module, module_from, read_modules
from tests.architecture.verdict import expect_none

SOURCE = read_modules("src")

FRAGMENTS = (
    module_from(
        '"""Headers."""\nclass HeaderModifier(PolicyConfig): ...\nclass Judge: ...\n', "moongate.policies.headers"
    ),
    module_from('"""Query."""\n', "moongate.audit.query"),
    module_from('"""Journal."""\n', "moongate.audit.journal"),
    module_from('"""Snapshot."""\n', "moongate.model.snapshot"),
)


def test_there_is_something_to_read() -> None:
    """The checks below would pass on nothing at all."""
    assert {"errors", "model", "wire"} <= {module.place for module in SOURCE}


def test_imports_follow_the_table() -> None:
    """Who imports whom is what the table says."""
    expect_none(imports_against_table(SOURCE))


def test_libraries_stay_where_they_belong() -> None:
    """Protocol knowledge does no I/O; httptools, pydantic, typer and the SDK have one home each."""
    expect_none(outside_imports(SOURCE))


def test_imports_stand_at_the_top() -> None:
    """No import inside a function, none by name."""
    expect_none(imports_in_functions(SOURCE))


def test_what_is_imported_by_name_is_there() -> None:
    """The table of verbs names modules of the command line, and each has an `app`."""
    apps = {module.name for module in SOURCE if module.place == "cli" and "\napp = " in module.text}

    assert {verb.module for verb in VERBS.values()} - apps == set()
    assert [module.place for module in SOURCE if module.name == LOCAL] == ["platform_process"]


def test_there_are_no_cycles() -> None:
    """No module needs itself."""
    expect_none(cycles(SOURCE))


def complaints(text: str, name: str) -> list[str]:
    """What the table says to a module with this text, beside the fragments."""
    return imports_against_table([*FRAGMENTS, module_from(text, name)])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("moongate.errors", "import moongate.model"),
        ("moongate.wire.server", "from moongate.protocol import jsonrpc"),
        ("moongate.wire.server", "from moongate.protocol.jsonrpc import parse"),
        ("moongate.wire.server", "from moongate import protocol"),
        ("moongate.wire.server", "def f():\n    import moongate.proxy.handle"),
        ("moongate.wire.server", "if TYPE_CHECKING:\n    from moongate.model.snapshot import Snapshot"),
        ("moongate.wire.server", "from ..model.snapshot import Snapshot"),
        ("moongate.wire.server", "from ..model import snapshot"),
        ("moongate.wire.server", "from .. import model"),
        ("moongate.policies.acl", "from moongate.audit.journal import Journal"),
        ("moongate.console.pages", "from moongate.audit.journal import Journal"),
        ("moongate.console.pages", "from moongate.audit import journal"),
        ("moongate.control.compile", "from moongate.policies.headers import Judge"),
        ("moongate.control.compile", "from moongate.policies import headers"),
        ("moongate.control.compile", "import moongate.policies.headers"),
        ("moongate.cli.main", "from moongate.proxy.handle import handle"),
        ("moongate.utils", "import json"),
        ("moongate.utils.text", "import json"),
    ],
)
def test_the_table_bites(name: str, text: str) -> None:
    """Each forbidden import is found, in every spelling and wherever it stands."""
    assert len(complaints(text, name)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("moongate.model.exchange", "from moongate.errors import FailureClass"),
        ("moongate.wire.server", "from moongate.wire.messages import Request\nfrom .tls import context"),
        ("moongate.proxy.handle", "from moongate.upstreams.http import HttpUpstream\nimport moongate.audit.journal"),
        ("moongate.control.compile", "from moongate.policies.headers import HeaderModifier"),
        ("moongate.console.pages", "from moongate.audit.query import find\nfrom moongate.audit import query"),
        ("moongate.runtime", "from moongate.proxy.handle import handle\nfrom moongate.control.files import read"),
        ("moongate.__main__", "from moongate.cli.main import run"),
    ],
)
def test_the_table_lets_pass_what_it_allows(name: str, text: str) -> None:
    """Allowed imports bring no complaint."""
    assert complaints(text, name) == []


def test_the_table_has_no_unknown_names() -> None:
    """A mistyped package in the table would allow nothing and hide that."""
    named = {entry.split(".")[0].split(":")[0] for allowed in MAY_IMPORT.values() for entry in allowed}

    assert named - {"*"} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("moongate.protocol.jsonrpc", "import asyncio"),
        ("moongate.protocol.jsonrpc", "def f():\n    from asyncio.tasks import Task"),
        ("moongate.proxy.handle", "import httptools"),
        ("moongate.wire.server", "from pydantic import BaseModel"),
        ("moongate.runtime", "from mcp.types import Tool"),
    ],
)
def test_libraries_out_of_place_are_found(name: str, text: str) -> None:
    """A library outside its home is a complaint."""
    assert len(outside_imports([module_from(text, name)])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import json",
        "class A:\n    async def f(self):\n        if self:\n            from json import loads",
        'importlib.import_module("json")',
        '__import__("json")',
    ],
)
def test_hidden_imports_are_found(text: str) -> None:
    """Imports in functions and imports by name are complaints."""
    assert len(imports_in_functions([module_from(text)])) == 1


def test_imports_for_type_checkers_may_stand_in_their_block() -> None:
    """`if TYPE_CHECKING` at the top of a file is no function."""
    assert imports_in_functions([module_from("if TYPE_CHECKING:\n    import json")]) == []


def ring(*names: str) -> list[Module]:
    """Modules of which each imports the next, and the last one the first."""
    following = [*names[1:], names[0]]
    return [
        module_from(f"from moongate.wire.{b} import x", f"moongate.wire.{a}")
        for a, b in zip(names, following, strict=True)
    ]


def test_cycles_are_found() -> None:
    """Two, three and one modules in a ring are told once each; a chain is none."""
    assert cycles(ring("a", "b")) == ["import cycle: moongate.wire.a, moongate.wire.b"]
    assert cycles(ring("a", "b", "c")) == ["import cycle: moongate.wire.a, moongate.wire.b, moongate.wire.c"]
    assert cycles(ring("a")) == ["import cycle: moongate.wire.a"]
    assert cycles(ring("a", "b")[:1]) == []
