"""What goes into the services and what comes out, in the form of the REST API: camelCase keys, times as RFC 3339.

Input is strict: an unknown key is an error. No output holds a secret, except those that are made to be shown once
(`TokenMade`, `ApiKeyMade`).
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from moongate.control.schema.gateway import Expiry, parse_expiry
from moongate.control.schema.platform import MAX_KEEP_BYTES
from moongate.control.schema.values import Duration, Label, Name, Strict, bounded, refusal

T = TypeVar("T")

Role = Literal["admin", "operator", "auditor"]
AccessMode = Literal["proxy", "hosted"]
MAX_NOTES = 10_000
MAX_ICON = 20_000
MAX_ITEMS = 1000
MIN_PASSWORD, MAX_PASSWORD = 12, 1024
_TEXT = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]*\Z")
_ICON = re.compile(
    r"https://\S+\Z|data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]+\Z|[^\s:<>\"'&\x00-\x1f\ud800-\udfff]{1,32}\Z"
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something on the platform, and may do what."""

    name: str
    role: Role


LOCAL = Actor("local", "admin")
# Who came with a one-time code and has no account yet.
UNNAMED = "one-time code"
# In the history these are not accounts; neither is what has the form `name (key_...)`.
RESERVED = (LOCAL.name, UNNAMED)


def moment(seconds: float) -> str:
    """Unix time as RFC 3339, in UTC and milliseconds."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_or_none(seconds: float | None) -> str | None:
    """The same for what may not have happened."""
    return None if seconds is None else moment(seconds)


def seconds_of(expires: str | None) -> float | None:
    """Unix time of an expiry as people write it."""
    return None if expires is None else parse_expiry(expires)


def _notes(value: str) -> str:
    if len(value) > MAX_NOTES or not _TEXT.match(value):
        raise refusal(f"must be text of at most {MAX_NOTES} characters without control characters")
    return value


def _icon(value: str) -> str:
    if value and (len(value) > MAX_ICON or not _ICON.match(value)):
        raise refusal(
            f"must be an https address, a data:image/...;base64, address of at most {MAX_ICON} characters, or an emoji"
        )
    return value


def _visible(value: str) -> str:
    if not value.isprintable():
        raise refusal("holds a character that cannot be seen; names that look the same must be the same")
    return value


def _distinct(values: list[str]) -> list[str]:
    if len(values) > MAX_ITEMS:
        raise refusal(f"holds more than {MAX_ITEMS} entries")
    return list(dict.fromkeys(values))


def _user(value: str) -> str:
    if "/" in value or set(value) == {"."} or value == "anonymous":
        raise refusal("a name has no slash, is not made of dots, and is not anonymous, which means nobody")
    return value


def _operator(value: str) -> str:
    plain = unicodedata.normalize("NFKC", value).casefold().strip()
    if plain in RESERVED or not set(plain).isdisjoint("()"):
        raise refusal(f"a name has no parentheses, and is not {' or '.join(RESERVED)}: the history calls others so")
    return value


def _wanted(value: str) -> str:
    if not MIN_PASSWORD <= len(value) <= MAX_PASSWORD:
        raise refusal(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if not _TEXT.match(value):
        raise refusal("a password has no control characters, and no half ones (lone surrogates)")
    return value


Word = Annotated[Label, AfterValidator(_visible)]
Notes = Annotated[str, AfterValidator(_notes)]
Icon = Annotated[str, AfterValidator(_icon)]
Tags = Annotated[list[Word], AfterValidator(_distinct)]
Person = Annotated[Word, AfterValidator(_user)]
OperatorName = Annotated[Person, AfterValidator(_operator)]
Groups = Annotated[list[Person], AfterValidator(_distinct)]
InstanceNames = Annotated[list[Name], AfterValidator(_distinct)]
Password = Annotated[str, AfterValidator(_wanted)]


class Output(BaseModel):
    """What comes out; made by field names, written by aliases."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True
    )


class Page(Output, Generic[T]):
    """One page of a list. `next` is the cursor of the following one; None at the end."""

    items: Sequence[T]
    next: str | None = None


class Addresses(Output):
    """Where clients find an instance."""

    base: str
    streamable_http: str
    sse: str


class Instance(Output):
    """One MCP server, its secrets masked. `source` is `file` for one that is written in a file: read-only.

    `where` is that file and line; of the store's, why its configuration cannot be opened, usually empty.
    """

    name: str
    access_mode: AccessMode
    enabled: bool
    notes: str
    tags: list[str]
    icon: str
    config: dict[str, Any]
    source: Literal["store", "file"]
    where: str
    addresses: Addresses
    revision: int | None
    created: str | None
    updated: str | None


class InstancePut(Strict):
    """All of an instance but its name. A mask in `config` keeps the secret that it stands for."""

    access_mode: AccessMode = Field("proxy", description="`proxy`: reached at a `url`. `hosted`: run by the gateway.")
    enabled: bool = True
    notes: Notes = ""
    tags: Tags = Field(default_factory=list)
    icon: Icon = ""
    config: dict[str, Any] = Field(description="An entry of `mcpServers`.")


class InstanceNew(InstancePut):
    """A new instance."""

    name: Name


class InstancePatch(Strict):
    """What is to change. `config` is replaced as a whole."""

    access_mode: AccessMode | None = None
    enabled: bool | None = None
    notes: Notes | None = None
    tags: Tags | None = None
    icon: Icon | None = None
    config: dict[str, Any] | None = None


class User(Output):
    """Who calls."""

    name: str
    notes: str
    groups: list[str]
    enabled: bool
    revision: int
    created: str
    updated: str


class UserPut(Strict):
    """All of a user but the name."""

    notes: Notes = ""
    groups: Groups = Field(default_factory=list)
    enabled: bool = True


class UserNew(UserPut):
    """A new user."""

    name: Person


class UserPatch(Strict):
    """What is to change."""

    notes: Notes | None = None
    groups: Groups | None = None
    enabled: bool | None = None


class Group(Output):
    """Users that access rules speak of together. It exists as long as it has members."""

    name: str
    users: list[str]


class Token(Output):
    """A client token without its value. `instances` None: good for all. `expired` as of now."""

    id: str
    user: str
    name: str
    tags: list[str]
    instances: list[str] | None
    expires: str | None
    expired: bool
    enabled: bool
    created: str
    updated: str
    last_used: str | None
    fingerprint: str
    revision: int


class TokenNew(Strict):
    """A new token."""

    user: Person
    name: Word = "token"
    tags: Tags = Field(default_factory=list)
    instances: InstanceNames | None = Field(None, description="Without it: all.")
    expires: Expiry | None = Field(None, description="A date or an RFC 3339 moment. Without it: never.")
    enabled: bool = True


class TokenPatch(Strict):
    """What is to change. `instances: null` means all, `expires: null` never."""

    name: Word | None = None
    tags: Tags | None = None
    instances: InstanceNames | None = None
    expires: Expiry | None = None
    enabled: bool | None = None


class TokenMade(Output):
    """A token with its value, which nobody can see again."""

    token: Token
    value: str = Field(repr=False)


class Access(Output):
    """The gateway-wide access rules; None: there are none."""

    access: dict[str, Any] | None
    revision: int
    updated: str | None


class AccessPut(Strict):
    """The gateway-wide access rules, as under `gateway.access` in a file."""

    access: dict[str, Any] | None


class Operator(Output):
    """Who may sign in on the admin port."""

    name: str
    role: Role
    enabled: bool
    created: str
    updated: str
    last_sign_in: str | None
    revision: int


class OperatorNew(Strict):
    """A new operator account."""

    name: OperatorName
    role: Role
    password: Password = Field(repr=False)
    enabled: bool = True


class OperatorPatch(Strict):
    """What is to change."""

    role: Role | None = None
    password: Password | None = Field(None, repr=False)
    enabled: bool | None = None


class ApiKey(Output):
    """A key for programs that use the API, without its value."""

    id: str
    name: str
    role: Role
    expires: str | None
    expired: bool
    enabled: bool
    made_by: str
    created: str
    updated: str
    last_used: str | None
    fingerprint: str
    revision: int


class ApiKeyNew(Strict):
    """A new API key."""

    name: Word
    role: Role
    expires: Expiry | None = None


class ApiKeyPatch(Strict):
    """What is to change. `expires: null` means never."""

    name: Word | None = None
    expires: Expiry | None = None
    enabled: bool | None = None


class ApiKeyMade(Output):
    """An API key with its value, which nobody can see again."""

    api_key: ApiKey
    value: str = Field(repr=False)


class SettingsPut(Strict):
    """What holds for the platform, beside what the files say."""

    audit_keep: Duration | None = Field(None, description="How long records are kept. Without it: `audit.keep`.")
    audit_keep_bytes: Annotated[int, bounded(1024 * 1024, MAX_KEEP_BYTES)] | None = Field(
        None, description="How much records may occupy. Without it: `audit.keepBytes`."
    )
    sign_in_hours: Annotated[int, bounded(1, 24 * 30)] = Field(12, description="How long a sign-in lasts.")


class Settings(Output):
    """The same, as it is now."""

    audit_keep: str | None
    audit_keep_bytes: int | None
    sign_in_hours: int
    revision: int
    updated: str | None


class Exported(Output):
    """A configuration as a file has it; `variables` are those that it wants from the environment."""

    document: dict[str, Any]
    variables: list[str]


class Revision(Output):
    """One change: who, when, what; `state` is the thing as it was after it (before it, if it was deleted), masked."""

    id: int
    kind: str
    name: str
    revision: int
    action: str
    who: str
    at: str
    state: dict[str, Any]
