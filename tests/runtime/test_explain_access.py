"""`moongate explain` about access rules: which of them decides, and what would change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moongate.cli.explain import FINE, REFUSED, Question, explained, recorded
from moongate.testing import gateway
from tests.proxy.talk import call, connected, run

FILE = """\
gateway:
  access: {mode: shadow, rules: [{deny: ["tool:pay"]}]}
mcpServers:
  bank:
    url: http://127.0.0.1:9/mcp
    type: streamable-http
    access:
      rules:
        - {allow: ["tool:get_*", "tool:pay"], sources: [127.0.0.0/8, 192.0.2.0/24]}
        - {deny: ["tool:get_secret"], sources: [192.0.2.7]}
        - {deny: true, when: 'tool == "pay" && arguments.amount > 100'}
"""
HERE = "mcpServers.bank.access.rules"
Shell = pytest.CaptureFixture[str]

ASKED = [
    # Source and message; whether it is fine, and what is said of it with which setting.
    ("127.0.0.1", call(1, name="get_a"), True, [("ok", f"is allowed by {HERE}[0]", None)]),
    (
        "192.0.2.7",
        call(1, name="get_secret"),
        False,
        [("refused", "tool 'get_secret' (tools/call) is denied", f"{HERE}[1]")],
    ),
    ("127.0.0.1", call(1, name="set"), False, [("refused", "no rule allows tool 'set'", f"{HERE}: another rule")]),
    ("198.51.100.1", call(1, name="get_a"), False, []),
    (
        "127.0.0.1",
        call(1, name="pay", arguments={"amount": 5}),
        True,
        [("ok", f"is allowed by {HERE}[0]", None), ("ok", "only on trial (mode: shadow)", "gateway.access.rules[0]")],
    ),
    (
        "127.0.0.1",
        call(1, name="pay"),
        False,
        [
            ("refused", "whose condition cannot be evaluated", f"{HERE}[2]"),
            ("ok", "only on trial", "gateway.access.rules[0]"),
        ],
    ),
]


def asked(tmp_path: Path, capsys: Shell, source: str, message: bytes) -> tuple[int, dict[str, Any]]:
    """Exit code, and what a program reads."""
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE, "utf-8")
    question = Question(
        "POST",
        "/mcp/bank",
        (file,),
        host="localhost",
        source=source,
        message=message.decode(),
        data_dir=tmp_path / "data",
    )
    code = explained(question, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return code, found


@pytest.mark.requirement("AG-43")
@pytest.mark.parametrize(("source", "message", "fine", "told"), ASKED)
def test_the_rule_that_decides_is_named(
    source: str, message: bytes, fine: bool, told: list[tuple[str, str, str | None]], tmp_path: Path, capsys: Shell
) -> None:
    """First what the head says, then the message, then what is only on trial."""
    code, found = asked(tmp_path, capsys, source, message)
    assert code == (FINE if fine else REFUSED)
    steps = [step for step in found["steps"] if step["rule"] == "access"]
    if not told:
        assert [step["outcome"] for step in steps] == ["refused"]
        assert (found["status"], found["failure"]) == (403, "denied")
        return
    assert steps[0]["outcome"] == "ok"
    assert len(steps) == len(told) + 1
    for step, (outcome, reason, setting) in zip(steps[1:], told, strict=True):
        assert step["outcome"] == outcome
        assert reason in step["reason"]
        assert (step["setting"] or "").startswith(setting or "")
    assert found["status"] == (None if fine else 200)


def test_a_recorded_refusal_is_explained(capsys: Shell) -> None:
    """By its request id; also what a rule on trial said."""

    async def story() -> None:
        async with gateway(FILE) as gate, connected(gate) as client:
            for name, words in (("set", "no rule allows tool 'set'"), ("pay", "gateway.access.rules[0]")):
                answer = await client.ask(call(1, name=name, arguments={"amount": 5}), path="/mcp/bank")
                gate.records()
                assert recorded(answer.fields["x-request-id"], gate.data_dir) == REFUSED
                assert words in capsys.readouterr().out

    run(story())
