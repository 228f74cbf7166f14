"""`${NAME}` in string values: replaced after parsing, so that a value can never bring structure along."""

from __future__ import annotations

import re
from collections.abc import Mapping as Environment

from moongate.control.nodes import Mapping, Node, Scalar, Sequence
from moongate.errors import Complaint

# `$${` is a literal `${`. A `$` that no brace follows is just a `$`.
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

# What every program may know; these are not secrets, and few programs run without them.
_ORDINARY = frozenset(
    {"HOME", "HOSTNAME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "PWD", "SHELL", "TEMP", "TERM", "TMP", "TMPDIR", "TZ"}
    | {"USER"}
)
_ORDINARY_BEGINNINGS = ("LC_", "XDG_")


def is_ordinary(name: str) -> bool:
    """Whether a variable is one of those that describe the user and the machine, and is nobody's secret."""
    return name in _ORDINARY or name.startswith(_ORDINARY_BEGINNINGS)


def expand(root: Node, env: Environment[str, str]) -> list[Complaint]:
    """Replace every reference below `root`, in place; the complaints are about unset and malformed ones."""
    complaints: list[Complaint] = []
    waiting: list[Node] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            waiting.extend(entry.node for entry in reversed(node.entries.values()))
        elif isinstance(node, Sequence):
            waiting.extend(reversed(node.items))
        elif isinstance(node.value, str) and "${" in node.value:
            complaints.extend(_expand_scalar(node, node.value, env))
    return complaints


def _expand_scalar(scalar: Scalar, text: str, env: Environment[str, str]) -> list[Complaint]:
    names: list[str] = []
    problems: list[str] = []

    def substitute(match: re.Match[str]) -> str:
        name = match.group(1)
        if match.group(0) == "$${":
            return "${"
        if name is None or not _NAME.match(name):
            problems.append("a reference to an environment variable is written ${NAME}; write $${ for a literal ${")
            return ""
        names.append(name)
        if name not in env:
            problems.append(
                f"${{{name}}}: this environment variable is not set; set it, or write $${{{name}}} for the literal text"
            )
            return ""
        return env[name]

    whole = _REFERENCE.fullmatch(text) is not None and text != "$${"
    scalar.value = _REFERENCE.sub(substitute, text)
    scalar.references = tuple(dict.fromkeys(names))
    scalar.inserted = tuple((name, env[name]) for name in scalar.references if name in env)
    scalar.whole = whole
    scalar.broken = bool(problems)
    return [Complaint(str(scalar.place), problem) for problem in dict.fromkeys(problems)]
