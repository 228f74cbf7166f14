"""The audit trail: records, the chain that makes tampering evident, and what finds records again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TERM = sa.String(length=256).with_variant(sa.String(length=256, collation="C"), "postgresql")
# SQLite takes only a column of exactly this type as the row's own number.
_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXTS = ("source", "instance", "http_method", "path", "principal", "token", "token_fingerprint", "token_header")
_MORE_TEXTS = ("failure", "detail", "phase", "shadow", "more")


def upgrade() -> None:
    """Makes the tables."""
    _journals()
    _sections()
    _records()
    _finding()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _journals() -> None:
    op.create_table(
        "audit_journals",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        _number("segment"),
        _number("place"),
        _number("records"),
        sa.Column("sections", sa.Integer(), nullable=False),
        _number("damaged"),
        _number("lost"),
        _number("missing_segments"),
        _bytes("seal"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_journals")),
        sa.UniqueConstraint("id", name=op.f("uq_audit_journals_id")),
    )


def _sections() -> None:
    op.create_table(
        "audit_sections",
        sa.Column("journal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        _number("first"),
        _number("last"),
        _number("size"),
        _bytes("start"),
        _bytes("head"),
        _bytes("seal"),
        _number("removed"),
        _bytes("removed_head"),
        _bytes("removed_seal"),
        sa.PrimaryKeyConstraint("journal", "number", name=op.f("pk_audit_sections")),
    )


def _records() -> None:
    op.create_table(
        "audit_records",
        sa.Column("id", _ROW, autoincrement=False, nullable=False),
        _number("time"),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        *map(_text, _TEXTS),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        *map(_number, ("duration", "first_byte")),
        *map(_text, ("method", "target", "revision", "client")),
        *map(_number, ("bytes_in", "bytes_out")),
        *map(_text, ("arguments_digest", "arguments")),
        _number("code"),
        *map(_text, _MORE_TEXTS),
        _bytes("hash"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_records")),
    )
    op.create_index(op.f("ix_audit_records_request_id"), "audit_records", ["request_id"])


def _finding() -> None:
    op.create_table(
        "audit_zones",
        sa.Column("zone", _ROW, autoincrement=False, nullable=False),
        _number("low"),
        _number("high"),
        sa.PrimaryKeyConstraint("zone", name=op.f("pk_audit_zones")),
    )
    op.create_table(
        "audit_terms",
        sa.Column("term", _TERM, nullable=False),
        sa.Column("zone", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("term", "zone", name=op.f("pk_audit_terms")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_audit_terms_zone"), "audit_terms", ["zone"])
