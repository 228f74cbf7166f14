"""Hypothesis for these tests: the same examples in every run (chance is the fuzzer's part), no limit on single ones."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("moongate", deadline=None, derandomize=True, database=None)
settings.load_profile("moongate")
