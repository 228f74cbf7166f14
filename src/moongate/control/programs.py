"""Whether the programs of hosted servers are there: the one part of judging a configuration that looks at this machine.

What it finds are warnings. A program may still come (a disk that is not mounted yet, a tool that is installed later),
and one server that cannot start must not keep the others from being served.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from moongate.control.environment import is_ordinary
from moongate.control.files import Documents
from moongate.control.nodes import scalars, shown
from moongate.errors import Complaint
from moongate.model.snapshot import Command, Snapshot

# A shorter value may stand in any word of a warning.
_MIN_INSERTED = 4


def judge_programs(snapshot: Snapshot, documents: Documents, environ: Mapping[str, str]) -> Snapshot:
    """The snapshot with a warning for each program or folder that is not there. `environ`: the gateway's own."""
    warnings = [
        str(Complaint(command.where, _without_inserted(text, documents)))
        for command in _commands(snapshot)
        for text in _faults(command, environ)
    ]
    return replace(snapshot, warnings=(*snapshot.warnings, *warnings))


def _commands(snapshot: Snapshot) -> list[Command]:
    """Each once, in the order in which they were written."""
    routes = [route for bind in snapshot.binds for listener in bind.listeners for route in listener.routes]
    return list(
        {(route.key, route.where): route.target for route in routes if isinstance(route.target, Command)}.values()
    )


def _faults(command: Command, environ: Mapping[str, str]) -> Iterator[str]:
    folder = Path(command.cwd or ".")
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        yield f"{command.name}: the folder {shown(str(folder))} {kind}; the server cannot run in it"
        return
    program = command.argv[0]
    name = f"{command.name}: the program {shown(program)}"
    if "/" not in program:
        path = os.get_exec_path(_path_variable(command, environ))
        if not any(shutil.which(folder / place / program) for place in path):
            yield _not_found(command.name, program, "is not found on the PATH; install it, or write its whole path")
        return
    file = folder / program
    if file.is_dir():
        yield f"{name} is a folder"
    elif not file.exists():
        yield _not_found(command.name, program, "does not exist")
    elif not os.access(file, os.X_OK):
        yield f"{name} cannot be executed; make it executable, or write its interpreter here and the file into args"


def _path_variable(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    """PATH as the server will have it."""
    own = dict(command.env)
    inherited = {} if command.clear_env or "PATH" in command.withheld else environ
    return {name: own.get(name, inherited.get(name, "")) for name in ("PATH",) if name in own or name in inherited}


def _not_found(name: str, program: str, reason: str) -> str:
    first, space, _ = program.partition(" ")
    if space:
        # The rest is not shown: it may hold secrets.
        return f"{name}: there is no program of this name with spaces; write {shown(first)} and put the rest into args"
    return f"{name}: the program {shown(program)} {reason}"


def _without_inserted(text: str, documents: Documents) -> str:
    """What came from the environment is named, not shown."""
    for scalar in scalars(documents.root):
        for variable, value in scalar.inserted:
            if len(value) >= _MIN_INSERTED and not is_ordinary(variable):
                text = text.replace(value, f"(value of ${{{variable}}})")
    return text
