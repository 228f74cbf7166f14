"""The page on access rules says what the gateway does."""

from __future__ import annotations

import json

import pytest

from moongate.control.compile import compile_documents
from moongate.control.files import load_texts
from moongate.model.principal import Principal
from moongate.model.snapshot import Snapshot
from moongate.policies.cel import VARIABLES
from moongate.policies.pipeline import access_rules
from moongate.protocol.jsonrpc import Envelope, parse
from moongate.proxy.access import MAX_LIST
from tests.docs.pages import DOCS, blocks, code, table, text
from tests.policies.heads import exchange

PAGE = text(DOCS / "access.md")
ENVIRONMENT = {"ALICE_TOKEN": "alice-" * 3, "BOB_TOKEN": "bob-" * 3}
METHODS = {"tool": "tools/call", "prompt": "prompts/get"}


def compiled(block: str) -> Snapshot:
    """A configuration of the page."""
    return compile_documents(load_texts([("gateway.yaml", block)], ENVIRONMENT))


@pytest.mark.parametrize("block", blocks(PAGE, "yaml"))
def test_every_configuration_on_the_page_is_right(block: str) -> None:
    """Without a warning."""
    assert compiled(block).warnings == ()


def test_the_table_of_the_example_is_what_its_rules_say() -> None:
    """Who gets what, and which rule decides."""
    snapshot = compiled(blocks(PAGE, "yaml")[0])
    rules = access_rules(snapshot.binds[0].listeners[0].routes[0])
    assert rules is not None
    principals = {entry.principal.name: entry.principal for entry in snapshot.tokens}
    rows = table(PAGE, "who", "from", "asks for", "with", "outcome", "because of")
    assert len(rows) > 5
    for who, source, asked, arguments, outcome, why in rows:
        by = exchange({})
        by.principal, by.source = principals.get(who, Principal(who)), source
        kind, name = asked.split(" ")
        params = {"name": name, "arguments": json.loads(arguments.strip("`"))}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": METHODS[kind], "params": params}).encode()
        message = parse(body, 64)
        assert isinstance(message, Envelope)
        verdict = rules.judge(by)
        if verdict.refusal is None:
            verdict = rules.judge_message(rules.caller(by), by, message, body)
        assert outcome == ("allowed" if verdict.refusal is None else "denied"), (who, asked)
        if why.startswith("no rule"):
            assert verdict.reason.startswith("no rule allows"), verdict
        else:
            assert code(why)[0] in f"{verdict.setting} {verdict.reason}", verdict


def test_the_table_of_variables_is_complete() -> None:
    """In the order of the code."""
    rows = table(PAGE, "variable", "what it is")
    assert tuple(name for row in rows for name in code(row[0])) == VARIABLES


def test_the_limit_of_lists_is_the_one_that_holds() -> None:
    """As the page says it."""
    assert f"up to {MAX_LIST // 2**20} MiB" in PAGE
