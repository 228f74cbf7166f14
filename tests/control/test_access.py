"""Access rules of files and of the store: both hold, and neither is ever left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moongate.control.compile import CompileOptions
from moongate.control.published import write_published
from moongate.control.secrets import load_key
from moongate.control.source import Source
from moongate.errors import ConfigError
from moongate.policies.access_rules import AccessConfig

FILE = """\
gateway: {access: {rules: [{deny: ["tool:a"]}]}}
mcpServers:
  one: {url: "http://127.0.0.1:9/mcp", access: {mode: shadow, rules: [{deny: ["tool:b"]}]}}
"""


def compiled(directory: Path, access: object, text: str = FILE) -> list[AccessConfig]:
    """The sets of rules of the route, with these rules in the store."""
    file = directory / "moongate.yaml"
    file.write_text(text, "utf-8")
    document: dict[str, Any] = {"gateway": {"access": access}}
    write_published(directory, load_key(directory, {}), document, tokens_in_use=False)
    snapshot = Source((file,), CompileOptions(), {}, data_dir=directory).read()
    route = snapshot.binds[0].listeners[0].routes[0]
    return [policy for policy in route.policies if isinstance(policy, AccessConfig)]


def test_rules_of_the_store_hold_beside_those_of_files(tmp_path: Path) -> None:
    """Each set has its own mode, and says where it stands."""
    found = compiled(tmp_path, {"mode": "shadow", "rules": [{"allow": ["tool:c"], "users": ["alice"]}]})
    assert [(access.setting, access.shadow) for access in found] == [
        ("gateway.access", False),
        ("store: gateway.access", True),
        ("mcpServers.one.access", True),
    ]
    assert [rule.setting for rule in found[1].rules] == ["store: gateway.access.rules[0]"]


def test_the_store_may_have_the_only_rules(tmp_path: Path) -> None:
    """They hold for the instances of files too."""
    found = compiled(tmp_path, {"rules": [{"deny": True}]}, 'mcpServers: {one: {url: "http://127.0.0.1:9/mcp"}}')
    assert [access.setting for access in found] == ["store: gateway.access"]
    assert compiled(tmp_path, {"rules": []}, 'mcpServers: {one: {url: "http://127.0.0.1:9/mcp"}}') == []


BROKEN: list[object] = [
    {"rules": [{"allow": ["tools:a"]}]},
    {"rules": [{"deny": True, "when": "foo"}]},
    {"rules": [{}]},
    {"rule": []},
    [],
    "deny",
]


@pytest.mark.parametrize("access", BROKEN)
def test_rules_that_cannot_be_read_are_not_left_out(access: object, tmp_path: Path) -> None:
    """Without them more would be allowed: nothing changes, and the complaint names the store."""
    with pytest.raises(ConfigError) as error:
        compiled(tmp_path, access)
    assert all(complaint.where == "store" for complaint in error.value.complaints)
