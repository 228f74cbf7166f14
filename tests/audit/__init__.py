"""The journal: what is recorded, when, and what survives."""
