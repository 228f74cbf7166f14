"""An SDK client does everything right through the gateway that it does right without it.

Here the suite is the server and judges what arrives: headers and their encoding, `_meta`, the state that is handed
back, schemas, the wait before a stream is resumed. The gateway must pass all of it on as the client wrote it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.compare import compare
from tests.conformance.suite import run_client

pytestmark = [pytest.mark.conformance, pytest.mark.peers, pytest.mark.timeout(240)]

# How many checks there are; a scenario that stops early has fewer.
SCENARIOS = [
    ("2025-11-25", "tools_call", 2),
    ("2025-11-25", "sse-retry", 3),
    ("2025-11-25", "elicitation-sep1034-client-defaults", 5),
    ("2025-11-25", "json-schema-2020-12-preservation", 9),
    ("2026-07-28", "tools_call", 2),
    ("2026-07-28", "request-metadata", 8),
    ("2026-07-28", "http-standard-headers", 9),
    ("2026-07-28", "http-custom-headers", 18),
    ("2026-07-28", "http-invalid-tool-headers", 12),
    ("2026-07-28", "sep-2322-client-request-state", 5),
    ("2026-07-28", "json-schema-ref-no-deref", 1),
    ("2026-07-28", "json-schema-2020-12-preservation", 9),
]


@pytest.mark.requirement("PM-02")
@pytest.mark.parametrize(("revision", "scenario", "number"), SCENARIOS)
def test_the_server_sees_the_same_client(revision: str, scenario: str, number: int, tmp_path: Path) -> None:
    """Directly every check passes, and through the gateway each ends the same."""
    with ThreadPoolExecutor() as both:
        ends = [both.submit(run_client, scenario, revision, tmp_path / str(way), through=way) for way in (False, True)]
        direct, through = (end.result() for end in ends)
    assert direct.total == (number, number), direct.output
    assert direct.exit_code == 0, direct.output
    assert not compare(direct.checks, through.checks), through.output
    assert through.exit_code == 0, through.output
