"""`access:` blocks: who may use which tools, prompts, resources and methods."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from moongate.control.schema.addresses import parse_network
from moongate.control.schema.values import Label, Strict, exactly_one, refusal
from moongate.policies.cel import ConditionConfig

KINDS = ("tool", "prompt", "resource", "method")
EVERYTHING = "*"
MAX_RULES = 1000
MAX_PATTERN = 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FORM = "a pattern is tool:, prompt:, resource: or method: and a name, in which * stands for any text, or * alone"
_LISTED = "must be true (everything) or a list of patterns such as [tool:get_*], found {found}"
_PATTERNS_SCHEMA = {
    "anyOf": [
        {"const": True},
        {"const": EVERYTHING},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "pattern": r"^(\*|(tool|prompt|resource|method):.+)$"},
        },
    ],
    "x-kind": "patterns or `true`",
}


def parse_pattern(text: str) -> tuple[str, str]:
    """Kind and glob; ("", "*") for everything. Raises a refusal."""
    if text == EVERYTHING:
        return "", text
    kind, colon, glob = text.partition(":")
    if kind not in KINDS or not colon:
        near = difflib.get_close_matches(kind.lower(), KINDS, n=1)
        meant = f"; write {near[0]}:..." if near and colon else "" if colon else f"; write {_guessed(text)}"
        raise refusal(f"{_FORM}{meant}, found {{found}}")
    if not glob:
        raise refusal(f"names nothing; write {kind}:* for every {kind}, found {{found}}")
    if _CONTROL.search(text) or len(text) > MAX_PATTERN:
        raise refusal(f"must be at most {MAX_PATTERN} characters without control characters, found {{found}}")
    return kind, glob


def _guessed(text: str) -> str:
    """What somebody probably meant who left the kind out."""
    return f"method:{text}" if re.fullmatch(r"[a-z]+/[a-zA-Z*]+", text) else "tool:..."


def _pattern(value: str) -> str:
    parse_pattern(value)
    return value


def _patterns(value: object) -> object:
    if value is True or value in (EVERYTHING, "true"):
        return [EVERYTHING]
    if not isinstance(value, list):
        raise refusal(_LISTED)
    if not value:
        raise refusal("is empty; name at least one pattern, or write true for everything")
    return value


def _some(value: object) -> object:
    if isinstance(value, list) and not value:
        raise refusal("is empty; name at least one, or leave the key out")
    return value


def _no_pattern(value: str) -> str:
    if "*" in value:
        raise refusal("must be one whole name, found {found}; for everybody leave the key out")
    return value


def _condition(value: str) -> str:
    try:
        ConditionConfig.read(value)
    except ValueError as error:
        raise refusal(str(error)) from None
    return value


def _rules(value: object) -> object:
    if isinstance(value, list) and len(value) > MAX_RULES:
        raise refusal(f"has more than {MAX_RULES} entries")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[list[Pattern], BeforeValidator(_patterns), WithJsonSchema(_PATTERNS_SCHEMA)]
Names = Annotated[list[Annotated[Label, AfterValidator(_no_pattern)]], BeforeValidator(_some)]
Network = Annotated[str, AfterValidator(parse_network)]
Networks = Annotated[list[Network], BeforeValidator(_some)]
Expression = Annotated[str, AfterValidator(_condition), WithJsonSchema({"type": "string", "x-kind": "CEL expression"})]


class AccessRule(Strict):
    """One rule: exactly one of `allow` and `deny`, and to whom, from where and when it applies."""

    allow: Patterns | None = Field(
        None,
        description="What may be used: `tool:NAME`, `prompt:NAME`, `resource:URI`, `method:NAME`, with `*` for any "
        "text; `true` is everything.",
    )
    deny: Patterns | None = Field(None, description="What may not be used. It beats every `allow`.")
    users: Names | None = Field(
        None, description="About these users, or members of `groups`. Without both: about everybody."
    )
    groups: Names | None = Field(None, description="About members of these groups, or `users`.")
    sources: Networks | None = Field(
        None, description="About clients at these addresses and networks only. Without it: everywhere."
    )
    when: Expression | None = Field(
        None,
        description="About calls for which this is true. It may read `principal` (`name`, `groups`, `token`), "
        "`source`, `instance`, `method`, `tool`, `prompt`, `resource`, `arguments`, `headers` and `now`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(cls, data, ("allow", "deny"))

    @property
    def patterns(self) -> tuple[tuple[str, str], ...]:
        """Kinds and globs; empty for everything."""
        pairs = tuple(map(parse_pattern, self.allow or self.deny or ()))
        return () if any(not kind for kind, _ in pairs) else pairs


class AccessBlock(Strict):
    """Who may use what. Rules of the gateway and of an instance both hold. In each block `deny` beats `allow`; once
    there is any `allow`, what no rule allows is denied. Lists show only what may be used.
    """

    mode: Literal["enforce", "shadow"] = Field(
        "enforce", description="`shadow`: nothing is denied, but records say what would have been."
    )
    rules: Annotated[list[AccessRule], BeforeValidator(_rules)] = Field(
        default_factory=list, description="The rules. Their order does not matter."
    )
