"""How long "within a second" is on a machine that is busy with other things."""

from __future__ import annotations

import os
from pathlib import Path

_PRESSURE = Path("/proc/pressure/cpu")
# Shares of time (%) in which somebody waited for a core, over the last ten seconds.
_CALM = 25.0


def second() -> float:
    """1.0, as promised, where there is a core to be had; more where processes queue for one, whatever they do."""
    return 1.0 if _waiting() <= _CALM else 4.0


def _waiting() -> float:
    try:
        some = _PRESSURE.read_text("ascii").partition("avg10=")[2]
        return float(some.partition(" ")[0])
    except (OSError, ValueError):
        return 100.0 if os.getloadavg()[0] > (os.cpu_count() or 1) else 0.0
