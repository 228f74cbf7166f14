"""`python -m moongate` is the `moongate` command."""

from __future__ import annotations

from moongate.cli.main import run

if __name__ == "__main__":
    run()
