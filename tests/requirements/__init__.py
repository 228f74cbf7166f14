"""The acceptance lines (`ids.toml`), and the link between them and the tests that prove them.

A test says `@pytest.mark.requirement("PM-02")`. `scan.py` reads these marks from the source, so that a partial run
tells the same story as a full one; `test_requirements.py` fails on an unknown id and on a promised line without a test;
`python -m tests.requirements` (`make requirements`) prints where we stand.
"""
