"""The rules, as data."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "moongate"

# What finds, shows and judges records; the journal is the data plane's.
_RECORDS = ("chain", "export", "meanings", "query", "redact", "status", "tail", "verify")
READS_RECORDS = {f"audit.{module}" for module in _RECORDS}

# What builds objects and joins the planes.
BUILD = {"runtime", "companion", "connecting", "explaining", "platform_process"}

# Package, or module beside the packages -> what of Moongate it may import besides itself. Whatever is not named here is
# forbidden. "audit.query" allows one module of a package; "policies:config" allows the configuration classes of a
# package and nothing else of it; "*" is everything.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "tasks": {"errors"},
    "model": {"errors"},
    "telemetry": {"model", "errors"},
    "wire": {"errors", "tasks"},
    "protocol": {"model", "errors"},
    "policies": {"model", "protocol", "errors", "tasks"},
    "store": {"errors", "tasks"},
    "audit": {"model", "protocol", "store", "errors", "tasks"},
    "upstreams": {"model", "protocol", "wire", "errors", "tasks"},
    "proxy": {"model", "wire", "protocol", "policies", "audit", "upstreams", "errors", "tasks"},
    "control": {"model", "store", "errors", "tasks", "policies:config", "upstreams:config", "audit.redact"},
    "console": {"control", "store", "model", "errors", "tasks", *READS_RECORDS},
    "cli": {"control", "audit", "errors", "tasks", *BUILD},
    "__main__": {"cli", "control", "audit.query", "runtime", "errors"},
    "runtime": {"*"},
    "connecting": {"*"},
    "explaining": {"*"},
    "reporting": {"*"},
    "companion": {"control", "model", "errors", "tasks"},
    "platform_process": {"*"},
    "probing": {"*"},
    "testing": {"*"},
}

# Package -> modules from outside that it must not import, with the reason.
NEVER: dict[str, dict[str, str]] = {
    "protocol": dict.fromkeys(
        ("asyncio", "uvloop", "httptools", "socket", "ssl", "selectors", "threading", "subprocess"),
        "protocol knowledge does no input or output, so that every test of it is synchronous",
    ),
    "model": dict.fromkeys(("asyncio", "uvloop", "httptools", "socket", "pydantic"), "the vocabulary does nothing"),
}

# Module from outside -> the only packages that may import it.
ONLY_IN: dict[str, set[str]] = {
    "httptools": {"wire"},
    "mcp": set(),  # the SDK decodes every message; it is for tests and examples
    "pydantic": {"control", "console"},
    "typer": {"cli"},
    # The data plane is small, and runs when the database is away.
    "sqlalchemy": {"store", "control", "audit", "console", "platform_process"},
    "alembic": {"store"},
    "fastapi": {"console"},
    "jinja2": {"console"},
    "markupsafe": {"console"},
    "uvicorn": {"platform_process", "console"},
}

# Lines and counts. They are only ever lowered.
MODULE_LINES = 500
FUNCTION_LINES = 60
FUNCTION_LINES_P95 = 40
CLASS_LINES = 300
PARAMETERS = 6

# Where create_task may be called: everywhere else a task would have no name and no owner.
TASK_HOME = "moongate.tasks"

# The only module that imports by name, and only what its table VERBS names: a verb that is not
# called must not cost the gateway's process its memory.
LOADER = "moongate.cli.lazy"
