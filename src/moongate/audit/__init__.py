"""What happened, written so that it can be found again.

The data plane's half knows no database. `record`: what is recorded of an exchange. `redact`: keeps secrets out of
every text. `journal`: the append-only file, in `segments`. `finding`: records of one request in it. `meanings`: what
each class of failure means.

The platform process's half, over the store. `ingest` moves records from the journal to the database: `batch` prepares
them (pure), `storing` writes them; `rows` and `tables` are their form there, `zones` which values occur where. `chain`
ties each record to the one before, `verify` finds what was tampered with, `retention` lets the old ones go. `query`
finds records by `filters`, `tail` follows them, `export` writes them out, `status` counts. `place` opens all of it for
a data directory.
"""
