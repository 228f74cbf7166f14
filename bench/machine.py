"""On what it was measured, and how busy the two cores were with other things meanwhile."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench import hosted
from bench.processes import tool

_TICKS = os.sysconf("SC_CLK_TCK")


def description() -> list[tuple[str, str]]:
    """Give what a reader needs to compare figures: name and value pairs."""
    versions = [f"{name} {_version(name)}" for name in ("moongate", "uvloop", "httptools", "msgspec")]
    return [
        ("CPU", f"{_cpu_model()}, {os.cpu_count()} cores"),
        ("Memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        ("Kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Moongate", "compiled" if _is_compiled() else "not compiled: the sources as they stand"),
        ("Packages", ", ".join(versions)),
        ("Tools", f"nginx {_tool_version('nginx')}, wrk {_tool_version('wrk')}"),
        ("Beside it", ", ".join(hosted.versions())),
        ("Date", time.strftime("%Y-%m-%d", time.gmtime())),
    ]


def _is_compiled() -> bool:
    found = importlib.util.find_spec("moongate.telemetry")
    return found is not None and not str(found.origin).endswith(".py")


@dataclass(frozen=True, slots=True)
class Clock:
    """Processor time at one moment: of the cores (busy and stolen by other machines) and of the benchmark itself."""

    at: float
    busy: float
    stolen: float
    own: float

    @classmethod
    def read(cls, chosen: tuple[int, ...]) -> Clock:
        """Read it for the chosen cores."""
        names = {f"cpu{core}" for core in chosen}
        lines = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
        rows = [[int(field) for field in line[1:9]] for line in lines if line[0] in names]
        # user nice system idle iowait irq softirq steal
        busy = sum(sum(row[:3]) + sum(row[5:7]) for row in rows) / _TICKS
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        return cls(time.monotonic(), busy, sum(row[7] for row in rows) / _TICKS, own)


def foreign_share(before: Clock, after: Clock, count: int) -> tuple[float, float]:
    """Give the shares of `count` cores that other processes used, and that other machines took (all children ended)."""
    room = (after.at - before.at) * count
    foreign = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, foreign / room), (after.stolen - before.stolen) / room


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "from source"


def _tool_version(name: str) -> str:
    done = subprocess.run([tool(name), "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"(?:nginx/|wrk (?:debian/)?)(\S+)", done.stderr + done.stdout)
    return found.group(1) if found else "unknown"
