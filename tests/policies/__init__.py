"""Policies as tables: what each lets through, and what it refuses."""
