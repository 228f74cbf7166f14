"""The official suite finds through the gateway exactly what it finds without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.compare import compare, judge, read_baseline
from tests.conformance.processes import everything, gateway, instances
from tests.conformance.suite import REQUIRED, REVISIONS, Run, run

pytestmark = [pytest.mark.conformance, pytest.mark.peers, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For results, logs and the gateway's data."""
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of the server under test."""
    with everything(folder) as url:
        yield url


@pytest.fixture(scope="module")
def base(folder: Path, server: str) -> Iterator[str]:
    """The address of a gateway in front of it, over each transport."""
    with everything(folder, "sse") as sse, gateway(folder, instances(server, sse)) as url:
        yield url


@pytest.fixture(scope="module", params=REVISIONS)
def revision(request: pytest.FixtureRequest) -> str:
    """Each revision that the suite has a frozen list of requirements for."""
    return str(request.param)


@pytest.fixture(scope="module")
def direct(server: str, revision: str, folder: Path) -> Run:
    """A run without the gateway."""
    return run(server.replace("127.0.0.1", "localhost"), revision, folder / f"direct-{revision}")


@pytest.fixture(scope="module")
def through(base: str, revision: str, folder: Path) -> Run:
    """A run through the gateway."""
    return run(f"{base}/http", revision, folder / f"http-{revision}")


def test_the_server_under_test_passes_every_required_check(direct: Run) -> None:
    """A gateway held against a weak server would prove nothing."""
    number = REQUIRED[direct.revision]
    assert direct.scored == (number, number), direct.output
    assert direct.exit_code == 0, direct.output


@pytest.mark.requirement("PM-02", "PM-29")
def test_every_required_check_passes_through_the_gateway(through: Run) -> None:
    """A client that only knows the gateway's address gets all that the server offers."""
    number = REQUIRED[through.revision]
    assert through.scored == (number, number), through.output
    assert through.exit_code == 0, through.output


@pytest.mark.requirement("PM-02", "PM-29")
def test_no_check_ends_otherwise_through_the_gateway(direct: Run, through: Run) -> None:
    """Also what a revision does not require must come out the same: not reached or skipped counts as lost."""
    unexpected, stale = judge(compare(direct.checks, through.checks), read_baseline(), "http", direct.revision)
    assert not unexpected, "\n".join(map(str, unexpected))
    assert not stale, f"baseline.yml allows differences that do not exist: {stale}"


@pytest.mark.requirement("PM-01", "AG-13")
@pytest.mark.parametrize("transport", ["stdio", "sse"])
def test_no_check_ends_otherwise_where_the_server_speaks_another_transport(
    direct: Run, base: str, folder: Path, transport: str
) -> None:
    """A server that is hosted over stdio, or that speaks HTTP+SSE, offers the same; what cannot be is in the list."""
    through = run(f"{base}/{transport}", direct.revision, folder / f"{transport}-{direct.revision}")
    passed, all_of_them = through.scored
    assert passed == all_of_them, through.output
    differences = compare(direct.checks, through.checks)
    unexpected, stale = judge(differences, read_baseline(), transport, direct.revision)
    assert not unexpected, "\n".join(map(str, unexpected))
    assert not stale, f"baseline.yml allows differences that do not exist: {stale}"
