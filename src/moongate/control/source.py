"""What is to be served, and how it is read: at the start, and again whenever it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import load
from moongate.control.line import Line, read_line
from moongate.control.programs import judge_programs
from moongate.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """Files, or the `line` that names one server (then there are no files), and what the command line says beside
    them.
    """

    paths: tuple[Path, ...]
    options: CompileOptions
    environ: Mapping[str, str]
    line: Line | None = None

    def read(self) -> Snapshot:
        """With warnings about programs that are not there. Raises ConfigError."""
        if self.line is not None:
            snapshot, documents = read_line(self.line, self.environ, self.options)
        else:
            documents = load(self.paths, self.environ)
            snapshot = compile_documents(documents, self.options)
        return judge_programs(snapshot, documents, self.environ)
