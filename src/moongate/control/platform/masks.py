"""Secrets go in and never come out: what is shown has a mask in place of each, and a mask that comes back keeps it.

A mask is `[secret 1a2b3c4d]`, the fingerprint that logs show too. It is good only in the place where it was shown: the
same header, the same variable, the same address. And only for the same server: whoever may write an instance but not
read its secrets could otherwise have them sent to a server of his own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from pydantic_core import PydanticCustomError

from moongate.control.nodes import Loc, dotted
from moongate.control.schema.addresses import parse_url
from moongate.errors import Complaint

MASK = re.compile(r"\[secret [0-9a-f]{8}\]")
_SECRET_NAME = re.compile(
    r"key|token|secret|pass(w|phrase)|auth(?!or)|authoriz|cred|cookie|bearer|jwt|signature"
    r"|(?<![a-z])(code|pass|pwd|pat|dsn|sig)(?![a-z])",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://([^/?#\s@]*(?:@[^/?#\s@]*)*)@")
_QUERY = re.compile(r"[?&]([^=&#\s]*)=([^&#\s]*)")
_SEGMENT = re.compile(r"(?<=/)[^/?#\s]+(?=[/?#]|\Z)")
_FLAG = re.compile(r"--?([A-Za-z][A-Za-z0-9_-]*)\Z")
_NAMED = re.compile(r"-{0,2}([A-Za-z][A-Za-z0-9_.-]*)(?:=|:\s*)(.+)\Z", re.DOTALL)
_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs]|hf|npm|pypi|mg|mgk)[-_][A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=[Bb]asic )[A-Za-z0-9+/=]{8,}"
)
_RANDOM = re.compile(r"(?=(?:[^0-9]*[0-9]){4})(?=(?:[^A-Za-z]*[A-Za-z]){4})[A-Za-z0-9_~.%+=-]{20,}\Z")
_WHOLE = (("headers",), ("env",), ("requestHeaderModifier", "add"), ("requestHeaderModifier", "set"))
_CASELESS = {("headers",), ("requestHeaderModifier", "add"), ("requestHeaderModifier", "set")}

FOREIGN = (
    "{mask} stands for no secret that is kept here; write the value itself, or leave the mask exactly as it was shown "
    "in this place"
)
MOVED = (
    "leads to another server than before (scheme, host or port): kept secrets do not go along; write the values "
    "themselves in place of the masks"
)


def mask(secret: str) -> str:
    """What is shown in place of a secret."""
    return f"[secret {hashlib.sha256(secret.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}]"


def masked(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it may be shown."""
    shown: dict[str, Any] = _mapped(config, (), "", _hide)
    return shown


def referenced(config: dict[str, Any], named: Callable[[str], str]) -> dict[str, Any]:
    """A configuration for a file: a reference to an environment variable in place of each secret.

    `named` gives the variable's name, from the place of the secret (`headers.X-Key`).
    """
    written: dict[str, Any] = _mapped(
        config, (), "", lambda loc, text, before: _replaced(loc, text, before, lambda _: f"${{{named(dotted(loc))}}}")
    )
    return written


def restored(config: dict[str, Any], kept: dict[str, Any] | None) -> tuple[dict[str, Any], list[Complaint]]:
    """A configuration that came back, with the secrets that its masks stand for; `kept` is what was stored.

    The complaints (`where` is the field) are about masks that stand for nothing here, or for another server's secret.
    """
    known = _known(kept or {})
    complaints: list[Complaint] = []
    used: list[str] = []

    def reveal(loc: Loc, text: str, _before: str) -> str:
        def found(match: re.Match[str]) -> str:
            values = known.get(_group(loc), {}).get(match[0], set())
            if len(values) != 1:
                complaints.append(Complaint(dotted(loc), FOREIGN.format(mask=match[0])))
                return match[0]
            used.append(match[0])
            return next(iter(values))

        return MASK.sub(found, text)

    whole: dict[str, Any] = _mapped(config, (), "", reveal)
    if used and not complaints and _origin(whole) != _origin(kept or {}):
        complaints.append(Complaint("url", MOVED))
    return whole, list(dict.fromkeys(complaints))


def secrets_in(config: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Every secret with its place."""
    for loc, text, before in _leaves(config, (), ""):
        for start, end in _spans(loc, text, before):
            yield loc, text[start:end]


def _known(config: dict[str, Any]) -> dict[Loc, dict[str, set[str]]]:
    known: dict[Loc, dict[str, set[str]]] = {}
    for loc, secret in secrets_in(config):
        known.setdefault(_group(loc), {}).setdefault(mask(secret), set()).add(secret)
    return known


def _group(loc: Loc) -> Loc:
    """Where a mask may move: nowhere, but among arguments; names of headers have no case."""
    if loc[:1] == ("args",):
        return loc[:1]
    if loc[:-1] in _CASELESS:
        return (*loc[:-1], str(loc[-1]).lower())
    return loc


def _origin(config: dict[str, Any]) -> object:
    url = config.get("url")
    if not isinstance(url, str):
        return None
    try:
        address = parse_url(url)
    except PydanticCustomError:
        return url
    return address.scheme, address.host, address.port


def _hide(loc: Loc, text: str, before: str) -> str:
    return _replaced(loc, text, before, mask)


def _replaced(loc: Loc, text: str, before: str, by: Callable[[str], str]) -> str:
    shown, at = "", 0
    for start, end in _spans(loc, text, before):
        shown += text[at:start] + by(text[start:end])
        at = end
    return shown + text[at:]


def _spans(loc: Loc, text: str, before: str) -> list[tuple[int, int]]:
    """Where the secrets of a text are: from, to; in order, not overlapping, none empty."""
    if loc[:-1] in _WHOLE:
        found = [(0, len(text))]
    elif loc[:1] == ("args",):
        found = list(_in_argument(text, before))
    else:
        found = list(_in_address(text)) if "://" in text else []
        found += [match.span() for match in _SHAPES.finditer(text)]
    spans: list[tuple[int, int]] = []
    for start, end in sorted(found, key=lambda span: (span[0], -span[1])):
        if start < end and (not spans or start >= spans[-1][1]):
            spans.append((start, end))
    return spans


def _in_argument(text: str, before: str) -> Iterator[tuple[int, int]]:
    flag = _FLAG.match(before)
    if flag is not None and _SECRET_NAME.search(flag[1]) and not text.startswith("-"):
        yield 0, len(text)
    named = _NAMED.match(text)
    if named is not None and "://" not in text[: named.start(2)] and _SECRET_NAME.search(named[1]):
        yield named.span(2)
    if "://" in text:
        yield from _in_address(text)
    elif _RANDOM.match(text):
        yield 0, len(text)
    yield from (match.span() for match in _SHAPES.finditer(text))


def _in_address(text: str) -> Iterator[tuple[int, int]]:
    userinfo = _USERINFO.search(text)
    if userinfo is not None:
        yield userinfo.span(1)
    path_from = text.find("/", text.find("://") + 3)
    for match in _QUERY.finditer(text):
        if _SECRET_NAME.search(unquote(match[1])) or _RANDOM.match(match[2]):
            yield match.span(2)
    query_from = text.find("?")
    if path_from >= 0:
        for match in _SEGMENT.finditer(text, path_from, len(text) if query_from < 0 else query_from):
            if _RANDOM.match(match[0]):
                yield match.span()


def _leaves(value: Any, loc: Loc, before: str) -> Iterator[tuple[Loc, str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*loc, key), "")
    elif isinstance(value, list):
        last = ""
        for index, item in enumerate(value):
            yield from _leaves(item, (*loc, index), last)
            last = item if isinstance(item, str) else ""
    elif isinstance(value, str):
        yield loc, value, before


def _mapped(value: Any, loc: Loc, before: str, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(item, (*loc, key), "", change) for key, item in value.items()}
    if isinstance(value, list):
        found = []
        last = ""
        for index, item in enumerate(value):
            found.append(_mapped(item, (*loc, index), last, change))
            last = item if isinstance(item, str) else ""
        return found
    return change(loc, value, before) if isinstance(value, str) else value
