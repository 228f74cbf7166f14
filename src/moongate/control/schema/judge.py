"""A tree of nodes against the models: the model, or every complaint in the operator's words."""

from __future__ import annotations

import difflib
import types
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from moongate.control.nodes import Found, Loc, Mapping, broken, cut_key, describe, dotted, find, plain, prune
from moongate.control.schema.document import Document
from moongate.control.schema.values import REFUSED, Strict
from moongate.errors import Complaint

# Keys of other programs' files, and what is meant here.
_MEANT = {
    "command": "cmd",
    "serverUrl": "url",
    "httpUrl": "url",
    "baseUrl": "url",
    "endpoint": "url",
    "servers": "mcpServers",
    "mcp_servers": "mcpServers",
    "cmd": "command",
    "environment": "env",
    "arguments": "args",
    "workingDirectory": "cwd",
    "working_dir": "cwd",
    "connectTimeout": "timeout",
    "requestTimeout": "timeout",
}
_TYPES = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
}
# Complaints inside one of these hide nothing of the rest: the unit is left out, and everything else is judged on.
_UNITS = (
    ("mcpServers", str),
    ("gateway", "tokens", int),
    ("gateway", str),
    ("binds", int, "listeners", int, "routes", int),
    ("binds", int, "listeners", int),
    ("binds", int),
)


def judge(root: Mapping) -> tuple[Document | None, Mapping, list[Complaint]]:
    """The model of what is right, the tree it was made from (without what is wrong), and all complaints.

    The model is None only if nothing sensible is left.
    """
    document, locs, complaints = _validate(root)
    rejected = locs + list(broken(root))
    if not rejected:
        return document, root, complaints
    rest = prune(root, [unit for unit in map(_unit, rejected) if unit])
    document, _, _ = _validate(rest)
    return document, rest, complaints


def _validate(root: Mapping) -> tuple[Document | None, list[Loc], list[Complaint]]:
    try:
        return Document.model_validate(plain(root)), [], []
    except ValidationError as failure:
        errors = failure.errors(include_url=False, include_input=False)
    meant = {(*error["loc"][:-1], _meant(error["loc"])) for error in errors if error["type"] == "extra_forbidden"}
    said = [error for error in errors if not (error["loc"] in meant and find(root, error["loc"]).node is None)]
    complaints = [complaint for error in said if (complaint := _complaint(root, error)) is not None]
    return None, [error["loc"] for error in errors], list(dict.fromkeys(complaints))


def _unit(loc: Loc) -> Loc:
    """The part of the tree that is left out because of a complaint at `loc`."""
    for shape in _UNITS:
        head = loc[: len(shape)]
        if len(head) == len(shape) and all(
            isinstance(step, part) if isinstance(part, type) else step == part
            for step, part in zip(head, shape, strict=True)
        ):
            return head
    return loc[:1]


def _complaint(root: Mapping, error: ErrorDetails) -> Complaint | None:
    loc: Loc = error["loc"]
    context = error.get("ctx", {})
    is_key = loc[-1:] == ("[key]",)
    loc = loc[:-1] if is_key else loc
    if context.get("key"):
        loc = (*loc, context["key"])
    found = find(root, loc)
    if found.broken:
        return None
    what = repr(cut_key(str(loc[-1]))) if is_key else describe(found.node, loc)
    text = _unknown_key(loc) if error["type"] == "extra_forbidden" else _reason(error, found).replace("{found}", what)
    return Complaint(str(found.place), text if error["type"] == "extra_forbidden" else f"{dotted(loc)}: {text}")


def _reason(error: ErrorDetails, found: Found) -> str:
    kind = error["type"]
    context = error.get("ctx", {})
    if kind == REFUSED:
        return str(context["text"])
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return f"must be {str(context['expected']).replace(chr(39), '')}, found {{found}}"
    text = _TYPES.get(kind)
    if text is None:
        return f"{error['msg']}, found {{found}}"
    number = isinstance(getattr(found.node, "value", None), int | float)
    return text + ", found {found}" + ("; put it in quotes" if kind == "string_type" and number else "")


def _unknown_key(loc: Loc) -> str:
    key, parent = str(loc[-1]), loc[:-1]
    model = model_at(parent)
    allowed = sorted(aliases(model)) if model else []
    where = f" in {dotted(parent)}" if parent else ""
    listed = f"allowed: {', '.join(allowed)}" if allowed else "it must be empty"
    if model and key in model.not_yet:
        return f"{cut_key(key)!r}{where} is not supported yet; {listed}"
    near = _meant(loc)
    meant = f"; did you mean {near!r}?" if near else ";"
    return f"unknown key {cut_key(key)!r}{where}{meant} {listed}"


def _meant(loc: Loc) -> str | None:
    """The key that an unknown one was probably meant to be."""
    key, model = str(loc[-1]), model_at(loc[:-1])
    allowed = sorted(aliases(model)) if model else []
    near = _MEANT.get(key)
    return near if near in allowed else nearest(key, allowed)


def nearest(name: str, known: list[str]) -> str | None:
    """The known name that was probably meant; case does not count."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def aliases(model: type[Strict]) -> dict[str, str]:
    """The keys of a block as they are written, and the names of their fields."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def model_at(loc: Loc) -> type[Strict] | None:
    """The model that judges the block at a path."""
    current: Any = Document
    for step in loc:
        if isinstance(current, type) and issubclass(current, Strict):
            name = aliases(current).get(str(step))
            current = None if name is None else _strip(current.model_fields[name].annotation)
        elif get_origin(current) is dict:
            current = _strip(get_args(current)[1])
        elif get_origin(current) is list:
            current = _strip(get_args(current)[0])
        else:
            return None
    return current if isinstance(current, type) and issubclass(current, Strict) else None


def _strip(annotation: Any) -> Any:
    """Without Annotated and without None."""
    if hasattr(annotation, "__metadata__"):
        return _strip(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return _strip(rest[0]) if len(rest) == 1 else None
    return annotation
