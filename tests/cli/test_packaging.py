"""The systemd unit and the container file: as far as they can be tried without installing them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moongate.cli.lazy import load
from tests.architecture.rules import ROOT

UNIT = ROOT / "packaging" / "moongate.service"
CONTAINER = (ROOT / "packaging" / "Containerfile").read_text("utf-8")
EXPOSURE = 20  # of 100, as systemd-analyze counts
ANALYZE = shutil.which("systemd-analyze")


def service() -> dict[str, list[str]]:
    """The keys of [Service], each with its values."""
    found: dict[str, list[str]] = {}
    section = UNIT.read_text("utf-8").partition("[Service]")[2].partition("[Install]")[0]
    for line in section.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def options(command: str) -> set[str]:
    """The long and short options in a command line."""
    return set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", command))


def known() -> set[str]:
    """What `moongate serve` takes."""
    return {name for parameter in load("serve").params for name in parameter.opts}


def test_the_unit_starts_what_there_is() -> None:
    """The verb and its options exist; reloading is the signal that the gateway knows."""
    [start] = service()["ExecStart"]

    assert re.match(r"/\S+/moongate serve ", start)
    assert options(start) <= known()
    assert service()["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service()["RestartPreventExitStatus"] == ["2"]
    assert configparser.ConfigParser(strict=False, interpolation=None).read(UNIT) == [str(UNIT)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("User", "moongate"),
        ("RestrictSUIDSGID", "yes"),
        ("RemoveIPC", "yes"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectoryMode", "0700"),
        ("UMask", "0077"),
        ("RestrictNamespaces", "yes"),
    ],
)
def test_the_unit_is_hardened(key: str, value: str) -> None:
    """No way to more rights, a read-only system, its own user."""
    assert service()[key] == [value]


def test_the_user_of_the_unit_is_made() -> None:
    """By systemd-sysusers, with the state directory as its home and no shell."""
    lines = (ROOT / "packaging" / "moongate.sysusers").read_text("utf-8").splitlines()

    assert [line for line in lines if not line.startswith("#")] == ['u moongate - "Moongate" /var/lib/moongate']
    assert service()["StateDirectory"] == ["moongate"]


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """No unknown key, no wrong value; the exposure that it computes stays low."""
    unit = tmp_path / "moongate.service"
    program = Path(sys.executable).resolve()
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/moongate/bin/moongate", str(program)), "utf-8")
    judged = [[str(ANALYZE), "verify", str(unit)]]
    judged.append([str(ANALYZE), "security", "--offline=true", f"--threshold={EXPOSURE}", str(unit)])

    for command in judged:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Unknown" not in said
        assert "Failed to parse" not in said


def test_the_container_starts_what_there_is() -> None:
    """Entry point, verb and options exist; what it copies is there and not ignored."""
    [entry] = re.findall(r"^ENTRYPOINT (.+)$", CONTAINER, re.MULTILINE)
    [command] = re.findall(r"^CMD (.+)$", CONTAINER, re.MULTILINE)
    kept = (ROOT / ".containerignore").read_text("utf-8")

    assert entry == '["moongate"]'
    assert command.startswith('["serve"')
    assert set(re.findall(r"--[a-z-]+", command)) <= known()
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINER, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
            assert f"!{name.removeprefix('./')}" in kept


def test_the_container_runs_as_its_own_user() -> None:
    """By number, so that a platform can see that it is not root; its data are a volume, its health is asked for."""
    last = CONTAINER.rpartition("\nFROM ")[2]

    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last, re.MULTILINE)
    assert re.search(r"^VOLUME /var/lib/moongate$", last, re.MULTILINE)
    assert "MOONGATE_DATA_DIR=/var/lib/moongate" in last
    assert "/healthz" in last
    assert not re.search(r"^(ADD|RUN .*(curl|wget))", CONTAINER, re.MULTILINE)
