"""One gateway for one data directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moongate.control.claim import NAME, claim
from moongate.errors import StartError

HOLD = "import sys; from pathlib import Path; from moongate.control.claim import claim; claim(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"  # noqa: E501 - one line for -c


def test_a_directory_is_kept_until_its_process_ends_however_it_ends(tmp_path: Path) -> None:
    """Another one is told who has it and what to do; after `kill -9` it is free at once."""
    held = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with held:
        assert held.stdout is not None
        assert held.stdout.readline() == b"held\n"
        with pytest.raises(StartError, match=rf"\(process {held.pid}\); give this one .* --data-dir"):
            claim(tmp_path)
        held.kill()
        held.wait(10)

    claim(tmp_path)

    assert (tmp_path / NAME).read_text("ascii") == f"{os.getpid()}\n"
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
