"""The services over the store, on SQLite and on PostgreSQL."""
