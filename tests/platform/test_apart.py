"""The data plane stays small: nothing of the store and the API is in it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("sqlalchemy", "alembic", "aiosqlite", "asyncpg", "fastapi", "starlette", "uvicorn", "httpx", "jinja2")
LOADED = f"""
import sys
import moongate.cli.main, moongate.cli.serving, moongate.runtime
print([name for name in {HEAVY!r} + ("moongate.store", "moongate.console") if name in sys.modules])
"""


def test_the_data_plane_loads_no_database_and_no_web_framework() -> None:
    """Whatever `moongate serve` imports."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout == "[]\n"
