"""What the database holds of records. Queries here are the driver's own SQL: these are the hot tables.

A record's `id` is the number of its journal (upper bits) and its place in that journal's chain (lower `PLACE_BITS`):
so one primary key serves order, chain and retention. `ZONE` records that follow each other are a zone; `audit_zones`
says which time a zone spans, `audit_terms` which values occur in it. A query finds its zones there and reads nothing
else: no filter needs an index of its own. Times and durations are whole microseconds.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table, Text

PLACE_BITS = 40
ZONE_BITS = 9
ZONE = 1 << ZONE_BITS

# Compared byte by byte in every database, so that a range is a prefix.
TERM = String(256).with_variant(String(256, collation="C"), "postgresql")

# SQLite takes only a column of exactly this type as the row's own number.
ROW = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

# One row for each journal that was ever read: how far, and what was found wrong. `seal`: see `chain`.
audit_journals = Table(
    "audit_journals",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("segment", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("sections", Integer, nullable=False),
    Column("damaged", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("missing_segments", BigInteger, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

# The parts of a journal's chain, one for each day. Their rows stay when their records have gone.
audit_sections = Table(
    "audit_sections",
    metadata,
    Column("journal", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("day", String(10), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("start", LargeBinary, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("seal", LargeBinary, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("removed_head", LargeBinary, nullable=False),
    Column("removed_seal", LargeBinary, nullable=False),
)

audit_records = Table(
    "audit_records",
    metadata,
    Column("id", ROW, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("request_id", String(64), nullable=False, index=True),
    Column("trace_id", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("instance", Text, nullable=False),
    Column("http_method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("token_fingerprint", Text, nullable=False),
    Column("token_header", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("duration", BigInteger, nullable=False),
    Column("first_byte", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("arguments_digest", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("code", BigInteger, nullable=False),
    Column("failure", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("shadow", Text, nullable=False),
    Column("more", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

audit_zones = Table(
    "audit_zones",
    metadata,
    Column("zone", ROW, primary_key=True, autoincrement=False),
    Column("low", BigInteger, nullable=False),
    Column("high", BigInteger, nullable=False),
)

audit_terms = Table(
    "audit_terms",
    metadata,
    Column("term", TERM, primary_key=True),
    Column("zone", BigInteger, primary_key=True, autoincrement=False),
    Index("ix_audit_terms_zone", "zone"),
    sqlite_with_rowid=False,
)
