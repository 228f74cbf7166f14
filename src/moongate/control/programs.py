"""Whether the programs of hosted servers are there: the one part of judging a configuration that looks at this machine.

What it finds are warnings. A program may still come (a disk that is not mounted yet, a tool that is installed later),
and one server that cannot start must not keep the others from being served.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from moongate.control.environment import is_ordinary
from moongate.control.files import Documents
from moongate.control.nodes import scalars
from moongate.errors import Complaint
from moongate.model.snapshot import Command, Snapshot

# A shorter value may stand in any word of a warning.
_MIN_INSERTED = 4


def judge_programs(snapshot: Snapshot, documents: Documents, environ: Mapping[str, str]) -> Snapshot:
    """The snapshot with a warning for each program or folder that is not there. `environ`: the gateway's own."""
    inserted = {
        value: f"(value of ${{{variable}}})"
        for scalar in scalars(documents.root)
        for variable, value in scalar.inserted
        if len(value) >= _MIN_INSERTED and not is_ordinary(variable)
    }

    def show(text: str) -> str:
        """What came from the environment is named, not shown."""
        for value, name in inserted.items():
            text = text.replace(value, name)
        return repr(text)

    warnings = [
        str(Complaint(command.where, f"{command.name}: {text}"))
        for command in _commands(snapshot)
        for text in _faults(command, environ, show)
    ]
    return replace(snapshot, warnings=(*snapshot.warnings, *warnings))


def _commands(snapshot: Snapshot) -> list[Command]:
    """Each once, in the order in which they were written."""
    routes = [route for bind in snapshot.binds for listener in bind.listeners for route in listener.routes]
    return list(
        {(route.key, route.where): route.target for route in routes if isinstance(route.target, Command)}.values()
    )


def _faults(command: Command, environ: Mapping[str, str], show: Callable[[str], str]) -> Iterator[str]:
    folder = Path(command.cwd or ".")
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        yield f"the folder {show(str(folder))} {kind}; the server cannot run in it"
        return
    program = command.argv[0]
    name = f"the program {show(program)}"
    file = folder / program
    found = file.exists() if "/" in program else _on_path(command, environ, folder)
    if not found and " " in program:
        # The rest is not shown: it may hold secrets.
        first = show(program.partition(" ")[0])
        yield f"there is no program of this name with spaces; write {first} and put the rest into args"
    elif "/" not in program:
        if not found:
            yield f"{name} is not found on the PATH; install it, or write its whole path"
    elif not found:
        yield f"{name} does not exist"
    elif file.is_dir():
        yield f"{name} is a folder"
    elif not os.access(file, os.X_OK):
        yield f"{name} cannot be executed; make it executable, or write its interpreter here and the file into args"


def _on_path(command: Command, environ: Mapping[str, str], folder: Path) -> bool:
    """Looked up as at a start: on the server's own PATH, or else the gateway's; relative parts from its folder."""
    path = dict(command.env).get("PATH") or environ.get("PATH") or os.defpath
    return any(shutil.which(folder / place / command.argv[0]) for place in path.split(os.pathsep) if place)
