"""What tests of verbs share: one call with its output, and what a gateway process has said."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from typer.testing import CliRunner

from moongate.cli.main import app

START_SECONDS = 30.0
PLAIN = {"COLUMNS": "400", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Said:
    """How a call ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        """What `--json` printed."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        """Everything."""
        return self.out + self.err


class Line:
    """The command line on one data directory; `words` go with every call."""

    def __init__(self, data_dir: Path, *words: str) -> None:
        self.data_dir = data_dir
        self.words = words

    def __call__(self, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> Said:
        """One call in this process."""
        environment = {**PLAIN, "MOONGATE_DATA_DIR": str(self.data_dir), **(env or {})}
        at = words.index("--") if "--" in words else len(words)
        arguments = [*words[:at], *self.words, *words[at:]]
        result = CliRunner().invoke(app, arguments, input=stdin, env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    def json(self, *words: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        """What a call that succeeds prints for scripts."""
        at = words.index("--") if "--" in words else len(words)
        said = self(*words[:at], "--json", *words[at:], **more)
        assert said.code == 0, said.all
        return said.json


@dataclass
class Serving:
    """A gateway process. `console` is the admin address."""

    process: subprocess.Popen[str]
    port: int
    console: str
    folder: Path

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "errors.log").read_text("utf-8")


@contextmanager
def serving(folder: Path, text: str) -> Iterator[Serving]:
    """A gateway of one file on free ports, with its console; it has said where both are."""
    file = folder / "moongate.yaml"
    file.write_text(text, "utf-8")
    command = [sys.executable, "-m", "moongate", "serve", "-f", str(file), "--port", "0"]
    command += ["--data-dir", str(folder / "data")]
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with (
        (folder / "errors.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=own, cwd=folder) as process,
    ):
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_collect, args=(process.stdout, lines))
        reader.start()
        try:
            port = int(_awaited(lines, r"Listening on http://127\.0\.0\.1:(\d+)"))
            yield Serving(process, port, _awaited(lines, r"Console on (http://\S+)"), folder)
        finally:
            process.terminate()
            process.wait(START_SECONDS)
            reader.join()


def _collect(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)


def _awaited(lines: queue.Queue[str], pattern: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = re.search(pattern, lines.get(timeout=max(0.0, deadline - time.monotonic())))
        if found is not None:
            return found[1]
