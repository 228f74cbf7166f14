"""The process that carries requests stays small."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("alembic", "asyncpg", "fastapi", "httpx", "sqlalchemy", "uvicorn")


def test_the_data_plane_loads_nothing_of_the_second_process() -> None:
    """No database, no web framework: it must run when those cannot, and cost no memory for them."""
    code = f"import moongate.cli.main, moongate.runtime, sys; print([name for name in {HEAVY} if name in sys.modules])"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert shown.stdout == "[]\n"
