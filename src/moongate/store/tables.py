"""What is in the database. SQLAlchemy Core; no objects that load themselves.

Times are Unix seconds. Whatever may hold a secret is a sealed blob (`..._sealed`) or a SHA-256 (`sha256`, in hex),
never text. Each row that people edit has a `revision`: a stale update is a conflict. Migrations make these tables; what
stands here is for queries.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

NAME = 128
# Who did something: an account, or an API key's name and id.
WHO = 256
# SQLite counts rows by itself only in a column of exactly this type.
ROW_ID = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(NAME), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

instances = Table(
    "instances",
    metadata,
    Column("name", String(NAME), primary_key=True),
    Column("access_mode", String(16), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("notes", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("icon", Text, nullable=False),
    Column("config_sealed", LargeBinary, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("name", String(NAME), primary_key=True),
    Column("notes", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)

user_groups = Table(
    "user_groups",
    metadata,
    Column("user_name", String(NAME), ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
    Column("group_name", String(NAME), primary_key=True, index=True),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(NAME), primary_key=True),
    Column("user_name", String(NAME), ForeignKey("users.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(NAME), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("tags", JSON, nullable=False),
    Column("instances", JSON(none_as_null=True), nullable=True),
    Column("expires", Double, nullable=True),
    Column("enabled", Boolean, nullable=False),
    Column("last_used", Double, nullable=True),
    Column("revision", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("name", String(NAME), primary_key=True),
    Column("value_sealed", LargeBinary, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("updated", Double, nullable=False),
)

operators = Table(
    "operators",
    metadata,
    Column("name", String(NAME), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("last_sign_in", Double, nullable=True),
    Column("revision", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(NAME), primary_key=True),
    Column("name", String(NAME), nullable=False),
    Column("role", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("expires", Double, nullable=True),
    Column("enabled", Boolean, nullable=False),
    Column("made_by", String(WHO), nullable=False),
    Column("last_used", Double, nullable=True),
    Column("revision", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)

# Who is signed in. `operator_name` is NULL for whoever came with a one-time code and has no account.
sign_ins = Table(
    "sign_ins",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column(
        "operator_name",
        String(NAME),
        ForeignKey("operators.name", ondelete="CASCADE", onupdate="CASCADE"),
        nullable=True,
        index=True,
    ),
    Column("role", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False, index=True),
    Column("last_used", Double, nullable=False),
)

codes = Table(
    "codes",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
)

# What each row was after each change: the whole of it, sealed.
revisions = Table(
    "revisions",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("kind", String(32), nullable=False),
    Column("name", String(NAME), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("who", String(WHO), nullable=False),
    Column("at", Double, nullable=False),
    Column("state_sealed", LargeBinary, nullable=False),
    Index(None, "kind", "name"),
    sqlite_autoincrement=True,
)
