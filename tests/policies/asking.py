"""Access rules of a file, who asks, and for what."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.errors import FailureClass
from moongate.model.exchange import Exchange
from moongate.model.principal import Principal
from moongate.policies.acl import Access
from moongate.policies.base import Verdict
from moongate.policies.pipeline import access_rules
from moongate.protocol.jsonrpc import Envelope, parse
from tests.policies.heads import exchange

Rule = dict[str, Any]
ALICE = Principal("alice", "tok-1", frozenset({"readers", "staff"}))
BOB = Principal("bob", "tok-2")


def access(*rules: Rule, gateway: Iterable[Rule] = (), mode: str = "enforce") -> Access:
    """The rules of an instance named `one`, compiled from a file."""
    config = {
        "gateway": {"access": {"rules": list(gateway)}},
        "mcpServers": {"one": {"url": "http://127.0.0.1/", "access": {"mode": mode, "rules": list(rules)}}},
    }
    snapshot = compile_documents(load_texts([("gateway.json", json.dumps(config))], {}))
    found = access_rules(snapshot.binds[0].listeners[0].routes[0])
    assert found is not None
    return found


def asking(who: Principal = ALICE, source: str = "192.0.2.1", **fields: str) -> Exchange:
    """A request of somebody; `fields` are headers."""
    found = exchange({name.replace("_", "-"): value for name, value in fields.items()})
    found.principal, found.source = who, source
    return found


def message(method: str, **params: Any) -> tuple[Envelope, bytes]:  # noqa: ANN401 - any JSON
    """A request with these params."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    return read(body)


def read(body: bytes) -> tuple[Envelope, bytes]:
    """A message as the request path has it."""
    parsed = parse(body, 128)
    assert isinstance(parsed, Envelope)
    return parsed, body


def verdict(rules: Access, sent: tuple[Envelope, bytes], by: Exchange | None = None) -> Verdict:
    """On a message of somebody whose head was let in."""
    by = by or asking()
    head = rules.judge(by)
    return head if head.refusal is not None else rules.judge_message(rules.caller(by), by, *sent)


def allowed(rules: Access, sent: tuple[Envelope, bytes], by: Exchange | None = None) -> bool:
    """The same, remembered or not; a refusal is always of the one class."""
    by = by or asking()
    found = [verdict(rules, sent, by) for _ in range(3)]
    assert all(one.refusal is None or one.refusal.failure is FailureClass.DENIED for one in found)
    assert len({one.refusal is None for one in found}) == 1
    return found[0].refusal is None


def tool(name: str, **arguments: Any) -> tuple[Envelope, bytes]:  # noqa: ANN401 - any JSON
    """A call of a tool."""
    return message("tools/call", name=name, arguments=arguments)
