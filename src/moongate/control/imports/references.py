"""The ways in which clients write a variable, as `${NAME}`, which is ours.

Claude Code and others: `${NAME}`, `${NAME:-otherwise}`. Cursor and VS Code: `${env:NAME}`, `${userHome}`. VS Code:
`${input:id}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BARE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_NOT_IN_VARIABLES = re.compile(r"[^A-Za-z0-9]+")


def variable(words: str) -> str:
    """A name for a variable, made of words: `GITHUB_TOKEN` of `github-token`."""
    name = _NOT_IN_VARIABLES.sub("_", words).strip("_").upper()
    return name if name and not name[0].isdigit() else f"_{name}"


def ours(value: Any, say: Callable[[str], None], lose: Callable[[str], None]) -> Any:
    """A value with all references in our spelling, at any depth. `say` hears what changes, `lose` what is lost."""
    if isinstance(value, dict):
        return {key: ours(inner, say, lose) for key, inner in value.items()}
    if isinstance(value, list):
        return [ours(inner, say, lose) for inner in value]
    return _REFERENCE.sub(lambda match: _one(match, say, lose), value) if isinstance(value, str) else value


def _one(match: re.Match[str], say: Callable[[str], None], lose: Callable[[str], None]) -> str:
    inner: str | None = match[1]
    if inner is None:
        return match[0]
    name, dash, _ = inner.partition(":-")
    kind, _, rest = inner.partition(":")
    if dash and _NAME.match(name):
        lose(f"${{{name}}} has a value for when it is not set, which is not taken over; set the variable")
        return f"${{{name}}}"
    if _NAME.match(inner):
        if inner == "userHome":
            return "${HOME}"
        if inner in {"workspaceFolder", "workspaceFolderBasename", "cwd", "pathSeparator"}:
            lose(f"${{{inner}}} is the editor's and means nothing here; write the path itself")
            return "$" + match[0]
        return match[0]
    if kind == "env" and _NAME.match(rest):
        return f"${{{rest}}}"
    if kind == "input":
        name = variable(rest)
        say(f"the editor asks for ${{{inner}}}; it is the variable {name} now")
        return f"${{{name}}}"
    lose(f"${{{kind}{':...' if rest else ''}}} means nothing here; the text stands as it is")
    return "$" + match[0]


def bare(value: Any) -> Any:
    """`$NAME` as `${NAME}`, at any depth: for programs that read it as shells do."""
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [bare(inner) for inner in value]
    return _BARE.sub(r"${\1}", value) if isinstance(value, str) else value


def literal(value: Any) -> Any:
    """A value from a file that has no variables: whatever stands there is meant."""
    if isinstance(value, dict):
        return {key: literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [literal(inner) for inner in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def names(value: Any) -> list[str]:
    """The variables that a value needs, each once, in order."""
    found: dict[str, None] = {}
    waiting = [value]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, dict):
            waiting = [*item.values(), *waiting]
        elif isinstance(item, list):
            waiting = [*item, *waiting]
        elif isinstance(item, str):
            found.update(dict.fromkeys(match[1] for match in _REFERENCE.finditer(item) if match[1]))
    return list(found)
