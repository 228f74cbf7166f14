"""The base of all models, and the plain types they are made of.

A validator raises `refusal(...)`. It never puts a value into its text: `{found}` is replaced by the judge, who knows
which values are secret or came from the environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from moongate.control.nodes import Reference
from moongate.control.schema.durations import FORMS, PATTERN, parse_duration

REFUSED = "moongate"
MAX_SECONDS = 365 * 86_400.0
MAX_MILLISECONDS = 30 * 86_400_000
MAX_NAME = 128

_REFERENCE_SCHEMA = {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"}
_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LABEL = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}\Z")
_PATH = re.compile(r"/[!$&-;=@A-Z_a-z~%]*\Z")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


class Strict(BaseModel):
    """A block of keys. `not_yet` are keys that other programs know here and that are not built."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
        validate_default=False,
    )
    not_yet: ClassVar[frozenset[str]] = frozenset()


def refusal(text: str, *, key: str | None = None) -> PydanticCustomError:
    """Why a value is refused; may hold `{found}`. `key` moves the blame to a key of the block."""
    return PydanticCustomError(REFUSED, "{text}", {"text": text, "key": key})


def exactly_one(model: type[Strict], data: Any, keys: tuple[str, ...]) -> Any:
    """Refuses a block that gives none or several of the alternatives; a misspelt one is left to the unknown keys."""
    if isinstance(data, dict):
        given = [key for key in keys if data.get(key) is not None]
        if len(given) > 1:
            raise refusal(f"{given[0]} and {given[1]} cannot stand together; keep one of them", key=given[1])
        if not given and set(data) <= {field.alias for field in model.model_fields.values()}:
            raise refusal(f"needs one of {', '.join(keys)}")
    return data


def boolean(value: object) -> object:
    """A boolean from the environment is a boolean where the schema wants one."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, Reference) else value


def integer(value: object) -> object:
    """A number from the environment is a number where the schema wants one."""
    return int(value) if isinstance(value, Reference) and re.fullmatch(r"-?[0-9]{1,18}", value) else value


def _milliseconds(value: object) -> int:
    number = integer(value)
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number <= MAX_MILLISECONDS:
        return number
    raise refusal(
        "must be a whole number of milliseconds above 0, such as 30000 for 30 seconds (at most 30 days), found {found}"
    )


def bounded(lowest: int, highest: int) -> Any:
    """A whole number between two others, both included."""

    def check(value: object) -> int:
        number = integer(value)
        if isinstance(number, int) and not isinstance(number, bool) and lowest <= number <= highest:
            return number
        raise refusal(f"must be a whole number from {lowest} to {highest}, found {{found}}")

    return BeforeValidator(check, json_schema_input_type=int)


def _duration(lowest: float) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise refusal(f"must be {FORMS}, found {{found}}")
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise refusal(f"{error}, found {{found}}") from error
        if seconds < lowest or seconds > MAX_SECONDS:
            raise refusal(
                "must be longer than nothing and at most 365d, found {found}"
                if lowest
                else "must be at most 365d, found {found}"
            )
        return str(value)

    return check


def _name(value: str) -> str:
    if not _NAME.match(value) or value in {".", ".."} or len(value) > MAX_NAME:
        raise refusal(
            f"a name is made of letters, digits, '.', '_' and '-' (not '.' or '..', at most {MAX_NAME}), found "
            f"{{found}}"
        )
    return value


def _label(value: str) -> str:
    if not _LABEL.match(value) or value != value.strip():
        raise refusal("must be 1 to 128 characters without control characters or spaces at its ends, found {found}")
    return value


def _file(value: str) -> str:
    if not value or _CONTROL.search(value):
        raise refusal("must be the path of a file, found {found}")
    return value


def _path(value: str) -> str:
    if not _PATH.match(value) or _ESCAPE.sub("", value).count("%"):
        raise refusal(
            "must be a path such as /mcp/time: a leading slash, no query, no spaces, other letters percent-encoded, "
            "found {found}"
        )
    if any(segment in {".", ".."} for segment in value.split("/")):
        raise refusal("a path cannot hold the segments . and .., found {found}")
    return value


def _or_reference(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, _REFERENCE_SCHEMA], "x-kind": schema["type"]})


def _kind(kind: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "x-kind": kind, **more})


Flag = Annotated[bool, BeforeValidator(boolean), _or_reference({"type": "boolean"})]
Port = Annotated[int, BeforeValidator(integer), _or_reference({"type": "integer", "minimum": 0, "maximum": 65535})]
Count = Annotated[int, BeforeValidator(integer), _or_reference({"type": "integer", "minimum": 1})]
Milliseconds = Annotated[
    int,
    BeforeValidator(_milliseconds),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "exclusiveMinimum": 0, "maximum": MAX_MILLISECONDS}, _REFERENCE_SCHEMA],
            "x-kind": "milliseconds",
        },
    ),
]
# Longer than nothing; `Period` may be nothing. Both stay text: `parse_duration` is for the compiler.
Duration = Annotated[str, BeforeValidator(_duration(0.001)), _kind("duration", pattern=PATTERN)]
Period = Annotated[str, BeforeValidator(_duration(0.0)), _kind("duration", pattern=PATTERN)]
Name = Annotated[str, AfterValidator(_name), _kind("name", pattern=r"^[A-Za-z0-9._-]+$")]
Label = Annotated[str, AfterValidator(_label)]
FilePath = Annotated[str, AfterValidator(_file), _kind("file path")]
HttpPath = Annotated[str, AfterValidator(_path)]
