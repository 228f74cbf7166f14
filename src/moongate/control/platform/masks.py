"""Secrets go in and never come out: what is shown has a mask in place of each, and a mask that comes back keeps it.

A mask is `[secret 1a2b3c4d]`, the fingerprint that logs show too. It is good only in the place where it was shown: the
same header, the same variable, the same parameter of the same address; elsewhere it might be shown. And only for the
same server: whoever may write an instance but not read its secrets could otherwise have them sent to a server of his
own.
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

# Where in a text a secret stands: (from, to, place). The place is what a mask is bound to, beside the field.
Span = tuple[int, int, tuple[str, ...]]

MASK = re.compile(r"\[secret [0-9a-f]{8}\]")
_SECRET_NAME = re.compile(
    r"key|token|secret|pass(w|phrase)|auth(?!or)|authoriz|cred|cookie|bearer|jwt|signature"
    r"|(?<![a-z])(code|pass|pwd|pat|dsn|sig)(?![a-z])",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://([^/?#\s@]*(?:@[^/?#\s@]*)*)@")
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]*")
_QUERY = re.compile(r"[?&]([^=&#\s]*)=([^&#\s]*)")
_SEGMENT = re.compile(r"(?<=/)[^/?#\s]+(?=[/?#]|\Z)")
_FLAG = re.compile(r"--?([A-Za-z][A-Za-z0-9_-]*)\Z")
_NAMED = re.compile(r"-{0,2}([A-Za-z][A-Za-z0-9_.-]*)(?:=|:\s*)(.+)\Z", re.DOTALL)
_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs]|hf|npm|pypi|mg|mgk)[-_][A-Za-z0-9_-]{16,}"
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=[Bb]asic )[A-Za-z0-9+/=]{8,}"
)
_RANDOM = re.compile(r"(?=(?:[^0-9]*[0-9]){4})(?=(?:[^A-Za-z]*[A-Za-z]){4})[A-Za-z0-9_~.%+=-]{20,}\Z")
_WHOLE = (("headers",), ("env",), ("requestHeaderModifier", "add"), ("requestHeaderModifier", "set"))
_EVERYTHING = ("everything",)
_CALLED_PATH = ("urlRewrite", "path", "full")
# In a configuration of a file: what says where the secret comes from, and is none itself.
_REFERENCE = re.compile(r"(?:[A-Za-z]+ )?\$\{[A-Za-z_][A-Za-z0-9_]*\}\Z")
_CASELESS = {("headers",), ("requestHeaderModifier", "add"), ("requestHeaderModifier", "set")}

FOREIGN = (
    "{mask} stands for no secret that is kept here; write the value itself, or leave the mask exactly as it was shown "
    "in this place"
)
MOVED = (
    "leads to another server than before (scheme, host, port or urlRewrite.authority): kept secrets do not go along; "
    "write the values themselves in place of the masks"
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
    used: dict[Loc, list[tuple[int, int, str]]] = {}

    def reveal(loc: Loc, text: str, _before: str) -> str:
        shown, at = "", 0
        for match in MASK.finditer(text):
            values = known.get((_group(loc), match[0]), {})
            if len(values) != 1:
                complaints.append(_foreign(loc, match[0]))
                continue
            (secret,) = values
            shown += text[at : match.start()] + secret
            at = match.end()
            used.setdefault(loc, []).append((len(shown) - len(secret), len(shown), match[0]))
        return shown + text[at:]

    whole: dict[str, Any] = _mapped(config, (), "", reveal)
    for loc, text, before in _leaves(whole, (), ""):
        spans = _spans(loc, text, before) if loc in used else []
        for start, end, found in used.get(loc, ()):
            (places,) = known[_group(loc), found].values()
            if not any(_covers(span, start, end) and span[2] in places for span in spans):
                complaints.append(_foreign(loc, found))
    if used and not complaints and origin(whole) != origin(kept or {}):
        complaints.append(Complaint("url", MOVED))
    return whole, list(dict.fromkeys(complaints))


def _covers(span: Span, start: int, end: int) -> bool:
    """Whether it is just this; where everything is masked, more may stand around it."""
    return span[:2] == (start, end) or (span[2] == _EVERYTHING and span[0] <= start and end <= span[1])


def _foreign(loc: Loc, found: str) -> Complaint:
    return Complaint(dotted(loc), FOREIGN.format(mask=found))


def secrets_in(config: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Every secret with its place."""
    for loc, text, before in _leaves(config, (), ""):
        for start, end, _ in _spans(loc, text, before):
            yield loc, text[start:end]


def _known(config: dict[str, Any]) -> dict[tuple[Loc, str], dict[str, set[tuple[str, ...]]]]:
    """By field and mask: the secrets, each with the places where it stands."""
    known: dict[tuple[Loc, str], dict[str, set[tuple[str, ...]]]] = {}
    for loc, text, before in _leaves(config, (), ""):
        for start, end, place in _spans(loc, text, before):
            secret = text[start:end]
            known.setdefault((_group(loc), mask(secret)), {}).setdefault(secret, set()).add(place)
    return known


def _group(loc: Loc) -> Loc:
    """The field that a mask belongs to: an argument may move with its flag; names of headers have no case."""
    if loc[:1] == ("args",):
        return loc[:1]
    if loc[:-1] in _CASELESS:
        return (*loc[:-1], str(loc[-1]).lower())
    return loc


def origin(config: dict[str, Any]) -> object:
    """Which server an entry leads to."""
    url, rewrite = config.get("url"), config.get("urlRewrite")
    called = rewrite.get("authority") if isinstance(rewrite, dict) else None
    if not isinstance(url, str):
        return None
    try:
        address = parse_url(url)
    except PydanticCustomError:
        return url
    return address.scheme, address.host, address.port, None if called == "auto" else called


def _hide(loc: Loc, text: str, before: str) -> str:
    return _replaced(loc, text, before, mask)


def _replaced(loc: Loc, text: str, before: str, by: Callable[[str], str]) -> str:
    shown, at = "", 0
    for start, end, _ in _spans(loc, text, before):
        shown += text[at:start] + by(text[start:end])
        at = end
    return shown + text[at:]


def _spans(loc: Loc, text: str, before: str) -> list[Span]:
    """Where the secrets of a text are, in order, not overlapping, none empty."""
    found: list[Span]
    if loc[:-1] in _WHOLE:
        found = [(0, len(text), _EVERYTHING)]
    elif loc[:1] == ("args",):
        found = list(_in_argument(text, before))
    elif loc == _CALLED_PATH:
        found = list(_in_path(text, 0, len(text)))
    else:
        found = list(_in_address(text)) if "://" in text else []
        if loc != ("url",):
            found = _of_server(text, found)
        found += _shaped(text)
    for match in MASK.finditer(text):  # none is cut in two
        found = [
            (min(start, match.start()), max(end, match.end()), place)
            if start < match.end() and match.start() < end
            else (start, end, place)
            for start, end, place in found
        ]
    spans: list[Span] = []
    for start, end, place in sorted(found, key=lambda span: (span[0], -span[1])):
        free = start < end and (not spans or start >= spans[-1][1])
        if free and not _REFERENCE.match(text[start:end]) and not MASK.fullmatch(text, start, end):
            spans.append((start, end, place))
    return spans


def _shaped(text: str) -> list[Span]:
    return [(*match.span(), ("shape",)) for match in _SHAPES.finditer(text)]


def _of_server(text: str, found: list[Span]) -> list[Span]:
    """Spans of an address, bound to its server. Of `url` that is for `origin` to say."""
    server = _AUTHORITY.search(_USERINFO.sub("://", text))
    return [(start, end, (*place, server[0] if server else "")) for start, end, place in found]


def _in_argument(text: str, before: str) -> Iterator[Span]:
    flag = _FLAG.match(before)
    behind = "" if flag is None else flag[1]
    if behind and _SECRET_NAME.search(behind) and not text.startswith("-"):
        yield 0, len(text), ("argument", behind)
    named = _NAMED.match(text)
    if named is not None and "://" not in text[: named.start(2)] and _SECRET_NAME.search(named[1]):
        yield (*named.span(2), ("named", named[1]))
    if "://" in text:
        yield from _of_server(text, list(_in_address(text)))
    elif _RANDOM.match(text):
        yield 0, len(text), ("argument", behind)
    yield from _shaped(text)


def _in_address(text: str) -> Iterator[Span]:
    userinfo = _USERINFO.search(text)
    if userinfo is not None:
        yield (*userinfo.span(1), ("userinfo", str(text.count("://", 0, userinfo.start()))))
    path_from = text.find("/", text.find("://") + 3)
    for match in _QUERY.finditer(text):
        name = unquote(match[1])
        if _SECRET_NAME.search(name) or _RANDOM.match(match[2]):
            yield (*match.span(2), ("query", name))
    query_from = text.find("?")
    if path_from >= 0:
        yield from _in_path(text, path_from, len(text) if query_from < 0 else query_from)


def _in_path(text: str, start: int, end: int) -> Iterator[Span]:
    for match in _SEGMENT.finditer(text, start, end):
        if _RANDOM.match(match[0]):
            yield (*match.span(), ("path", str(text.count("/", start, match.start()))))


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
