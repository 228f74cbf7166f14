"""From `access` blocks to the rules that the data plane runs."""

from __future__ import annotations

from dataclasses import replace

from moongate.control.findings import Findings
from moongate.control.nodes import STORE, Entry, Loc, Mapping, Node, Place, dotted
from moongate.control.schema.access import AccessBlock, AccessRule
from moongate.control.schema.judge import judge
from moongate.errors import Complaint
from moongate.policies.access_rules import AccessConfig, AccessRuleConfig
from moongate.policies.cel import ConditionConfig


def build_access(written: AccessBlock | None, findings: Findings, loc: Loc) -> AccessConfig | None:
    """The rules of the block at `loc`; None if there are none."""
    if written is None or not written.rules:
        return None
    rules = []
    for index, rule in enumerate(written.rules):
        here = (*loc, "rules", index)
        rules.append(_rule(rule, here))
        if rule.deny is not None and rules[-1] == AccessRuleConfig(allow=False, setting=rules[-1].setting):
            findings.warn(here, "denies everything to everybody; name patterns, users, groups, sources or when")
    return AccessConfig(tuple(rules), shadow=written.mode == "shadow", setting=dotted(loc))


def kept_access(block: Node | None) -> tuple[AccessConfig | None, list[Complaint]]:
    """The rules for the whole gateway that the store holds, and what is wrong about them."""
    if block is None:
        return None, []
    place = Place(STORE, 0)
    inner = Mapping({"access": Entry(place, block)}, place)
    document, root, complaints = judge(Mapping({"gateway": Entry(place, inner)}, place))
    written = None if document is None or document.gateway is None else document.gateway.access
    found = build_access(written, Findings(root), ("gateway", "access"))
    if found is None:
        return None, complaints
    rules = tuple(replace(rule, setting=f"{STORE}: {rule.setting}") for rule in found.rules)
    return replace(found, rules=rules, setting=f"{STORE}: {found.setting}"), complaints


def _rule(written: AccessRule, loc: Loc) -> AccessRuleConfig:
    return AccessRuleConfig(
        allow=written.allow is not None,
        patterns=written.patterns,
        users=frozenset(written.users or ()),
        groups=frozenset(written.groups or ()),
        sources=tuple(written.sources or ()),
        when=None if written.when is None else ConditionConfig.read(written.when),
        setting=dotted(loc),
    )


def advise_on_strangers(written: AccessBlock | None, findings: Findings, loc: Loc) -> None:
    """Where no token is needed, everybody is `anonymous` and in no group."""
    for index, rule in enumerate(() if written is None else written.rules):
        named = [name for name in rule.users or () if name != "anonymous"]
        if named or rule.groups:
            key = "users" if named else "groups"
            text = "no token is needed here, so that everybody is anonymous and in no group; write auth: required"
            findings.warn((*loc, "rules", index, key), text)
