"""What can be asked for, and how: a filter as spans of terms, as SQL, and as a test of a row."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from moongate.audit.rows import MICRO, PLACE, Row
from moongate.audit.zones import Span, many, network_span, prefix_span, value_span
from moongate.errors import FailureClass

# Refused: by the gateway, before any backend was asked.
REFUSED = (
    *(FailureClass.BAD_REQUEST, FailureClass.NOT_FOUND, FailureClass.TOO_LARGE, FailureClass.UNSUPPORTED),
    *(FailureClass.UNAUTHENTICATED, FailureClass.DENIED, FailureClass.RATE_LIMITED),
)
FAILED = tuple(failure for failure in FailureClass if failure not in REFUSED)
OUTCOMES = ("ok", "refused", "failed", *(failure.value for failure in FailureClass))

_FINGERPRINT = re.compile(r"[0-9a-f]{8}")
_TIMES = 2**62


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is given must hold.

    `since` and `until` are Unix seconds (the second excluded). `source` is an address or a network. `path`, `method`
    (of JSON-RPC), `target` (tool, prompt, resource), `instance`, `user` and `client` may end in `*`. `token` is an id
    or a fingerprint. `outcome` is one of `OUTCOMES`. `text` stands somewhere in path, target, client, user or detail.
    """

    since: float | None = None
    until: float | None = None
    instance: str | None = None
    source: str | None = None
    path: str | None = None
    http_method: str | None = None
    method: str | None = None
    target: str | None = None
    user: str | None = None
    token: str | None = None
    token_header: str | None = None
    outcome: str | None = None
    status: int | None = None
    request_id: str | None = None
    client: str | None = None
    trace: str | None = None
    text: str | None = None


class Test(NamedTuple):
    """One condition: `spans` of terms of which a zone must have one (none: any zone may do), `sql` with its values, and
    what a row is held against if SQL cannot say it.
    """

    spans: tuple[Span, ...]
    sql: str
    values: tuple[object, ...]
    holds: Callable[[Row], bool] | None = None


def check_filter(wanted: Filter) -> None:
    """Raises ValueError with a sentence for the person who asks."""
    if wanted.outcome is not None and wanted.outcome not in OUTCOMES:
        raise ValueError(f"outcome: {wanted.outcome!r} is not one of {', '.join(OUTCOMES)}")
    if wanted.source is not None:
        _network(wanted.source)
    for name in ("since", "until"):
        value = getattr(wanted, name)
        if value is not None and not abs(value * MICRO) < _TIMES:
            raise ValueError(f"{name}: {value!r} is no time")
    for field in fields(wanted):
        value = getattr(wanted, field.name)
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{field.name}: a text without NUL is expected")
    if wanted.status is not None and not 0 <= wanted.status <= 999:
        raise ValueError(f"status: {wanted.status} is no HTTP status")


def times(wanted: Filter) -> tuple[int, int]:
    """The first microsecond that is wanted, and the first that is not any more."""
    low = -_TIMES if wanted.since is None else round(wanted.since * MICRO)
    return low, _TIMES if wanted.until is None else round(wanted.until * MICRO)


def tests(wanted: Filter) -> list[Test]:
    """The conditions but those on time. Raises ValueError."""
    check_filter(wanted)
    found: list[Test] = []
    texts = {
        "instance": wanted.instance,
        "path": wanted.path,
        "method": wanted.method,
        "target": wanted.target,
        "principal": wanted.user,
        "client": wanted.client,
    }
    found += [_text(column, value) for column, value in texts.items() if value not in (None, "*")]
    if wanted.http_method is not None:
        found.append(Test((), "http_method = ?", (wanted.http_method.upper(),)))
    if wanted.status is not None:
        found.append(Test((value_span("status", wanted.status),), "status = ?", (wanted.status,)))
    if wanted.token_header is not None:
        header = wanted.token_header.lower()
        found.append(Test((value_span("token_header", header),), "token_header = ?", (header,)))
    if wanted.trace is not None:
        found.append(Test((), "trace_id = ?", (wanted.trace.lower(),)))
    if wanted.request_id is not None:
        found.append(Test((), "request_id = ?", (wanted.request_id,)))
    if wanted.token is not None:
        found.append(_token(wanted.token))
    if wanted.outcome is not None:
        found.append(_outcome(wanted.outcome))
    if wanted.source is not None:
        found.append(_source(wanted.source))
    if wanted.text is not None:
        found.append(_anywhere(wanted.text))
    if wanted.outcome not in (None, "ok"):
        found = [test._replace(spans=tuple(span.of_failures() for span in test.spans)) for test in found]
    return found


def _text(column: str, value: str) -> Test:
    if not value.endswith("*"):
        return Test((value_span(column, value),), f"{column} = ?", (value,))
    prefix = value[:-1]
    # Lengths, not LIKE: case matters, and no character is special.
    return Test((prefix_span(column, prefix),), f"substr({column}, 1, {len(prefix)}) = ?", (prefix,))


def _token(value: str) -> Test:
    if not _FINGERPRINT.fullmatch(value.lower()):
        return Test((value_span("token", value),), "token = ?", (value,))
    spans = (value_span("token", value), value_span("token_fingerprint", value.lower()))
    return Test(spans, "(token = ? OR token_fingerprint = ?)", (value, value.lower()))


def _outcome(outcome: str) -> Test:
    if outcome == "ok":
        return Test((value_span("failure", ""),), "failure = ''", ())
    classes = {"refused": REFUSED, "failed": FAILED}.get(outcome) or (FailureClass(outcome),)
    names = tuple(failure.value for failure in classes)
    marks = ", ".join("?" * len(names))
    return Test(tuple(value_span("failure", name) for name in names), f"failure IN ({marks})", names)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"source: {text!r} is neither an address nor a network; write 10.1.2.3 or 10.0.0.0/8"
        ) from None


def _source(text: str) -> Test:
    network = _network(text)
    span = network_span(network)
    place = PLACE["source"] + 1
    known: dict[str, bool] = {}

    def holds(row: Row) -> bool:
        source = str(row[place])
        inside = known.get(source)
        if inside is None:
            inside = known[source] = span.low <= value_span("source", source).low <= span.high
        return inside

    sql, values = _written(network)
    return Test((span,), sql, values, holds)


def _written(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[str, tuple[str, ...]]:
    """What SQL can say of a network: how its addresses begin when they are written."""
    if isinstance(network, ipaddress.IPv6Network) or network.prefixlen < 8:
        return "1 = 1", ()
    octets = str(network.network_address).split(".")[: network.prefixlen // 8]
    begin = ".".join(octets) + ("." if len(octets) < 4 else "")
    mapped = f"::ffff:{begin}"
    condition = f"(substr(source, 1, {len(begin)}) = ? OR substr(source, 1, {len(mapped)}) = ?)"
    return condition, (begin, mapped)


def _anywhere(text: str) -> Test:
    columns = ("path", "target", "client", "principal", "detail")
    whole = " || ' ' || ".join(columns)
    # Both sides as the database does it: SQLite knows capitals of ASCII only.
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return Test((), f"lower({whole}) LIKE lower(CAST(? AS TEXT)) ESCAPE '\\'", (f"%{escaped}%",))


def zone_condition(found: Sequence[Test]) -> tuple[str, list[object]]:
    """Which zones may have a record for which all hold, as SQL on `z`."""
    sql: list[str] = []
    values: list[object] = []
    for test in found:
        if not test.spans:
            continue
        parts: list[str] = []
        for span in test.spans:
            if span.low == span.high:
                parts.append("term = ?")
                values.append(span.low)
            else:
                parts.append("term BETWEEN ? AND ?")
                values += span
        for letter in dict.fromkeys(span.low[0] for span in test.spans):
            parts.append("term = ?")
            values.append(many(letter))
        sql.append(f"z.zone IN (SELECT zone FROM audit_terms WHERE {' OR '.join(parts)})")  # noqa: S608 - no values
    return " AND ".join(sql), values
