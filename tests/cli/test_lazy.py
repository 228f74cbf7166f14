"""A verb costs nothing until it is called."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from moongate.cli.lazy import VERBS, load
from moongate.cli.main import app

OTHERS = ("rich", "httpx", "sqlalchemy", "fastapi", "alembic", "uvicorn", "asyncpg", "aiosqlite")


def loaded(code: str) -> set[str]:
    """The modules that a program has in the end."""
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


def test_the_group_alone_loads_no_verb() -> None:
    """`--help`, `--version` and a misspelt verb are there at once."""
    found = loaded("import moongate.cli.main")

    assert {name for name in found if name.startswith("moongate")} == {
        "moongate",
        "moongate.cli",
        "moongate.cli.lazy",
        "moongate.cli.main",
    }


def test_serve_loads_nothing_of_the_other_verbs() -> None:
    """It runs for months."""
    found = loaded("import moongate.cli.main; from moongate.cli.lazy import load; load('serve')")

    assert "moongate.runtime" in found
    assert found & {*OTHERS, *(verb.module for name, verb in VERBS.items() if name != "serve")} == set()


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_of_the_table_is_there(name: str) -> None:
    """Its help works and begins as its own module says."""
    assert load(name) is not None
    said = CliRunner().invoke(app, [name, "--help"], env={"NO_COLOR": "1", "COLUMNS": "200"})

    assert said.exit_code == 0, said.output
    assert f"Usage: moongate {name}" in said.output.replace("root", "moongate")


def test_a_misspelt_verb_is_guessed() -> None:
    """Also one that is not loaded."""
    said = CliRunner().invoke(app, ["instnace"], env={"NO_COLOR": "1"})

    assert said.exit_code == 2
    assert "Did you mean 'instance'" in said.output
