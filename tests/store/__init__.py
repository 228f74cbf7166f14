"""The store: one set of tests, on SQLite and on PostgreSQL."""
